"""Per-example losses, and their weighted means."""

import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxprune.batches import check_labels
from jaxprune.errors import UserError
from jaxprune.types import Array


def cross_entropy(logits: Array, y: Array) -> Array:
    """Cross-entropy of the softmax of the logits, in nats.

    Args:
      logits: [B, C], or with more axes in front, such as those of pixels.
      y: [B] int in [0, C), of the axes of the logits but the last.

    Returns:
      [B] losses.

    Raises:
      UserError: The shapes do not fit, there is one logit alone, or a label is not whole or, outside of `jax.jit`, out
        of range.
    """
    shape = jnp.shape(logits)
    if not shape or shape[-1] < 2:
        raise UserError(
            f"logits: shape {shape}; the softmax of one logit is always 1, so give two, "
            "jnp.concatenate([jnp.zeros_like(z), z], -1), where z [B, 1] is the logit of class 1"
        )
    if jnp.shape(y) != shape[:-1]:
        raise UserError(f"y: shape {jnp.shape(y)} for logits of shape {shape}; give one class number for each row")
    if not jnp.issubdtype(jnp.result_type(y), jnp.integer):
        raise UserError(
            f"y: {jnp.result_type(y).name} values, not classes; give y.astype(int), or for a regression your own loss"
        )
    if not isinstance(logits, Tracer):
        check_labels(y, shape[-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, y)


def weighted_mean(values: Array, weight: Array) -> Array:
    """Average `values` [B] with weights [B].

    Values of weight 0 are left out even when they are not finite.

    That holds for the mean, not for its gradient with respect to what made the values: padding must be of real inputs.

    Returns:
      [] mean; 0 when every weight is 0.

    Raises:
      UserError: The shapes differ, as where a loss gives several values for each example.
    """
    if jnp.shape(values) != jnp.shape(weight):
        raise UserError(
            f"loss: values of shape {jnp.shape(values)} for weights of shape {jnp.shape(weight)}; give one value for "
            "each example, such as its mean over the other axes"
        )
    total = jnp.sum(weight)
    kept = jnp.where(weight != 0, values, jnp.zeros_like(values))
    return jnp.sum(kept * weight) / jnp.where(total > 0, total, 1)


def excessive_loss(dense: Array, pruned: Array) -> Array:
    """R, a loss's rise by pruning (Tran et al. 2022, eq. 2).

    Args:
      dense: Losses before, of single people, of groups or of everybody.
      pruned: The same after.

    Returns:
      The rises, of the same shape; positive means harm.

    Example:
      >>> from jaxprune import losses
      >>> losses.excessive_loss(0.25, 0.75)
      0.5
    """
    return pruned - dense
