"""Arguments of the wrong kind, such as a part not called."""

import inspect
from typing import Any

from jaxprune.errors import UserError
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.schedules import SparsitySchedule
from jaxprune.pruning.structure import Structure


def check_kinds(criterion: Any, allocation: Any, structure: Any) -> None:
    """Raise unless the parts are of the kinds that `prune` takes.

    Raises:
      UserError: One is not; it says what to give.
    """
    if not isinstance(criterion, Criterion):
        raise _wrong("criterion", criterion, "pruning.magnitude()")
    if structure is not None and not isinstance(structure, Structure):
        raise _wrong("structure", structure, "pruning.n_m(m=4)")
    if allocation is not None and (not callable(allocation) or _takes_no_scores(allocation)):
        raise _wrong("allocation", allocation, "pruning.erk()")


def check_schedule_kind(schedule: Any) -> None:
    """Raise unless this is a schedule of sparsity.

    Raises:
      UserError: It is not; it says what to give.
    """
    if isinstance(schedule, SparsitySchedule):
        return
    if callable(schedule) and not getattr(schedule, "__module__", "").startswith("jaxprune."):
        raise UserError("schedule: this one does not say when it ends; give pruning.gradual(schedule, end=...)")
    if isinstance(schedule, int | float):
        raise UserError(f"schedule: {schedule} is a number; give pruning.at_once({schedule}), or pruning.cubic")
    raise _wrong("schedule", schedule, "pruning.cubic(0.9, end=1000)")


def _takes_no_scores(allocation: Any) -> bool:
    """Whether a function makes allocations, by keywords alone."""
    try:
        kinds = [parameter.kind for parameter in inspect.signature(allocation).parameters.values()]
    except (TypeError, ValueError):
        return False
    return all(kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD) for kind in kinds)


def _wrong(argument: str, value: Any, example: str) -> UserError:
    if isinstance(value, str):
        return UserError(f"{argument}: {value!r} is a name; give the part itself, such as {example}")
    name = getattr(value, "__name__", type(value).__name__)
    if callable(value):
        return UserError(f"{argument}: {name} is a function that makes one; call it, as in {example}")
    return UserError(f"{argument}: a value of type {name} does not fit; give one such as {example}")
