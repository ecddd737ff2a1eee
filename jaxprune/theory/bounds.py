"""The bound of Theorem 1, beside what was observed."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxprune.types import Array


class Bound(NamedTuple):
    """Theorem 1 of Tran et al. 2022, eq. (4): R(a) <= ‖g_a‖ ‖Δ‖ + ½ λ(H_a) ‖Δ‖² + O(‖Δ‖³).

    Attributes:
      gradient_term: [G] ‖g_a‖ ‖Δ‖.
      curvature_term: [G] ½ λ(H_a) ‖Δ‖².
      observed: [G] R(a).
    """

    gradient_term: Array
    curvature_term: Array
    observed: Array

    @property
    def value(self) -> Array:
        """The two terms together; the remainder, which the theorem leaves open, is not in it."""
        return self.gradient_term + self.curvature_term

    @property
    def ratio(self) -> Array:
        """Bound over observed: how loose it is; NaN where the group was not hurt (R(a) <= 0)."""
        return jnp.where(self.observed > 0, self.value / jnp.where(self.observed > 0, self.observed, 1), jnp.nan)

    @property
    def holds(self) -> Array:
        """Whether R(a) <= the two terms, which may fail: the remainder is open. False where there are no numbers."""
        return self.observed <= self.value

    @property
    def monotone(self) -> Array:
        """Whether λ(H_a) >= 0, without which the bound need not grow with ‖Δ‖ (Corollary 1 needs it)."""
        return self.curvature_term >= 0


def bound(gradient_norm: Array, eigenvalue: Array, distance: Array, observed: Array) -> Bound:
    """The terms of Theorem 1.

    Args:
      gradient_norm: [G] ‖g_a‖ at the dense network.
      eigenvalue: [G] λ(H_a), the largest algebraic eigenvalue at the dense network.
      distance: [] ‖Δ‖, the Euclidean distance from the dense to the pruned parameters.
      observed: [G] R(a).

    Returns:
      The bound; leading axes of all arguments broadcast.
    """
    return Bound(gradient_norm * distance, 0.5 * eigenvalue * distance**2, observed)
