"""Criteria, masks, and the transformation that keeps pruned weights at zero."""

from jaxprune.components import ALLOCATIONS, CRITERIA, STRUCTURES
from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.criteria.curvature import curvature, group_curvature, worst_group_curvature
from jaxprune.pruning.criteria.fairgrape import fairgrape, fairgrape_scores, group_importance
from jaxprune.pruning.criteria.fairprune import fairprune, fairprune_scores
from jaxprune.pruning.criteria.magnitude import magnitude
from jaxprune.pruning.criteria.random import random
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.masks import apply_masks, global_masks, layerwise_masks
from jaxprune.pruning.oneshot import prune
from jaxprune.pruning.selection import prunable
from jaxprune.pruning.sparsity import LayerSparsity, layer_sparsities, sparsity_of
from jaxprune.pruning.structure import Structure
from jaxprune.pruning.structures.weights import weights
from jaxprune.pruning.transform import KeepMaskedState, keep_masked

__all__ = [
    "ALLOCATIONS",
    "CRITERIA",
    "STRUCTURES",
    "Allocation",
    "Criterion",
    "KeepMaskedState",
    "LayerSparsity",
    "Structure",
    "apply_masks",
    "curvature",
    "fairgrape",
    "fairgrape_scores",
    "fairprune",
    "fairprune_scores",
    "global_masks",
    "group_curvature",
    "group_importance",
    "keep_masked",
    "layer_sparsities",
    "layerwise_masks",
    "magnitude",
    "prunable",
    "prune",
    "random",
    "sparsity_of",
    "weights",
    "worst_group_curvature",
]
