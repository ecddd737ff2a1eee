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
from jaxprune.pruning.gradients import wide_zeros
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


def group_curvature(
    apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int | None = None
) -> PyTree:
    """The diagonal of every group's Gauss-Newton matrix, exact over the classes.

    E_x Σ_c p_c (∂ log p_c / ∂θ)².

    For softmax and cross-entropy it is the Fisher information, and the Hessian's diagonal where the logits are linear.
    Each example takes one forward pass and C backward passes.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters, P numbers.
      batch: [N] examples.
      num_groups: G.
      chunk_size: Examples at a time: chunk_size x P numbers are held. None for one on a CPU, where its gradients stay
        in the cache, and 16 on other devices.

    Returns:
      The structure of `params`, leaves [G, ...], float32 or wider; 0 for a group without examples.

    Raises:
      UserError: As `auditing.evaluate` does.
    """
    batch = check_classification(apply, params, batch, num_groups=num_groups)
    return checked_group_curvature(apply, params, batch, num_groups=num_groups, chunk_size=chunk_size)


def checked_group_curvature(
    apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int | None = None
) -> PyTree:
    """`group_curvature` of checked examples."""
    size = chunk_size or (1 if jax.default_backend() == "cpu" else 16)
    return _group_curvature(as_pytree(apply), params, batch, num_groups=num_groups, size=size)


@partial(jax.jit, static_argnames=("num_groups", "size"))
def _group_curvature(apply: Apply, params: Params, batch: Batch, *, num_groups: int, size: int) -> PyTree:
    def of_one(x: Array) -> PyTree:
        """Σ_c p_c (∂ log p_c / ∂θ)² of one example; the classes share its forward pass."""
        log_p, backward = jax.vjp(lambda params: jax.nn.log_softmax(apply(params, x[None])[0]), params)

        def add_class(sums: PyTree, of_class: tuple[Array, Array]) -> tuple[PyTree, None]:
            unit, p = of_class
            return jax.tree.map(lambda s, g: s + (p * g**2).astype(s.dtype), sums, backward(unit)[0]), None

        units = jnp.eye(log_p.size, dtype=log_p.dtype)
        return jax.lax.scan(add_class, jax.tree.map(wide_zeros, params), (units, jnp.exp(log_p)))[0]

    def add_example(sums: PyTree, example: Batch) -> tuple[PyTree, None]:
        def add(total: jax.Array, value: Array) -> Array:  # to its own group alone, in place
            weight = example.weight.astype(total.dtype)
            return total.at[example.group].add(jnp.where(weight != 0, weight * value, 0))

        return jax.tree.map(add, sums, of_one(example.x)), None

    def add_chunk(sums: PyTree, chunk: Batch) -> tuple[PyTree, None]:
        member = (chunk.group[:, None] == jnp.arange(num_groups)) * chunk.weight[:, None]  # [B, G]

        def add(total: Array, values: Array) -> Array:
            counts = chunk.weight.reshape(-1, *(1,) * (values.ndim - 1)) != 0
            return total + jnp.tensordot(member.astype(total.dtype), jnp.where(counts, values, 0), ((0,), (0,)))

        return jax.tree.map(add, sums, jax.vmap(of_one)(chunk.x)), None

    zeros = jax.tree.map(lambda p: jnp.broadcast_to(wide_zeros(p), (num_groups, *p.shape)), params)
    with jax.default_matmul_precision("highest"):
        if size == 1:
            sums = jax.lax.scan(add_example, zeros, jax.tree.map(jnp.asarray, batch))[0]
        else:
            sums = jax.lax.scan(add_chunk, zeros, chunked(batch, size))[0]
    count = group_count(jnp.asarray(batch.group), num_groups, jnp.asarray(batch.weight))
    safe = jnp.where(count > 0, count, 1)
    return jax.tree.map(lambda s: s / safe.reshape(-1, *(1,) * (s.ndim - 1)).astype(s.dtype), sums)
