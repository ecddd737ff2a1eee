"""Theorem 1 of Tran et al. 2022, and Corollary 1."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.theory.bounds import bound
from jaxprune.theory.derivatives.taylor_terms import Taylor
from jaxprune.theory.spectra.lanczos import Eigenvalue
from jaxprune.theory.statements.statement import Assumption, Statement
from jaxprune.types import Array, Masks


class Theorem1(NamedTuple):
    """The statement and the two inequalities that it is made of, each over [..., G].

    Attributes:
      bound: R(a) <= ‖g_a‖ ‖Δ‖ + ½ λ(H_a) ‖Δ‖², the remainder O(‖Δ‖³) left out as in the paper.
      first: g_aᵀΔ <= ‖g_a‖ ‖Δ‖ (Cauchy and Schwarz).
      second: ½ ΔᵀH_aΔ <= ½ λ(H_a) ‖Δ‖² (Rayleigh).
    """

    bound: Statement
    first: Statement
    second: Statement


def theorem1(gradient_norm: Array, eigenvalue: Eigenvalue, distance: Array, taylor: Taylor) -> Theorem1:
    """Theorem 1, eq. (4): R(a) <= ‖g_a‖ ‖Δ‖ + ½ λ(H_a) ‖Δ‖² + O(‖Δ‖³).

    The proof bounds the two terms of the Taylor expansion and leaves the remainder open, so the two terms need not
    cover R(a): they must where the remainder is not positive. The terms give the remainder as it is.

    Args:
      gradient_norm: [G] ‖g_a‖ at the dense network.
      eigenvalue: λ(H_a), the largest algebraic eigenvalue, [G].
      distance: [] ‖Δ‖; leading axes of all arguments broadcast.
      taylor: The exact terms g_aᵀΔ and ½ ΔᵀH_aΔ, and R(a).

    Returns:
      The three statements.
    """
    limit = bound(gradient_norm, eigenvalue.value, distance, taylor.observed)
    converged = Assumption(eigenvalue.converged, "the eigenvalue has converged")
    small = Assumption(
        taylor.remainder <= 0, "the remainder of third order, which the theorem leaves open, does not raise the loss"
    )
    terms = {
        "gradient_term": limit.gradient_term,
        "curvature_term": limit.curvature_term,
        "first_order": taylor.first_order,
        "second_order": taylor.second_order,
        "remainder": taylor.remainder,
    }
    # Lanczos approaches λ from below, by less than its residual.
    rounding = 1e-3
    return Theorem1(
        Statement(taylor.observed, limit.value, "Theorem 1", "<=", terms, (small, converged), rounding),
        Statement(taylor.first_order, limit.gradient_term, "Theorem 1, term of first order"),
        Statement(
            taylor.second_order,
            limit.curvature_term,
            "Theorem 1, term of second order",
            "<=",
            {},
            (converged,),
            rounding,
        ),
    )


def corollary1(bound: Array, eigenvalue: Array, nested: Array) -> Statement:
    """Corollary 1: pruning more makes the bound of Theorem 1 larger, R̃(a, θ̄') <= R̃(a, θ̄) if θ̄ keeps fewer weights.

    Corrected: it needs masks that are nested (what the milder pruning cuts, the stronger cuts too) and λ(H_a) >= 0.
    It speaks of the bound; R(a) itself need not rise.

    Args:
      bound: [S, ..., G] the bound at sparsities that rise.
      eigenvalue: [..., G] λ(H_a).
      nested: [S - 1] or [S - 1, ...] whether each mask is within the one before.

    Returns:
      A statement over [S - 1, ..., G]: the left side is the bound at a sparsity, the right side that at the next one.
    """
    nested = jnp.asarray(nested)
    within = nested.reshape(nested.shape + (1,) * (bound.ndim - nested.ndim))
    assumptions = (
        Assumption(within, "the masks are nested"),
        Assumption(jnp.asarray(eigenvalue) >= 0, "the largest eigenvalue is not negative"),
    )
    return Statement(bound[:-1], bound[1:], "Corollary 1, corrected", "<=", {}, assumptions)


def is_nested(milder: Masks, stronger: Masks) -> bool:
    """Whether every weight that `stronger` keeps is kept by `milder` as well."""
    inside = jax.tree.map(lambda m, s: not np.any(np.asarray(s) & ~np.asarray(m)), milder, stronger)
    return all(jax.tree.leaves(inside))
