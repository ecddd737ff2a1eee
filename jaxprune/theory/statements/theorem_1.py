"""Theorem 1 of Tran et al. 2022, and Corollary 1."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.theory.derivatives.taylor_terms import Taylor
from jaxprune.theory.spectra.lanczos import Eigenvalue
from jaxprune.theory.statements.statement import Assumption, Statement
from jaxprune.types import Array, Masks


class Theorem1(NamedTuple):
    """Theorem 1 and the two inequalities that its proof combines, each over [..., G].

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
    converged = Assumption(holds=eigenvalue.converged, text="the eigenvalue has converged")
    small = Assumption(
        holds=taylor.remainder <= 0,
        text="the remainder of third order, which the theorem leaves open, does not raise the loss",
    )
    statement = bound(gradient_norm, eigenvalue.value, distance, taylor.observed)
    orders = {name: getattr(taylor, name) for name in ("first_order", "second_order", "remainder")}
    rounding = 1e-3  # Lanczos approaches λ from below, by less than its residual
    return Theorem1(
        bound=replace(statement, terms=statement.terms | orders, assumptions=(small, converged), rounding=rounding),
        first=Statement(
            name="Theorem 1, term of first order", left=taylor.first_order, right=statement.terms["gradient_term"]
        ),
        second=Statement(
            name="Theorem 1, term of second order",
            left=taylor.second_order,
            right=statement.terms["curvature_term"],
            assumptions=(converged,),
            rounding=rounding,
        ),
    )


def bound(gradient_norm: Array, eigenvalue: Array, distance: Array, observed: Array) -> Statement:
    """The two terms of Theorem 1 beside R(a), without its assumptions.

    Args:
      gradient_norm: [G] ‖g_a‖ at the dense network.
      eigenvalue: [G] λ(H_a), the largest algebraic eigenvalue at the dense network.
      distance: [] ‖Δ‖, the Euclidean distance from the dense to the pruned parameters.
      observed: [G] R(a); leading axes of all arguments broadcast.

    Returns:
      The statement: `left` is R(a), `right` the sum of the terms "gradient_term" ‖g_a‖ ‖Δ‖ and "curvature_term"
      ½ λ(H_a) ‖Δ‖², which grows with ‖Δ‖ only where λ(H_a) >= 0. The remainder is left out, so it may fail.
    """
    gradient_term, curvature_term = gradient_norm * distance, 0.5 * eigenvalue * distance**2
    return Statement(
        name="Theorem 1",
        left=observed,
        right=gradient_term + curvature_term,
        terms={"gradient_term": gradient_term, "curvature_term": curvature_term},
        rounding=0.0,
    )


def corollary1(bound: Array, eigenvalue: Array, nested: Array) -> Statement:
    """Corollary 1: pruning more makes the bound of Theorem 1 larger.

    R̃(a, θ̄') <= R̃(a, θ̄) if θ̄ keeps fewer weights than θ̄'.

    Corrected: it needs masks that are nested (what the milder pruning cuts, the stronger cuts too) and λ(H_a) >= 0.
    It speaks of the bound; R(a) itself need not rise.

    Args:
      bound: [S, ..., G] the bound at sparsities that rise.
      eigenvalue: [..., G] λ(H_a).
      nested: [S - 1] or [S - 1, ...] bool, True where each mask is within the one before.

    Returns:
      A statement over [S - 1, ..., G]: the left side is the bound at a sparsity, the right side that at the next one.
    """
    nested = jnp.asarray(nested)
    within = nested.reshape(nested.shape + (1,) * (bound.ndim - nested.ndim))
    assumptions = (
        Assumption(holds=within, text="the masks are nested"),
        Assumption(holds=jnp.asarray(eigenvalue) >= 0, text="the largest eigenvalue is not negative"),
    )
    return Statement(name="Corollary 1, corrected", left=bound[:-1], right=bound[1:], assumptions=assumptions)


def is_nested(milder: Masks, stronger: Masks) -> bool:
    """Return True if `milder` keeps every weight that `stronger` keeps."""
    inside = jax.tree.map(lambda m, s: not np.any(np.asarray(s) & ~np.asarray(m)), milder, stronger)
    return all(jax.tree.leaves(inside))
