"""Constraints on groups: a differentiated surrogate and a violation."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp

from jaxprune.losses import excessive_loss
from jaxprune.mitigation.statistics import GroupStatistics
from jaxprune.types import Array

Measure = Callable[[GroupStatistics, Array | float], Array]


@dataclass(frozen=True)
class Constraint:
    """A constraint for every group, equal if its arguments are equal.

    A step is therefore not compiled again.

    Make one of your own from module-level functions:
    `Constraint(num_groups, True, measure, tolerance, violation_measure)`.

    Attributes:
      num_groups: G.
      inequality: `violation <= 0` (multipliers stay at or above 0) rather than `violation = 0`.
      measure: `(statistics, tolerance) -> [G]`; differentiated as the surrogate, and the violation unless
        `violation_measure` is given.
      tolerance: The violation that is allowed.
      violation_measure: `(statistics, tolerance) -> [G]`, where what matters (such as accuracy) has no useful gradient.
      needs_dense: The constraint compares with the dense network.
    """

    num_groups: int
    inequality: bool
    measure: Measure
    tolerance: float = 0.0
    violation_measure: Measure | None = None
    needs_dense: bool = False

    def surrogate(self, statistics: GroupStatistics, tolerance: Array | None = None) -> Array:
        """[G] the differentiated values; 0 for an absent group."""
        return self._of(self.measure, statistics, tolerance)

    def violation(self, statistics: GroupStatistics, tolerance: Array | None = None) -> Array:
        """[G] the values that move the multipliers; 0 for an absent group.

        Args:
          statistics: Of the examples that it is measured on.
          tolerance: In place of the constraint's own: an array, so that several of them train as one program.
        """
        return self._of(self.violation_measure or self.measure, statistics, tolerance)

    def _of(self, measure: Measure, statistics: GroupStatistics, tolerance: Array | None) -> Array:
        values = measure(statistics, self.tolerance if tolerance is None else tolerance)
        return jnp.where(statistics.count > 0, values, 0)


def equal_loss(num_groups: int) -> Constraint:
    """|J_a - J| = 0 for every group a.

    Program (8) of Tran et al. 2022, with J_a = J(θ; D_a).

    The paper writes no Lagrangian; this is the form of its authors' code. Multipliers never fall, and the term is a
    penalty with a growing weight; near its kink the parameters oscillate, which makes the multiplier grow further, and
    with large rates of both that can diverge even on a convex problem. See `equal_loss_signed`.

    Args:
      num_groups: G.

    Returns:
      The constraint, an equality.
    """
    return Constraint(num_groups, False, _absolute_gap)


def equal_loss_signed(num_groups: int) -> Constraint:
    """J_a - J = 0 for every group a: `equal_loss`, signed.

    A multiplier falls again, below 0 too, once its group does better than most.

    Args:
      num_groups: G.

    Returns:
      The constraint, an equality.
    """
    return Constraint(num_groups, False, _loss_gap)


def loss_gap(num_groups: int, *, tolerance: float = 0.0) -> Constraint:
    """J_a - J <= tolerance for every group a.

    No group may do much worse than the whole.

    Args:
      num_groups: G.
      tolerance: The gap that is allowed, in nats.

    Returns:
      The constraint, an inequality.
    """
    return Constraint(num_groups, True, _loss_gap, tolerance)


def equal_excessive_loss(num_groups: int) -> Constraint:
    """R(a) = R for every group a: pruning raises all losses alike.

    This is ξ = 0 (Tran et al., eq. 3).

    Unlike equal loss it asks nothing where the dense network's own losses differ. It needs the dense network's losses
    (see `DenseReference`).

    Args:
      num_groups: G.

    Returns:
      The constraint, an equality, signed.
    """
    return Constraint(num_groups, False, _excessive_loss_gap, needs_dense=True)


def excessive_loss_gap(num_groups: int, *, tolerance: float = 0.0) -> Constraint:
    """R(a) - R <= tolerance for every group a.

    Pruning hurts no group much more than the whole.

    Args:
      num_groups: G.
      tolerance: The gap that is allowed, in nats.

    Returns:
      The constraint, an inequality.
    """
    return Constraint(num_groups, True, _excessive_loss_gap, tolerance, needs_dense=True)


def accuracy_gap(num_groups: int, *, tolerance: float = 0.0) -> Constraint:
    """A - A_a <= tolerance for every group a, on accuracies.

    Accuracy has no gradient, so that the violation is measured on it and the loss gap J_a - J is differentiated
    (a proxy Lagrangian, Cotter et al. 2019).

    Args:
      num_groups: G.
      tolerance: The gap that is allowed, as a share of 1.

    Returns:
      The constraint, an inequality.
    """
    return Constraint(num_groups, True, _loss_gap, tolerance, _accuracy_gap)


def equal_accuracy(num_groups: int) -> Constraint:
    """A_a = A for every group a, on accuracies.

    Surrogate and violation are those of `accuracy_gap`, signed.

    It narrows the accuracy spread from both ends: it also holds back groups that do better.

    Args:
      num_groups: G.

    Returns:
      The constraint, an equality.
    """
    return Constraint(num_groups, False, _loss_gap, 0.0, _accuracy_gap)


def excess_accuracy_gap(num_groups: int, *, tolerance: float = 0.0) -> Constraint:
    """ψ_a <= tolerance for every group a: CEAG.

    ψ_a = (A_a(dense) - A_a) - (A(dense) - A).

    The constraint of Hashemizadeh et al. 2024 ("Balancing Act"): the violation is measured on accuracy, the surrogate
    is (J_a - J_a(dense)) - (J - J(dense)).

    Args:
      num_groups: G.
      tolerance: The gap ε that is allowed, as a share of 1.

    Returns:
      The constraint, an inequality.
    """
    return Constraint(num_groups, True, _excessive_loss_gap, tolerance, _excess_accuracy_gap, needs_dense=True)


def equal_accuracy_drop(num_groups: int) -> Constraint:
    """ψ_a = 0 for every group a.

    As `excess_accuracy_gap`, but it also binds groups that gain.

    Args:
      num_groups: G.

    Returns:
      The constraint, an equality.
    """
    return Constraint(num_groups, False, _excessive_loss_gap, 0.0, _excess_accuracy_gap, needs_dense=True)


def _loss_gap(statistics: GroupStatistics, tolerance: Array | float) -> Array:
    return statistics.loss - statistics.overall_loss - tolerance


def _absolute_gap(statistics: GroupStatistics, tolerance: Array | float) -> Array:
    return jnp.abs(statistics.loss - statistics.overall_loss) - tolerance


def _excessive_loss_gap(statistics: GroupStatistics, tolerance: Array | float) -> Array:
    overall = excessive_loss(statistics.overall_dense_loss, statistics.overall_loss)
    return statistics.excessive_loss - overall - tolerance


def _accuracy_gap(statistics: GroupStatistics, tolerance: Array | float) -> Array:
    return statistics.overall_accuracy - statistics.accuracy - tolerance


def _excess_accuracy_gap(statistics: GroupStatistics, tolerance: Array | float) -> Array:
    return statistics.excess_accuracy_gap - tolerance
