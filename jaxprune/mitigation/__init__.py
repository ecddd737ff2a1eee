"""Training under constraints on groups: the Lagrangian as an optax transformation, and its rivals."""

from jaxprune.mitigation.constraints import (
    CONSTRAINTS,
    Constraint,
    GroupStatistics,
    accuracy_gap,
    equal_accuracy,
    equal_accuracy_drop,
    equal_excessive_loss,
    equal_loss,
    excess_accuracy_gap,
    excessive_loss_gap,
    loss_gap,
)
from jaxprune.mitigation.duals import DUALS, ascent, cap, nu_pi, over_batches, restart_when_feasible
from jaxprune.mitigation.full_program import equal_gradients_and_curvature, full_program, make_full_program_step
from jaxprune.mitigation.holding import HeldState, held_of, hold
from jaxprune.mitigation.lagrangian import LagrangianState, lagrangian, lagrangian_states, multipliers_of
from jaxprune.mitigation.measuring import DenseReference, Memory, dense_reference
from jaxprune.mitigation.methods import Method, Surroundings, method_data, method_step, method_transformation
from jaxprune.mitigation.objectives import (
    distillation,
    logit_adjusted,
    make_group_dro_step,
    make_objective_mean_step,
    performance_weighted,
    reweighted,
)
from jaxprune.mitigation.registry import CONFIGURED, METHODS, configured_method
from jaxprune.mitigation.step import SCHEMES, make_lagrangian_step, saddle_update

__all__ = [
    "CONFIGURED",
    "CONSTRAINTS",
    "DUALS",
    "METHODS",
    "SCHEMES",
    "Constraint",
    "DenseReference",
    "GroupStatistics",
    "HeldState",
    "LagrangianState",
    "Memory",
    "Method",
    "Surroundings",
    "accuracy_gap",
    "ascent",
    "cap",
    "configured_method",
    "dense_reference",
    "distillation",
    "equal_accuracy",
    "equal_accuracy_drop",
    "equal_excessive_loss",
    "equal_gradients_and_curvature",
    "equal_loss",
    "excess_accuracy_gap",
    "excessive_loss_gap",
    "full_program",
    "held_of",
    "hold",
    "lagrangian",
    "lagrangian_states",
    "logit_adjusted",
    "loss_gap",
    "make_full_program_step",
    "make_group_dro_step",
    "make_lagrangian_step",
    "make_objective_mean_step",
    "method_data",
    "method_step",
    "method_transformation",
    "multipliers_of",
    "nu_pi",
    "over_batches",
    "performance_weighted",
    "restart_when_feasible",
    "reweighted",
    "saddle_update",
]
