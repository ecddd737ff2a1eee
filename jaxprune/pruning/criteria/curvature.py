"""Criteria from the diagonal of the Gauss-Newton matrix."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.batches import check_batch, check_classification
from jaxprune.examples import chunked
from jaxprune.groups import group_count
from jaxprune.networks import as_pytree
from jaxprune.pruning.criterion import Criterion
from jaxprune.types import Apply, Array, Batch, Params, PyTree, Scores


def curvature() -> Criterion:
    """½ θ² h over all examples (optimal brain damage).

    The control without groups.

    h is the Gauss-Newton diagonal; every example counts by its weight in the batch.
    """
    return Criterion(_score, frozenset({"batch"}))


def worst_group_curvature() -> Criterion:
    """½ θ² max_a h_a: prune a weight if no group needs it.

    The predicted rise of the loss of the group that needs the weight most, so that a small group's need counts as much
    as a large one's. No group is privileged.
    """
    return Criterion(_score_by_worst_group, frozenset({"batch", "groups"}))


def _score(params: Params, *, apply: Apply, batch: Batch, num_groups: int | None = None, **_: Any) -> Scores:
    batch = check_batch(batch, num_groups=num_groups)
    everybody = batch._replace(group=jnp.zeros_like(jnp.asarray(batch.group)))
    return worst_group_scores(params, group_curvature(apply, params, everybody, num_groups=1))


def _score_by_worst_group(params: Params, *, apply: Apply, batch: Batch, num_groups: int, **_: Any) -> Scores:
    return worst_group_scores(params, group_curvature(apply, params, batch, num_groups=num_groups))


def worst_group_scores(params: Params, curvature: PyTree) -> Scores:
    """Scores ½ θ² max_a h_a.

    Args:
      params: The parameters.
      curvature: From `group_curvature`, leaves [G, ...].

    Returns:
      Scores with the structure of `params`.
    """
    return jax.tree.map(lambda p, h: 0.5 * p**2 * jnp.max(h, 0), params, curvature)


def group_curvature(apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int = 16) -> PyTree:
    """The diagonal of every group's Gauss-Newton matrix, exact over the classes.

    E_x Σ_c p_c (∂ log p_c / ∂θ)².

    For softmax and cross-entropy it is the Fisher information, and the Hessian's diagonal where the logits are linear.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters, P numbers.
      batch: [N] examples.
      num_groups: G.
      chunk_size: Examples at a time: chunk_size x P numbers are held.

    Returns:
      The structure of `params`, leaves [G, ...]; 0 for a group without examples.

    Raises:
      UserError: As `auditing.evaluate` does.
    """
    batch = check_classification(apply, params, batch, num_groups=num_groups, size=chunk_size)
    return checked_group_curvature(apply, params, batch, num_groups=num_groups, chunk_size=chunk_size)


def checked_group_curvature(
    apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int = 16
) -> PyTree:
    """`group_curvature` of checked examples."""
    return _group_curvature(as_pytree(apply), params, batch, num_groups=num_groups, chunk_size=chunk_size)


@partial(jax.jit, static_argnames=("num_groups", "chunk_size"))
def _group_curvature(apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int) -> PyTree:
    def add(sums: PyTree, chunk: Batch) -> tuple[PyTree, None]:
        def log_probability(params: Params, x: Array, c: Array) -> Array:
            return jax.nn.log_softmax(apply(params, x[None])[0])[c]

        logits = apply(params, chunk.x)
        probabilities = jax.nn.softmax(logits)
        member = (chunk.group[:, None] == jnp.arange(num_groups)) * chunk.weight[:, None]  # [B, G]

        def of_class(sums: PyTree, c: Array) -> tuple[PyTree, None]:
            slopes = jax.vmap(jax.grad(log_probability), (None, 0, None))(params, chunk.x, c)
            weight = member * probabilities[:, c, None]
            return jax.tree.map(lambda s, g: s + jnp.tensordot(weight, g**2, ((0,), (0,))), sums, slopes), None

        return jax.lax.scan(of_class, sums, jnp.arange(logits.shape[-1]))[0], None

    zeros = jax.tree.map(lambda p: jnp.zeros((num_groups, *p.shape), p.dtype), params)
    sums = jax.lax.scan(add, zeros, chunked(batch, chunk_size))[0]
    count = group_count(jnp.asarray(batch.group), num_groups, jnp.asarray(batch.weight))
    safe = jnp.where(count > 0, count, 1)
    return jax.tree.map(lambda s: s / safe.reshape(-1, *[1] * (s.ndim - 1)), sums)
