"""Training under constraints on groups: the Lagrangian as an optax transformation, and its rivals."""

from jaxprune.mitigation.constraints import (
    CONSTRAINTS,
    Constraint,
    GroupStatistics,
    accuracy_gap,
    equal_accuracy_drop,
    equal_excessive_loss,
    equal_loss,
    excess_accuracy_gap,
    excessive_loss_gap,
    loss_gap,
)
from jaxprune.mitigation.duals import DUALS, ascent, cap, nu_pi, over_batches, restart_when_feasible
from jaxprune.mitigation.holding import HeldState, held_of, hold
from jaxprune.mitigation.lagrangian import LagrangianState, lagrangian, lagrangian_states, multipliers_of
from jaxprune.mitigation.measuring import DenseReference, Memory, dense_reference
from jaxprune.mitigation.step import SCHEMES, make_lagrangian_step, saddle_update

__all__ = [
    "CONSTRAINTS",
    "DUALS",
    "SCHEMES",
    "Constraint",
    "DenseReference",
    "GroupStatistics",
    "HeldState",
    "LagrangianState",
    "Memory",
    "accuracy_gap",
    "ascent",
    "cap",
    "dense_reference",
    "equal_accuracy_drop",
    "equal_excessive_loss",
    "equal_loss",
    "excess_accuracy_gap",
    "excessive_loss_gap",
    "held_of",
    "hold",
    "lagrangian",
    "lagrangian_states",
    "loss_gap",
    "make_lagrangian_step",
    "multipliers_of",
    "nu_pi",
    "over_batches",
    "restart_when_feasible",
    "saddle_update",
]
