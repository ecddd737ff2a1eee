"""Validate settings before any work starts."""

import itertools

from jaxprune.config import Settings
from jaxprune.data import Dataset
from jaxprune.errors import UserError
from jaxprune.groups import same_grouping


def check_settings(settings: Settings, *, explained: bool) -> None:
    """Raise for unknown components, and for settings that do nothing.

    Args:
      settings: The settings.
      explained: Whether the theory is measured.

    Raises:
      UserError: A name is unknown, nothing is pruned, or the theory cannot read its examples.
    """
    if not max(settings.prune.sparsities):
        raise UserError("prune.sparsities: 0 prunes nothing; give at least one sparsity above 0, such as 0.5")
    if explained and settings.data.stream and not settings.theory.examples:
        raise UserError(
            "data.stream: the theory needs its examples in memory, and theory.examples = 0 takes them all; "
            "set theory.examples, such as 500 of each group"
        )


def check_groupings(settings: Settings) -> None:
    """Raise for groupings that are named twice.

    Raises:
      UserError: Two are the same, whatever the order in which they cross attributes.
    """
    for one, other in itertools.combinations(settings.audit.groups, 2):
        if same_grouping(one, other):
            same = "is given twice" if one == other else f"has the groups of {one!r}"
            raise UserError(f"audit.groups: {other!r} {same}; name each grouping once")


def check_augmentation(settings: Settings, dataset: Dataset) -> None:
    """Raise for flips or crops that do not fit the inputs.

    Raises:
      UserError: The settings do not fit the data.
    """
    shape = dataset.train.x.shape[1:]
    for setting, on in (("train.flip", settings.train.flip), ("train.crop", settings.train.crop)):
        if on and len(shape) != 3:
            raise UserError(f"{setting}: the inputs of {dataset.name} are rows of numbers, not images; leave it out")
    if len(shape) == 3 and settings.train.crop >= min(shape[:2]):
        raise UserError(
            f"train.crop: {settings.train.crop} pixels would shift images of {shape[0]}x{shape[1]} out of view; "
            "give fewer, such as an eighth of a side"
        )
