"""One threshold for all layers, or one share for each."""

from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.masks import global_masks, layerwise_masks


def together() -> Allocation:
    """One threshold for the scores of all layers."""
    return global_masks


def layerwise() -> Allocation:
    """The same share of every layer."""
    return layerwise_masks
