"""Training under constraints on groups, and the rival methods."""

from jaxprune.components import CONFIGURED, CONSTRAINTS, DUALS, METHODS, SCHEMES
from jaxprune.mitigation.buffer import Buffer
from jaxprune.mitigation.carried_values import CarryState, carried, carry
from jaxprune.mitigation.constraints import (
    Constraint,
    accuracy_gap,
    equal_accuracy,
    equal_accuracy_drop,
    equal_excessive_loss,
    equal_loss,
    equal_loss_signed,
    excess_accuracy_gap,
    excessive_loss_gap,
    loss_gap,
)
from jaxprune.mitigation.dense import DenseReference, dense_reference, reference_of_logits
from jaxprune.mitigation.duals import ascent, cap, nu_pi, over_batches, restart_when_feasible
from jaxprune.mitigation.methods.distillation import distillation, performance_weighted
from jaxprune.mitigation.methods.fine_tuning import FineTuning
from jaxprune.mitigation.methods.full_program import (
    FullProgram,
    equal_gradients_and_curvature,
    full_program_transformation,
    make_full_program_step,
)
from jaxprune.mitigation.methods.group_dro import GroupDRO, make_group_dro_step
from jaxprune.mitigation.methods.lagrangian import Lagrangian, configured_method
from jaxprune.mitigation.methods.method import (
    Method,
    Program,
    Sampling,
    Selection,
    method_data,
    method_step,
    method_transformation,
)
from jaxprune.mitigation.methods.objectives import MethodInputs, Objective, make_objective_mean_step
from jaxprune.mitigation.methods.reweighting import logit_adjusted, reweighted
from jaxprune.mitigation.multipliers import LagrangianState, lagrangian, lagrangian_states, multipliers_of
from jaxprune.mitigation.schemes import alternating, extragradient, simultaneous
from jaxprune.mitigation.statistics import GroupStatistics
from jaxprune.mitigation.step import make_lagrangian_step

__all__ = [
    "CONFIGURED",
    "CONSTRAINTS",
    "DUALS",
    "METHODS",
    "SCHEMES",
    "Buffer",
    "CarryState",
    "Constraint",
    "DenseReference",
    "FineTuning",
    "FullProgram",
    "GroupDRO",
    "GroupStatistics",
    "Lagrangian",
    "LagrangianState",
    "Method",
    "MethodInputs",
    "Objective",
    "Program",
    "Sampling",
    "Selection",
    "accuracy_gap",
    "alternating",
    "ascent",
    "cap",
    "carried",
    "carry",
    "configured_method",
    "dense_reference",
    "distillation",
    "equal_accuracy",
    "equal_accuracy_drop",
    "equal_excessive_loss",
    "equal_gradients_and_curvature",
    "equal_loss",
    "equal_loss_signed",
    "excess_accuracy_gap",
    "excessive_loss_gap",
    "extragradient",
    "full_program_transformation",
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
    "reference_of_logits",
    "restart_when_feasible",
    "reweighted",
    "simultaneous",
]
