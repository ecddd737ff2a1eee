"""SNIP (Lee et al. 2019)."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.pruning.criterion import Criterion
from jaxprune.types import Params, Scores


def snip() -> Criterion:
    """|w g| / Σ |w g|, the sensitivity of the loss to each connection.

    g is the gradient of the mean loss (Lee et al. 2019, eq. 6: the derivative of the loss by a mask c on w is w g), and
    the sum is over all parameters. The order is that of `taylor`; the scores are shares, so that they add up to 1. Made
    for networks that are not trained yet. Costs 1 gradient.
    """
    return Criterion(_score, frozenset({"gradients"}))


def _score(params: Params, *, grads: Params, **_: Any) -> Scores:
    sensitivity = jax.tree.map(lambda p, g: jnp.abs(p * g), params, grads)
    leaves = jax.tree.leaves(sensitivity)
    # By the largest first: the sum of what is tiny or huge would leave the range of floats.
    largest = jnp.max(jnp.stack([jnp.max(leaf, initial=0) for leaf in leaves]))
    safe = jnp.where(largest > 0, largest, 1)
    total = sum((jnp.sum(leaf / safe) for leaf in leaves), start=jnp.zeros_like(safe))
    return jax.tree.map(lambda s: (s / safe) / jnp.where(total > 0, total, 1), sensitivity)
