"""Hessians of the group losses, never formed: products with vectors, and their largest eigenvalue."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxprune.losses import cross_entropy
from jaxprune.theory.chunks import Chunks, by_group
from jaxprune.theory.gradients import chunk_loss
from jaxprune.theory.lanczos import Eigenvalue, top_eigenvalue
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params, as_pytree


def group_hvp(
    apply: Apply, params: Params, chunks: Chunks, vectors: Array, *, loss: ExampleLoss = cross_entropy
) -> Array:
    """H_a v_a for every group a, with a vector of its own for each, in one pass over the examples.

    Forward over reverse differentiation. Each chunk holds examples of one group and multiplies that group's vector.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters, P numbers.
      chunks: The examples, made by `by_group`.
      vectors: [G, P], in the order of `jax.flatten_util.ravel_pytree`.
      loss: Per-example loss.

    Returns:
      [G, P] products with H_a = ∇²_θ J(θ; D_a); 0 for a group without examples.
    """
    unravel, vectors = ravel_pytree(params)[1], jnp.asarray(vectors)

    def add(sums: Array, chunk: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        x, y, weight, group = chunk
        gradient = jax.grad(partial(chunk_loss, apply, loss))
        product = jax.jvp(lambda p: gradient(p, x, y, weight), (params,), (unravel(vectors[group]),))[1]
        return sums.at[group].add(ravel_pytree(product)[0]), None

    with jax.default_matmul_precision("highest"):
        sums, _ = jax.lax.scan(add, jnp.zeros_like(vectors), (chunks.x, chunks.y, chunks.weight, chunks.group))
    return sums / jnp.where(chunks.size > 0, chunks.size, 1)[:, None].astype(vectors.dtype)


def group_top_eigenvalues(
    apply: Apply,
    params: Params,
    batch: Batch | Chunks,
    *,
    num_groups: int,
    key: jax.Array,
    tolerance: float = 1e-3,
    max_iterations: int = 50,
    loss: ExampleLoss = cross_entropy,
) -> Eigenvalue:
    """λ(H_a), the largest algebraic eigenvalue of each group's Hessian, as Theorem 1 of Tran et al. 2022 wants it.

    All groups advance together in one compiled program.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples, or chunks of them made by `by_group` (for use under vmap).
      num_groups: G.
      key: Decides the starting vectors.
      tolerance: Of the residual, relative to the value.
      max_iterations: The largest number of Hessian-vector products for each group.
      loss: Per-example loss.

    Returns:
      Value, residual, converged and matvecs, each [G].
    """
    chunks = batch if isinstance(batch, Chunks) else by_group(batch, num_groups)
    return _group_top_eigenvalues(
        as_pytree(apply), params, chunks, key,
        num_groups=num_groups, tolerance=tolerance, max_iterations=max_iterations, loss=loss,
    )  # fmt: skip


@partial(jax.jit, static_argnames=("num_groups", "max_iterations", "loss"))
def _group_top_eigenvalues(
    apply: Apply,
    params: Params,
    chunks: Chunks,
    key: jax.Array,
    *,
    num_groups: int,
    tolerance: float,
    max_iterations: int,
    loss: ExampleLoss,
) -> Eigenvalue:
    flat = ravel_pytree(params)[0]
    start = jax.random.normal(key, (num_groups, flat.size), flat.dtype)
    return top_eigenvalue(
        lambda vectors: group_hvp(apply, params, chunks, vectors, loss=loss),
        start,
        tolerance=tolerance,
        max_iterations=max_iterations,
    )
