"""How close each group lies to the decision boundary."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.examples import chunk_size_for, chunked
from jaxprune.groups import group_sum
from jaxprune.theory.checks import check_classes, check_examples
from jaxprune.types import Apply, Array, Batch, Params, as_pytree


class Boundary(NamedTuple):
    """Two measures of the distance to the decision boundary, each [G], NaN for a group without examples.

    Attributes:
      margin: Mean of p₁ - p₂, the gap between the two largest probabilities: 0 on the boundary, 1 far from it.
      closeness: Mean of 1 - ‖p‖², which is 2p(1 - p) for two classes: the factor of Theorem 2, large near it.
    """

    margin: Array
    closeness: Array


def boundary_distance(
    apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int | None = None
) -> Boundary:
    """Measures the distance of each group to the decision boundary.

    Tran et al. 2022 do not say how theirs is measured; the mean margin fits their Figs 7, 12 and 13.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      batch: [N] examples.
      num_groups: G.
      chunk_size: Examples evaluated at a time, which bounds the memory; None for as many as a byte budget allows.

    Returns:
      The measures.

    Raises:
      UserError: There are no examples, one is of a group that there is not, or the logits are not [B, C], C >= 2.
    """
    batch = check_examples(batch, num_groups=num_groups)
    check_classes(apply, params, batch)
    size = chunk_size_for(batch.x, chunk_size)
    return _boundary_distance(as_pytree(apply), params, batch, num_groups=num_groups, chunk_size=size)


@partial(jax.jit, static_argnames=("num_groups", "chunk_size"))
def _boundary_distance(apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int) -> Boundary:
    def add(sums: Array, chunk: Batch) -> tuple[Array, None]:
        p = jax.nn.softmax(apply(params, chunk.x))
        top = jax.lax.top_k(p, 2)[0]
        values = jnp.stack([jnp.ones_like(p[:, 0]), top[:, 0] - top[:, 1], 1 - jnp.sum(p**2, -1)], axis=-1)
        return sums + group_sum(values, chunk.group, num_groups, chunk.weight), None

    with jax.default_matmul_precision("highest"):
        sums, _ = jax.lax.scan(add, jnp.zeros((num_groups, 3)), chunked(batch, chunk_size))
    size, margin, closeness = jnp.moveaxis(sums, -1, 0)
    safe = jnp.where(size > 0, size, jnp.nan)
    return Boundary(margin / safe, closeness / safe)
