"""FairPrune (Wu et al. 2022)."""

import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.batches import check_classification
from jaxprune.errors import UserError
from jaxprune.examples import chunk_size_for, map_examples
from jaxprune.groups import group_mean
from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.pruning.criteria.curvature import checked_group_curvature
from jaxprune.pruning.criterion import Criterion
from jaxprune.types import Apply, Array, Batch, Params, PyTree, Scores


@cache
def fairprune(*, beta: float = 1 / 3) -> Criterion:
    """FairPrune, between the groups with the largest and the smallest loss.

    The method is made for two groups; with more of them the others do not count.

    Args:
      beta: How much the need of the group with the smallest loss counts against a weight.

    Raises:
      UserError: Beta is NaN or infinite.
    """
    if not math.isfinite(beta):
        raise UserError(f"beta: {beta} is not finite; give 0.33, or 0 to protect the other group alone")
    return Criterion(partial(_score, beta=beta), frozenset({"batch", "groups"}))


def _score(params: Params, *, apply: Apply, batch: Batch, num_groups: int, beta: float, **_: Any) -> Scores:
    size = chunk_size_for(batch.x, None)
    batch = check_classification(apply, params, batch, num_groups=num_groups, size=size)
    losses, count = _group_losses(as_pytree(apply), params, batch, num_groups=num_groups, size=size)
    curvature = checked_group_curvature(apply, params, batch, num_groups=num_groups)
    privileged = jnp.argmin(jnp.where(count > 0, losses, jnp.inf))
    unprivileged = jnp.argmax(jnp.where(count > 0, losses, -jnp.inf))
    return fairprune_scores(params, curvature, privileged, unprivileged, beta=beta)


@partial(jax.jit, static_argnames=("num_groups", "size"))
def _group_losses(apply: Apply, params: Params, batch: Batch, *, num_groups: int, size: int) -> tuple[Array, Array]:
    logits = map_examples(lambda x: apply(params, x), batch.x, size)
    return group_mean(cross_entropy(logits, batch.y), batch.group, num_groups, batch.weight)


def fairprune_scores(
    params: Params, curvature: PyTree, privileged: Array, unprivileged: Array, *, beta: float
) -> Scores:
    """Scores ½ θ² (h_unprivileged - β h_privileged).

    Args:
      params: The parameters.
      curvature: From `group_curvature`, leaves [G, ...].
      privileged: [] int, the group to prune for, such as that with the smallest loss.
      unprivileged: [] int, the group to protect.
      beta: How much the privileged group's own need counts against a weight.

    Returns:
      Scores with the structure of `params`.
    """
    return jax.tree.map(lambda p, h: 0.5 * p**2 * (h[unprivileged] - beta * h[privileged]), params, curvature)
