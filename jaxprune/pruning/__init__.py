"""Pruning: criteria, structures, allocations, schedules and optax transformations."""

from jaxprune.components import ALLOCATIONS, CRITERIA, STRUCTURES
from jaxprune.coupling.analysis import couplings
from jaxprune.coupling.compaction import Compact, compact
from jaxprune.coupling.couplings import Coupling, Couplings
from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.allocations.erk import erk, erk_levels
from jaxprune.pruning.allocations.levels import levels, masks_by_level
from jaxprune.pruning.allocations.uniform import together
from jaxprune.pruning.batch_statistics import reestimate_statistics
from jaxprune.pruning.criteria.curvature import curvature, group_curvature, worst_group_curvature
from jaxprune.pruning.criteria.fairgrape import fairgrape, fairgrape_scores, group_importance
from jaxprune.pruning.criteria.fairprune import fairprune, fairprune_scores
from jaxprune.pruning.criteria.fisher import fisher
from jaxprune.pruning.criteria.grasp import grasp
from jaxprune.pruning.criteria.lamp import lamp
from jaxprune.pruning.criteria.magnitude import magnitude
from jaxprune.pruning.criteria.movement import movement
from jaxprune.pruning.criteria.obd import hessian_diagonal, obd
from jaxprune.pruning.criteria.random import random
from jaxprune.pruning.criteria.snip import snip
from jaxprune.pruning.criteria.sparsegpt import sparsegpt
from jaxprune.pruning.criteria.synflow import synflow
from jaxprune.pruning.criteria.taylor import taylor, worst_group_taylor
from jaxprune.pruning.criteria.wanda import wanda, wanda_scores, worst_group_wanda
from jaxprune.pruning.criteria.woodfisher import woodfisher
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.gradients import group_gradients, mean_gradient
from jaxprune.pruning.kernel_views import Kernel
from jaxprune.pruning.layer_inputs import input_grams, input_norms, kernels
from jaxprune.pruning.masks import apply_masks, global_masks, layerwise_masks, nonzero_masks
from jaxprune.pruning.oneshot import prune
from jaxprune.pruning.packing import PackedMasks, pack_masks, unpack_masks
from jaxprune.pruning.regrowth import drop_and_grow, reset_moments, rigl, sparse_evolution, static_sparse
from jaxprune.pruning.rewinding import from_step, iterative_levels, rewind
from jaxprune.pruning.schedules import SparsitySchedule, at_once, check_schedule, cubic, gradual, iterative
from jaxprune.pruning.selection import keep_ends, prunable
from jaxprune.pruning.sparsify import SparsifyState, sparsify
from jaxprune.pruning.sparsity import LayerSparsity, layer_sparsities, sparsity_of
from jaxprune.pruning.straight_through import StraightThroughState, straight_through, straight_through_params
from jaxprune.pruning.structure import Structure
from jaxprune.pruning.structures.blocks import blocks
from jaxprune.pruning.structures.channels import channels, heads
from jaxprune.pruning.structures.n_m import n_m
from jaxprune.pruning.structures.weights import weights
from jaxprune.pruning.transform import KeepMaskedState, keep_masked

__all__ = [
    "ALLOCATIONS",
    "CRITERIA",
    "STRUCTURES",
    "Allocation",
    "Compact",
    "Coupling",
    "Couplings",
    "Criterion",
    "KeepMaskedState",
    "Kernel",
    "LayerSparsity",
    "PackedMasks",
    "SparsifyState",
    "SparsitySchedule",
    "StraightThroughState",
    "Structure",
    "apply_masks",
    "at_once",
    "blocks",
    "channels",
    "check_schedule",
    "compact",
    "couplings",
    "cubic",
    "curvature",
    "drop_and_grow",
    "erk",
    "erk_levels",
    "fairgrape",
    "fairgrape_scores",
    "fairprune",
    "fairprune_scores",
    "fisher",
    "from_step",
    "global_masks",
    "gradual",
    "grasp",
    "group_curvature",
    "group_gradients",
    "group_importance",
    "heads",
    "hessian_diagonal",
    "input_grams",
    "input_norms",
    "iterative",
    "iterative_levels",
    "keep_ends",
    "keep_masked",
    "kernels",
    "lamp",
    "layer_sparsities",
    "layerwise_masks",
    "levels",
    "magnitude",
    "masks_by_level",
    "mean_gradient",
    "movement",
    "n_m",
    "nonzero_masks",
    "obd",
    "pack_masks",
    "prunable",
    "prune",
    "random",
    "reestimate_statistics",
    "reset_moments",
    "rewind",
    "rigl",
    "snip",
    "sparse_evolution",
    "sparsegpt",
    "sparsify",
    "sparsity_of",
    "static_sparse",
    "straight_through",
    "straight_through_params",
    "synflow",
    "taylor",
    "together",
    "unpack_masks",
    "wanda",
    "wanda_scores",
    "weights",
    "woodfisher",
    "worst_group_curvature",
    "worst_group_taylor",
    "worst_group_wanda",
]
