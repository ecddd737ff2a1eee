"""What a comparison tries: the method that each name stands for, and its candidates."""

import itertools
from typing import Any

from jaxprune import mitigation
from jaxprune.config import Settings
from jaxprune.errors import unknown
from jaxprune.mitigation import CONFIGURED, METHODS, Method

# Settings of [mitigation] that decide what "configured" is; the others are its candidates, or of `jaxprune run` alone.
_DECIDING = {"constraint", "dual", "scheme", "penalty", "memory"}


def method_of(settings: Settings, name: str) -> Method:
    """The method of a name in `compare.methods`.

    Raises:
      UserError: There is none.
    """
    if name == CONFIGURED:
        return mitigation.configured_method(**settings.mitigation.model_dump(exclude={"methods"}))
    if name not in METHODS:
        raise unknown("method", name, (*METHODS, CONFIGURED), where="compare.methods")
    return METHODS[name]


def candidates(settings: Settings, name: str) -> list[dict[str, float]]:
    """Every choice of hyperparameters of a method that is tried.

    The settings' candidates take the place of the method's own, except that what [mitigation] says is tried as well.
    """
    given = {"dual_rate": settings.compare.dual_rates, "tolerance": settings.compare.tolerances}
    grid = {hyper: given.get(hyper, own) for hyper, own in method_of(settings, name).tuned.items()}
    if name == CONFIGURED:
        grid = {hyper: sorted({*grid[hyper], *own}) for hyper, own in method_of(settings, name).tuned.items()}
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def deciding(settings: Settings, name: str) -> dict[str, Any]:
    """The settings that decide what a method is, beside its name and its candidates; for the address of its results."""
    method = method_of(settings, name)
    if name == CONFIGURED:
        return {"mitigation": settings.mitigation.model_dump(mode="json", include=_DECIDING)}
    return {"memory": settings.compare.memory} if method.memory else {}
