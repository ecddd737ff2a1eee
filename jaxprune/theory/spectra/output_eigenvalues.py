"""Extreme eigenvalues of ∇²_θ z, the Hessians of single outputs."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxprune.examples import map_examples
from jaxprune.networks import as_pytree
from jaxprune.states import check_key
from jaxprune.theory.checks import check_examples, check_width
from jaxprune.theory.derivatives.outputs import Outputs, each_logit
from jaxprune.theory.spectra.lanczos import Extremes, extreme_eigenvalues
from jaxprune.types import Apply, Array, Batch, Params


def example_output_eigenvalues(
    apply: Apply,
    params: Params,
    batch: Batch,
    key: jax.Array,
    *,
    outputs: Outputs = each_logit,
    tolerance: float = 1e-3,
    max_iterations: int = 20,
    chunk_size: int = 16,
) -> Extremes:
    """The extreme eigenvalues of ∇²_θ z_k(x), for every output and example.

    λ(∇²_θ f(x)) of Theorem 2 (Tran et al. 2022, eq. 6); both ends, as its corrected form takes the spectral norm.
    All examples of a chunk and all outputs advance together. Memory: chunk_size * K * max_iterations * P numbers.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters, P numbers.
      batch: [N] examples.
      key: Decides the starting vector, common to all.
      outputs: Logits [B, C] -> [B, K]: `each_logit`, `binary_logit` or `binary_probability`.
      tolerance: Of the residual, relative to the larger modulus of the two ends.
      max_iterations: The largest number of products for each.
      chunk_size: Examples at a time.

    Returns:
      Both ends, each with value, residual, converged and matvecs [N, K].

    Raises:
      UserError: There are no examples, a parameter is narrower than float32, or `max_iterations` is below 1.
    """
    batch = check_examples(batch)
    check_key(key)
    check_width(params)
    return _eigenvalues(
        as_pytree(apply), params, batch, key, tolerance,
        outputs=outputs, max_iterations=max_iterations, chunk_size=chunk_size,
    )  # fmt: skip


@partial(jax.jit, static_argnames=("outputs", "max_iterations", "chunk_size"))
def _eigenvalues(
    apply: Apply,
    params: Params,
    batch: Batch,
    key: jax.Array,
    tolerance: float,
    *,
    outputs: Outputs,
    max_iterations: int,
    chunk_size: int,
) -> Extremes:
    flat, unravel = ravel_pytree(params)
    count = _num_outputs(apply, params, batch, outputs)
    start = jax.random.normal(key, flat.shape, flat.dtype)

    def product(x: Array, k: Array, vector: Array) -> Array:
        gradient = jax.grad(lambda v: outputs(apply(unravel(v), x[None]))[0, k])
        return jax.jvp(gradient, (flat,), (vector,))[1]

    def of_chunk(x: Array) -> Extremes:
        def matvec(vectors: Array) -> Array:
            apart = vectors.reshape(len(x), count, -1)
            each = jax.vmap(jax.vmap(product, (None, 0, 0)), (0, None, 0))(x, jnp.arange(count), apart)
            return each.reshape(vectors.shape)

        starts = jnp.broadcast_to(start, (len(x) * count, flat.size))
        extremes = extreme_eigenvalues(matvec, starts, tolerance=tolerance, max_iterations=max_iterations)
        return jax.tree.map(lambda leaf: leaf.reshape(len(x), count), extremes)

    return map_examples(of_chunk, batch.x, chunk_size)


def _num_outputs(apply: Apply, params: Params, batch: Batch, outputs: Outputs) -> int:
    shape = jax.eval_shape(lambda p, x: outputs(apply(p, x)), params, jnp.asarray(batch.x)[:1])
    return shape.shape[1]
