"""Criteria (what is pruned first), masks (how much), and the transformation that keeps pruned weights at zero."""

from jaxprune.pruning.criteria import CRITERIA, magnitude, random
from jaxprune.pruning.masks import SCOPES, apply_masks, global_masks, layerwise_masks
from jaxprune.pruning.selection import prunable
from jaxprune.pruning.sparsity import LayerSparsity, layer_sparsities, sparsity_of
from jaxprune.pruning.transform import KeepMaskedState, keep_masked

__all__ = [
    "CRITERIA",
    "SCOPES",
    "KeepMaskedState",
    "LayerSparsity",
    "apply_masks",
    "global_masks",
    "keep_masked",
    "layer_sparsities",
    "layerwise_masks",
    "magnitude",
    "prunable",
    "random",
    "sparsity_of",
]
