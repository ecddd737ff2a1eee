"""From the parts that a plan names to their functions."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jaxprune import pruning
from jaxprune.components import ALLOCATIONS, CRITERIA, RANDOM_START, SPARED, STRUCTURES
from jaxprune.config import Prune
from jaxprune.config.options import Part, criterion_of, structure_of
from jaxprune.coupling.couplings import Couplings
from jaxprune.errors import UserError
from jaxprune.registry import Registry


def criterion_for(part: Part) -> pruning.Criterion:
    """The criterion of a part."""
    return _make(CRITERIA, part.name, dict(part.options))


def is_coupled(part: Part) -> bool:
    """Return whether a structure prunes channels that can be removed.

    Its constructor then takes the couplings of a network.
    """
    return "couplings" in inspect.signature(STRUCTURES.choose(part.name)).parameters


def structure_for(
    part: Part,
    reduction_axes: Callable[[], Mapping[str, tuple[int, ...]]] = dict,
    couplings: Callable[[], Couplings | None] = lambda: None,
) -> pruning.Structure:
    """The structure of a part.

    Args:
      part: The part.
      reduction_axes: Returns path of each kernel -> the axes that it is summed over; called for structures whose axis
        the settings leave open.
      couplings: Returns those of the network; called for structures of coupled channels.
    """
    options = dict(part.options)
    if "axis" in STRUCTURES.defaults(part.name) and "axis" not in options:
        options["axis"] = dict(reduction_axes())
    return _make(STRUCTURES, part.name, options, *([couplings()] if is_coupled(part) else []))


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


def _make(registry: Registry, name: str, options: dict[str, Any], *arguments: Any) -> Any:
    """Make a part, and name the setting in its errors."""
    try:
        return registry.make(name, *arguments, **options)
    except UserError as error:
        raise UserError(f"prune.{registry.kind}_options: {error}") from None


def usual_allocation(prune: Prune, structure: Part | None = None) -> str:
    """The name of the allocation that the settings mean.

    Args:
      prune: The settings.
      structure: One of several that are compared; None for that of the settings.

    Raises:
      UserError: The criterion or the structure is defined for another one than the settings name.
    """
    part = structure_of(prune) if structure is None else structure
    names = {"criterion": prune.criterion, "structure": part.name}
    criterion, made = criterion_for(criterion_of(prune, prune.criterion)), structure_for(part)
    if prune.schedule in RANDOM_START:
        return prune.allocation or "layerwise"
    parts = {"structure": made} if prune.criteria else {"criterion": criterion, "structure": made}
    for axis, value in parts.items():
        if value.allocation is None:
            continue
        own = next(name for name in ALLOCATIONS if name != "levels" and ALLOCATIONS.make(name) is value.allocation)
        if prune.allocation not in ("", own):
            raise UserError(
                f"prune.allocation: the {axis} {names[axis]} is defined for {own} alone, "
                f"not {prune.allocation}; leave it out"
            )
        return own
    return prune.allocation or "global"
