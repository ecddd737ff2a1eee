"""Structures as values: which weights live or die together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxprune.pruning.allocation import Allocation
from jaxprune.types import Masks, Params, PyTree


def _nothing_to_check(params: Params, prunable: PyTree, sparsities: Sequence[float]) -> None:
    """Every network and every sparsity is fit."""


@dataclass(frozen=True)
class Structure:
    """A structure of pruning.

    Attributes:
      masks: `(scores, sparsity, prunable, masks, allocation) -> masks` of whole units, by an allocation over the units.
      check: `(params, prunable, sparsities) -> None` raises a `UserError` where the shapes of the parameters or a
        sparsity are not fit for the structure; it reads shapes alone.
      allocation: The only allocation that the structure is defined for; None for any.
    """

    masks: Callable[..., Masks]
    check: Callable[[Params, PyTree, Sequence[float]], None] = _nothing_to_check
    allocation: Allocation | None = None
