"""Outputs of a network, and the norms of their Jacobians ∂z/∂θ."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxprune.examples import map_examples
from jaxprune.networks import as_pytree
from jaxprune.theory.checks import check_examples, check_width
from jaxprune.types import Apply, Array, Batch, Params

Outputs = Callable[[Array], Array]  # logits [B, C] -> [B, K]


def each_logit(logits: Array) -> Array:
    """The logits themselves, [B, C]."""
    return logits


def binary_logit(logits: Array) -> Array:
    """The logit z₁ - z₀ of a network with two logits, [B, 1].

    The softmax of the two is the sigmoid of it.
    """
    return logits[:, 1:] - logits[:, :1]


def binary_probability(logits: Array) -> Array:
    """The probability of label 1 for two logits, [B, 1]."""
    return jax.nn.softmax(logits)[:, 1:]


def example_logits(apply: Apply, params: Params, batch: Batch, chunk_size: int = 512) -> Array:
    """The logits of all examples, [N, C], with full matrix products."""
    with jax.default_matmul_precision("highest"):
        return map_examples(lambda x: apply(params, x), batch.x, chunk_size)


def example_jacobian_norms(
    apply: Apply, params: Params, batch: Batch, *, outputs: Outputs = each_logit, chunk_size: int = 16
) -> Array:
    """The spectral norm of every example's Jacobian, ‖∇_θ z(x)‖₂.

    ‖∇_θ f(x)‖ of Proposition 2 and Theorem 2 (Tran et al. 2022, eq. 6), which hold with the logits z for f.
    From the K x K products of its rows. Memory: chunk_size * K * P numbers.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters, P numbers.
      batch: [N] examples.
      outputs: Logits [B, C] -> [B, K].
      chunk_size: Examples at a time.

    Returns:
      [N] norms.

    Raises:
      UserError: There are no examples, or a parameter is narrower than float32.
    """
    batch = check_examples(batch)
    check_width(params)
    return _jacobian_norms(as_pytree(apply), params, batch, outputs=outputs, chunk_size=chunk_size)


@partial(jax.jit, static_argnames=("outputs", "chunk_size"))
def _jacobian_norms(apply: Apply, params: Params, batch: Batch, *, outputs: Outputs, chunk_size: int) -> Array:
    def of_one(x: Array) -> Array:
        values, back = jax.vjp(lambda p: outputs(apply(p, x[None]))[0], params)
        rows = jax.vmap(lambda cotangent: ravel_pytree(back(cotangent)[0])[0])(jnp.eye(len(values), dtype=values.dtype))
        return jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh(rows @ rows.T)[-1], 0))

    with jax.default_matmul_precision("highest"):
        return map_examples(jax.vmap(of_one), batch.x, chunk_size)
