"""Constraints on groups: a surrogate that is differentiated and a violation that moves the multipliers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from jaxprune.types import Array


class GroupStatistics(NamedTuple):
    """What a constraint is made of, measured on one batch.

    Attributes:
      loss: [G] mean loss of each group, 0 for a group that is absent.
      overall_loss: [] mean loss of the batch.
      count: [G] total weight of each group in the batch.
    """

    loss: Array
    overall_loss: Array
    count: Array


@dataclass(frozen=True)
class Constraint:
    """A constraint for every group; equal when made with equal arguments, so that a step is not compiled again.

    Attributes:
      num_groups: G.
      inequality: Whether it is `violation <= 0` (multipliers are kept at or above 0) rather than `violation = 0`.
      measure: `(statistics, tolerance) -> [G]`; differentiated as the surrogate, and taken as the violation.
      tolerance: What is let through.
    """

    num_groups: int
    inequality: bool
    measure: Callable[[GroupStatistics, float], Array]
    tolerance: float = 0.0

    def surrogate(self, statistics: GroupStatistics) -> Array:
        """[G] what is weighted by the multipliers and differentiated; 0 for an absent group."""
        return jnp.where(statistics.count > 0, self.measure(statistics, self.tolerance), 0)

    def violation(self, statistics: GroupStatistics) -> Array:
        """[G] what moves the multipliers; 0 for an absent group."""
        return self.surrogate(statistics)


def equal_loss(num_groups: int, *, absolute: bool = True) -> Constraint:
    """J(θ; D_a) = J(θ; D) for every group a: program (8) of Tran et al. 2022.

    The paper writes no Lagrangian. Absolute is the form of its authors' code, v_a = |J_a - J|: multipliers never
    fall, and the term is a penalty with a growing weight; near its kink the parameters oscillate, which makes the
    multiplier grow further, and with large rates of both that can diverge even on a convex problem. Signed,
    v_a = J_a - J, is the textbook form: a multiplier falls again, below 0 too, once its group does better than most.

    Args:
      num_groups: G.
      absolute: Whether the violation is |J_a - J| rather than J_a - J.

    Returns:
      The constraint.
    """
    return Constraint(num_groups, False, _absolute_gap if absolute else _signed_gap)


def loss_gap(num_groups: int, *, tolerance: float = 0.0) -> Constraint:
    """J(θ; D_a) - J(θ; D) <= tolerance for every group a: no group may do much worse than the whole.

    Args:
      num_groups: G.
      tolerance: The gap that is let through, in nats.

    Returns:
      The constraint, an inequality.
    """
    return Constraint(num_groups, True, _signed_gap, tolerance)


def _signed_gap(statistics: GroupStatistics, tolerance: float) -> Array:
    return statistics.loss - statistics.overall_loss - tolerance


def _absolute_gap(statistics: GroupStatistics, tolerance: float) -> Array:
    return jnp.abs(statistics.loss - statistics.overall_loss) - tolerance


# Name -> constructor (num_groups, tolerance) -> Constraint, as a setting gives them.
CONSTRAINTS: Mapping[str, Callable[[int, float], Constraint]] = {
    "equal_loss": lambda num_groups, tolerance: equal_loss(num_groups),
    "equal_loss_signed": lambda num_groups, tolerance: equal_loss(num_groups, absolute=False),
    "loss_gap": lambda num_groups, tolerance: loss_gap(num_groups, tolerance=tolerance),
}
