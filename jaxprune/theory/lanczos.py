"""The largest algebraic eigenvalue of several symmetric operators at once, by Lanczos."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.types import Array


class Eigenvalue(NamedTuple):
    """An eigenvalue with its error.

    Attributes:
      value: [G] the largest Ritz value; never above the largest eigenvalue but for rounding.
      residual: [G] ‖Av - θv‖ of its Ritz pair: an eigenvalue lies within this distance of `value`, but for rounding.
      converged: [G] whether residual <= tolerance * |value|.
      matvecs: [G] int32, products that were taken.
    """

    value: Array
    residual: Array
    converged: Array
    matvecs: Array


class _Lanczos(NamedTuple):
    basis: Array  # [G, m + 1, P], orthonormal rows, 0 where not reached
    alpha: Array  # [G, m]
    beta: Array  # [G, m]
    found: Eigenvalue


def top_eigenvalue(
    matvec: Callable[[Array], Array], start: Array, *, tolerance: float = 1e-3, max_iterations: int = 50
) -> Eigenvalue:
    """The largest *algebraic* eigenvalue (not the largest in modulus) of G symmetric operators in lockstep.

    Lanczos with full reorthogonalisation, done twice (twice is enough: Parlett, The Symmetric Eigenvalue Problem,
    §6.9), stopped on the residual β_m |s_m| of the top Ritz pair. Every test is relative, so that any scale of the
    operator gives the same number of steps; an operator that is 0, or has few distinct eigenvalues, ends early with
    residual 0. Memory: G * max_iterations * P.

    Args:
      matvec: [G, P] -> [G, P], applying operator a to row a.
      start: [G, P] starting vectors, not 0.
      tolerance: Of the residual, relative to the value.
      max_iterations: The largest number of products, m; the value is returned with `converged` False beyond it.

    Returns:
      The eigenvalue of each operator with its residual.
    """
    num, size = start.shape
    m = min(max_iterations, size)
    dtype = start.dtype
    initial = _Lanczos(
        basis=jnp.zeros((num, m + 1, size), dtype).at[:, 0].set(start / _norm(start)[:, None]),
        alpha=jnp.zeros((num, m), dtype),
        beta=jnp.zeros((num, m), dtype),
        found=Eigenvalue(
            jnp.zeros(num, dtype), jnp.full(num, jnp.inf, dtype), jnp.zeros(num, bool), jnp.zeros(num, jnp.int32)
        ),
    )

    def unfinished(carry: tuple[Array, _Lanczos]) -> Array:
        step, state = carry
        return (step < m) & ~jnp.all(state.found.converged)

    def advance(carry: tuple[Array, _Lanczos]) -> tuple[Array, _Lanczos]:
        step, state = carry
        return step + 1, _extend(state, step, matvec(state.basis[:, step]), tolerance)

    with jax.default_matmul_precision("highest"):
        _, final = jax.lax.while_loop(unfinished, advance, (jnp.int32(0), initial))
    return final.found


def _extend(state: _Lanczos, step: Array, w: Array, tolerance: float) -> _Lanczos:
    """One step of the recurrence, from w = A q for the newest vector q of each operator."""
    alpha = jnp.sum(state.basis[:, step] * w, 1)
    for _ in range(2):
        w = w - jnp.einsum("gmp,gm->gp", state.basis, jnp.einsum("gmp,gp->gm", state.basis, w))
    beta = _norm(w)
    done = state.found.converged  # a finished operator stays as it is while the others go on
    alphas = state.alpha.at[:, step].set(jnp.where(done, 0, alpha))
    betas = state.beta.at[:, step].set(jnp.where(done, 0, beta))
    scale = jnp.max(jnp.abs(alphas) + jnp.abs(betas), 1)
    exhausted = beta <= 64 * jnp.finfo(w.dtype).eps * scale  # the Krylov space is invariant; <= so that 0 counts
    following = jnp.where((done | exhausted)[:, None], 0, w / jnp.where(beta > 0, beta, 1)[:, None])
    basis = state.basis.at[:, step + 1].set(following)
    value, weight = _top_ritz(alphas, betas, step + 1)
    residual = jnp.where(exhausted, 0, beta * weight)
    converged = exhausted | (residual <= tolerance * jnp.abs(value))
    now = Eigenvalue(value, residual, converged, jnp.full(len(beta), step + 1, jnp.int32))
    found = jax.tree.map(lambda old, new: jnp.where(done, old, new), state.found, now)
    return _Lanczos(basis, alphas, betas, found)


def _norm(vectors: Array) -> Array:
    """Euclidean norms of rows, without the under- or overflow of their squares."""
    largest = jnp.max(jnp.abs(vectors), 1)
    return largest * jnp.linalg.norm(vectors / jnp.where(largest > 0, largest, 1)[:, None], axis=1)


def _top_ritz(alpha: Array, beta: Array, steps: Array) -> tuple[Array, Array]:
    """The top eigenvalue of each leading `steps` x `steps` tridiagonal matrix, and |last entry| of its vector."""
    m = alpha.shape[1]
    reached = jnp.arange(m) < steps
    # Rows not reached are moved below the whole spectrum (Gershgorin), so that they are never the top.
    below = -4 * jnp.max(jnp.abs(alpha) + 2 * jnp.abs(beta), 1, keepdims=True)
    diagonal = jnp.where(reached, alpha, below)
    coupling = jnp.where(jnp.arange(m - 1) < steps - 1, beta[:, : m - 1], 0)
    matrix = (
        jax.vmap(jnp.diag)(diagonal)
        + jax.vmap(lambda c: jnp.diag(c, 1))(coupling)
        + jax.vmap(lambda c: jnp.diag(c, -1))(coupling)
    )
    values, vectors = jnp.linalg.eigh(matrix)
    return values[:, -1], jnp.abs(jnp.take(vectors[:, :, -1], steps - 1, axis=1))
