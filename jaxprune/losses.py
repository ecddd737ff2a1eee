"""Per-example losses, and their weighted means."""

import jax.numpy as jnp
import optax

from jaxprune.types import Array


def cross_entropy(logits: Array, y: Array) -> Array:
    """Cross-entropy of the softmax of the logits, in nats.

    Args:
      logits: [B, C].
      y: [B] int in [0, C).

    Returns:
      [B] losses.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, y)


def weighted_mean(values: Array, weight: Array) -> Array:
    """The mean of `values` [B] with weights [B]; values of weight 0 are left out even when they are not finite.

    That holds for the mean, not for its gradient with respect to what made the values: padding must be of real inputs.

    Returns:
      [] mean; 0 when every weight is 0.
    """
    total = jnp.sum(weight)
    kept = jnp.where(weight != 0, values, jnp.zeros_like(values))
    return jnp.sum(kept * weight) / jnp.where(total > 0, total, 1)
