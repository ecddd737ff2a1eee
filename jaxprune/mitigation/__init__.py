"""Training under constraints on groups: the Lagrangian as an optax transformation."""

from jaxprune.mitigation.constraints import CONSTRAINTS, Constraint, GroupStatistics, equal_loss, loss_gap
from jaxprune.mitigation.lagrangian import LagrangianState, lagrangian, lagrangian_states, multipliers_of
from jaxprune.mitigation.step import make_lagrangian_step

__all__ = [
    "CONSTRAINTS",
    "Constraint",
    "GroupStatistics",
    "LagrangianState",
    "equal_loss",
    "lagrangian",
    "lagrangian_states",
    "loss_gap",
    "make_lagrangian_step",
    "multipliers_of",
]
