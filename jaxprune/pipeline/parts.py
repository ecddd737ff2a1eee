"""From the parts that a plan names to their functions."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxprune import pruning
from jaxprune.components import ALLOCATIONS, CRITERIA, RANDOM_START, SPARED, STRUCTURES
from jaxprune.config import Prune
from jaxprune.config.options import Part, criterion_of, structure_of
from jaxprune.errors import UserError
from jaxprune.registry import Registry


def criterion_for(part: Part) -> pruning.Criterion:
    """The criterion of a part."""
    return _make(CRITERIA, part.name, dict(part.options))


def structure_for(part: Part, reduction_axes: Callable[[], Mapping[str, tuple[int, ...]]]) -> pruning.Structure:
    """The structure of a part.

    Args:
      part: The part.
      reduction_axes: Returns path of each kernel -> the axes that it is summed over; called for structures whose axis
        the settings leave open.
    """
    options = dict(part.options)
    if "axis" in STRUCTURES.defaults(part.name) and "axis" not in options:
        options["axis"] = dict(reduction_axes())
    return _make(STRUCTURES, part.name, options)


def allocation_for(part: Part, levels: Mapping[str, float] | None = None) -> pruning.Allocation | None:
    """The allocation of a part; None where the usual one is meant.

    Args:
      part: The part.
      levels: Path -> sparsity, for the one by measured levels.
    """
    if part.name == SPARED:
        assert levels is not None
        return ALLOCATIONS.make("levels", levels=dict(levels))
    return _make(ALLOCATIONS, part.name, dict(part.options)) if part.name else None


def _make(registry: Registry, name: str, options: dict[str, Any]) -> Any:
    """Make a part, and name the setting in its errors."""
    try:
        return registry.make(name, **options)
    except UserError as error:
        raise UserError(f"prune.{registry.kind}_options: {error}") from None


def usual_allocation(prune: Prune) -> str:
    """The name of the allocation that the settings mean.

    Raises:
      UserError: The criterion or the structure is defined for another one than the settings name.
    """
    criterion, structure = criterion_for(criterion_of(prune, prune.criterion)), structure_for(structure_of(prune), dict)
    if prune.schedule in RANDOM_START:
        return prune.allocation or "layerwise"
    parts = {"structure": structure} if prune.criteria else {"criterion": criterion, "structure": structure}
    for axis, part in parts.items():
        if part.allocation is None:
            continue
        own = next(name for name in ALLOCATIONS if name != "levels" and ALLOCATIONS.make(name) is part.allocation)
        if prune.allocation not in ("", own):
            raise UserError(
                f"prune.allocation: the {axis} {getattr(prune, axis)} is defined for {own} alone, "
                f"not {prune.allocation}; leave it out"
            )
        return own
    return prune.allocation or "global"
