"""Exact derivatives of group losses between dense and pruned network."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.examples import chunk_size_for, chunked
from jaxprune.groups import group_count, group_sum
from jaxprune.losses import cross_entropy, excessive_loss
from jaxprune.networks import as_pytree
from jaxprune.theory.checks import check_examples, check_labels
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params


class Taylor(NamedTuple):
    """The Taylor terms of R(a) at the dense network, each [G], in nats.

    NaN for a group without examples.

    Attributes:
      first_order: g_aᵀΔ.
      second_order: ½ ΔᵀH_aΔ.
      observed: R(a) = J(θ + Δ; D_a) - J(θ; D_a).
    """

    first_order: Array
    second_order: Array
    observed: Array

    @property
    def predicted(self) -> Array:
        """g_aᵀΔ + ½ ΔᵀH_aΔ, the second-order value."""
        return self.first_order + self.second_order

    @property
    def remainder(self) -> Array:
        """The contribution of orders above the second: observed - predicted."""
        return self.observed - self.predicted


def taylor(
    apply: Apply,
    dense: Params,
    pruned: Params,
    batch: Batch,
    *,
    num_groups: int,
    loss: ExampleLoss = cross_entropy,
    chunk_size: int | None = None,
) -> Taylor:
    """Compute the Taylor terms of each group's excessive loss R(a) (eq. 2).

    With Δ = pruned - dense, R(a) = g_aᵀΔ + ½ ΔᵀH_aΔ + O(‖Δ‖³), from which the proof of Theorem 1 begins (Tran et al.
    2022, eq. 4 and 9).
    They are the derivatives of t -> J(θ + tΔ; D_a) at 0, taken forward over forward: one pass over the examples gives
    both terms of all groups, and no Hessian-vector product is formed.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      dense: θ.
      pruned: θ̄, of the same structure, pruned weights being 0.
      batch: [N] examples.
      num_groups: G.
      loss: Per-example loss.
      chunk_size: Examples evaluated at a time, which bounds the memory; None for as many as a byte budget allows.

    Returns:
      The terms.

    Raises:
      UserError: There are no examples, or a group is out of range.
    """
    batch = check_examples(batch, num_groups=num_groups)
    check_labels(apply, dense, batch.x, batch.y, batch.weight)
    size = chunk_size_for(batch.x, chunk_size)
    return _taylor(as_pytree(apply), dense, pruned, batch, num_groups=num_groups, loss=loss, chunk_size=size)


@partial(jax.jit, static_argnames=("num_groups", "loss", "chunk_size"))
def _taylor(
    apply: Apply, dense: Params, pruned: Params, batch: Batch, *, num_groups: int, loss: ExampleLoss, chunk_size: int
) -> Taylor:
    delta = jax.tree.map(jnp.subtract, pruned, dense)
    dtype = jnp.result_type(*jax.tree.leaves(dense))

    def add(sums: Array, chunk: Batch) -> tuple[Array, None]:
        def along(t: Array) -> Array:
            params = jax.tree.map(lambda p, d: p + t * d, dense, delta)
            return group_sum(loss(apply(params, chunk.x), chunk.y), chunk.group, num_groups, chunk.weight)

        one, zero = jnp.ones((), dtype), jnp.zeros((), dtype)
        at_dense, first = jax.jvp(along, (zero,), (one,))
        second = jax.jvp(lambda t: jax.jvp(along, (t,), (one,))[1], (zero,), (one,))[1]
        count = group_count(chunk.group, num_groups, chunk.weight)
        terms = [count, first, second / 2, excessive_loss(at_dense, along(one))]
        return sums + jnp.stack(terms, axis=-1).astype(sums.dtype), None

    with jax.default_matmul_precision("highest"):
        width = jnp.promote_types(dtype, batch.weight.dtype)
        sums, _ = jax.lax.scan(add, jnp.zeros((num_groups, 4), width), chunked(batch, chunk_size))
    size, *terms = jnp.moveaxis(sums, -1, 0)
    safe = jnp.where(size > 0, size, jnp.nan)
    return Taylor(*(term / safe for term in terms))
