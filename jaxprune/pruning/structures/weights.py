"""Single weights: each lives or dies by itself."""

from functools import cache

from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.structure import Structure
from jaxprune.types import Masks, PyTree, Scores


@cache
def weights() -> Structure:
    """Single weights, the unstructured pruning of the paper."""
    return Structure(_masks)


def _masks(scores: Scores, sparsity: float, prunable: PyTree, masks: Masks | None, allocation: Allocation) -> Masks:
    return allocation(scores, sparsity, prunable, masks)
