"""Criteria (what is pruned first), masks (how much), and the transformation that keeps pruned weights at zero."""

from jaxprune.pruning.criteria import CRITERIA, magnitude, random
from jaxprune.pruning.group_criteria import (
    GROUP_CRITERIA,
    fairgrape_masks,
    fairprune_scores,
    group_curvature,
    group_importance,
)
from jaxprune.pruning.masks import SCOPES, apply_masks, global_masks, layerwise_masks
from jaxprune.pruning.selection import prunable
from jaxprune.pruning.sparsity import LayerSparsity, layer_sparsities, sparsity_of
from jaxprune.pruning.transform import KeepMaskedState, keep_masked

__all__ = [
    "CRITERIA",
    "GROUP_CRITERIA",
    "SCOPES",
    "KeepMaskedState",
    "LayerSparsity",
    "apply_masks",
    "fairgrape_masks",
    "fairprune_scores",
    "global_masks",
    "group_curvature",
    "group_importance",
    "keep_masked",
    "layer_sparsities",
    "layerwise_masks",
    "magnitude",
    "prunable",
    "random",
    "sparsity_of",
]
