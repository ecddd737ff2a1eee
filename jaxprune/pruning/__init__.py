"""Criteria, masks, and the transformation that keeps pruned weights at zero."""

from jaxprune.components import ALLOCATIONS, CRITERIA
from jaxprune.pruning.criteria.curvature import curvature, group_curvature, worst_group_curvature
from jaxprune.pruning.criteria.fairgrape import fairgrape, fairgrape_scores, group_importance
from jaxprune.pruning.criteria.fairprune import fairprune, fairprune_scores
from jaxprune.pruning.criteria.magnitude import magnitude
from jaxprune.pruning.criteria.random import random
from jaxprune.pruning.criterion import Allocation, Criterion
from jaxprune.pruning.masks import apply_masks, global_masks, layerwise_masks
from jaxprune.pruning.oneshot import prune
from jaxprune.pruning.selection import prunable
from jaxprune.pruning.sparsity import LayerSparsity, layer_sparsities, sparsity_of
from jaxprune.pruning.transform import KeepMaskedState, keep_masked

__all__ = [
    "ALLOCATIONS",
    "CRITERIA",
    "Allocation",
    "Criterion",
    "KeepMaskedState",
    "LayerSparsity",
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
    "worst_group_curvature",
]
