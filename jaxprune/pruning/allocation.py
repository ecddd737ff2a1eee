"""Allocations as values: how a sparsity is shared out over the layers."""

from collections.abc import Callable

from jaxprune.types import Masks

# (scores, sparsity, prunable=None, masks=None) -> masks. The scores are those of the units that a structure prunes;
# units that `masks` has pruned already stay pruned, and count.
Allocation = Callable[..., Masks]
