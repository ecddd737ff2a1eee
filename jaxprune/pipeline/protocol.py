"""What a comparison tries, and who decides: methods and candidates by name, and the cut of the validation split."""

import itertools
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxprune import mitigation
from jaxprune.config import Settings
from jaxprune.data import Dataset
from jaxprune.data.normalisation import is_image_bytes
from jaxprune.data.splitting import copies_of, stratified_units
from jaxprune.errors import UserError, unknown
from jaxprune.mitigation import CONFIGURED, METHODS, Method
from jaxprune.mitigation.methods.lagrangian import USUAL
from jaxprune.types import Batch

# Settings of [mitigation] that decide what "configured" is; the others are its candidates, or of `jaxprune run` alone.
_DECIDING = {"constraint", "dual", "scheme", "penalty", "buffer"}


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

    The settings' candidates, where they name any, take the place of the method's own; what [mitigation] says is tried
    beside them, or beside those that are usual.
    """
    given = {"dual_rate": settings.compare.dual_rates, "tolerance": settings.compare.tolerances}
    grid = {hyper: given.get(hyper) or own for hyper, own in method_of(settings, name).candidates.items()}
    if name == CONFIGURED:
        own = method_of(settings, name).candidates
        grid = {hyper: sorted({*(given.get(hyper) or USUAL[hyper]), *said}) for hyper, said in own.items()}
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def deciding(settings: Settings, name: str) -> dict[str, Any]:
    """What decides a method's results beside its name and its candidates; for the address of its results."""
    method = method_of(settings, name)
    found: dict[str, Any] = {"buffer": settings.compare.buffer} if "buffer" in method.needs else {}
    if name == CONFIGURED:
        found = {"mitigation": settings.mitigation.model_dump(mode="json", include=_DECIDING)}
    if held_out_methods(settings) and (method.held_out or method.selection):
        found["validation"] = "halves"
    return found


class Deciders(NamedTuple):
    """The people of the validation split who decide something.

    Attributes:
      choosing: Choose hyperparameters and epochs, for all methods alike.
      held_out: Move the multipliers of the methods that measure their violation on people held out.
    """

    choosing: Batch
    held_out: Batch


def held_out_methods(settings: Settings) -> list[str]:
    """The methods that measure their violation on the validation split, which is then cut in two."""
    return [name for name in settings.compare.methods if method_of(settings, name).held_out]


def deciders(settings: Settings, dataset: Dataset) -> Deciders:
    """Who decides: two halves of the validation split, so that nobody does both; all of it where nobody is held out.

    The halves have every label of every group in equal numbers, to within one example, and depend on the data alone.

    Args:
      settings: The settings.
      dataset: The data, in memory.

    Raises:
      UserError: A group is too small to have an example in each half.
    """
    validation, methods = dataset.validation, held_out_methods(settings)
    if not methods:
        return Deciders(validation, validation)
    # Groups before labels: the cells of a group lie side by side, so that the group as a whole is cut evenly too.
    cells = np.asarray(validation.group, np.int64) * dataset.num_classes + np.asarray(validation.y)
    # Equal images are copies, which would let one half know the other; equal rows of numbers may be two people.
    images = is_image_bytes(validation.x)
    unit = copies_of(np.asarray(validation.x)) if images else np.arange(len(cells))
    first = stratified_units(cells, unit, 0.5)
    halves = [jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], validation) for rows in (first, ~first)]
    sizes = [np.bincount(half.group, half.weight, dataset.num_groups) for half in halves]
    lacking = np.flatnonzero(np.minimum(*sizes) == 0)
    if len(lacking):
        raise UserError(
            f"compare.methods: {', '.join(methods)} measure on one half of the validation split while the other half "
            f"chooses, and group {dataset.group_names[lacking[0]]!r} is too small to be in both; raise "
            "data.validation, or leave them out"
        )
    return Deciders(*halves)
