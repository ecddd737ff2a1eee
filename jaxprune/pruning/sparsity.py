"""The sparsity of each layer."""

from dataclasses import dataclass

import jax
import numpy as np

from jaxprune.pruning.selection import flags
from jaxprune.trees import leaf_path
from jaxprune.types import Masks, PyTree


@dataclass(frozen=True)
class LayerSparsity:
    """A prunable leaf: its path, size and number of weights kept."""

    path: str
    size: int
    kept: int

    @property
    def sparsity(self) -> float:
        """The share of its weights that is pruned."""
        return (self.size - self.kept) / max(self.size, 1)

    @property
    def empty(self) -> bool:
        """Nothing is left: the network predicts the same for every input."""
        return self.kept == 0


def layer_sparsities(masks: Masks, prunable: PyTree = None) -> list[LayerSparsity]:
    """The sparsity of each prunable leaf of one network."""
    leaves = jax.tree_util.tree_leaves_with_path(masks)
    return [
        LayerSparsity(leaf_path(path), int(np.size(leaf)), int(np.sum(np.asarray(leaf))))
        for (path, leaf), prune in zip(leaves, flags(masks, prunable), strict=True)
        if prune
    ]


def sparsity_of(masks: Masks, prunable: PyTree = None) -> float:
    """The share of all prunable weights that is pruned."""
    layers = layer_sparsities(masks, prunable)
    size = sum(layer.size for layer in layers)
    return (size - sum(layer.kept for layer in layers)) / max(size, 1)
