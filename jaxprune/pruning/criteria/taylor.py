"""First-order Taylor criteria."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.losses import cross_entropy
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.gradients import group_gradients
from jaxprune.types import Apply, Batch, ExampleLoss, Params, Scores


def taylor() -> Criterion:
    """|w g|, the first-order change of the loss when w is removed.

    g is the gradient of the mean loss (Molchanov et al. 2019, eq. 5, without the square, which changes no rank).
    Costs 1 gradient.
    """
    return Criterion(_score, frozenset({"gradients"}))


def worst_group_taylor() -> Criterion:
    """max_a |w g_a|: prune a weight if no group needs it.

    g_a is the gradient of the mean loss of group a. A small group's need counts as much as a large one's.
    Costs 1 gradient: those of all groups are computed in one pass over the examples.
    """
    return Criterion(_score_by_worst_group, frozenset({"batch", "groups"}))


def _score(params: Params, *, grads: Params, **_: Any) -> Scores:
    return jax.tree.map(lambda p, g: jnp.abs(p * g), params, grads)


def _score_by_worst_group(
    params: Params, *, apply: Apply, batch: Batch, num_groups: int, loss: ExampleLoss = cross_entropy, **_: Any
) -> Scores:
    grads = group_gradients(apply, params, batch, num_groups=num_groups, loss=loss)
    return jax.tree.map(lambda p, g: jnp.abs(p) * jnp.max(jnp.abs(g), 0), params, grads)
