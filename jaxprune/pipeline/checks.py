"""Validate settings before any work starts."""

import itertools

from jaxprune import mitigation, pruning
from jaxprune.config import Settings
from jaxprune.data import Dataset
from jaxprune.errors import UserError
from jaxprune.groups import same_grouping


def check_run(settings: Settings, until: str) -> None:
    """Raise for settings that a run up to a stage cannot do.

    Args:
      settings: The settings.
      until: The stage that the run ends with.

    Raises:
      UserError: Nothing is pruned, the theory cannot read its examples, or a constraint needs another network.
    """
    if not max(settings.prune.sparsities):
        raise UserError("prune.sparsities: 0 prunes nothing; give at least one sparsity above 0, such as 0.5")
    if until in ("theory", "report") and settings.data.stream and not settings.theory.examples:
        raise UserError(
            "data.stream: the theory needs its examples in memory, and theory.examples = 0 takes them all; "
            "set theory.examples, such as 500 of each group"
        )
    if "batch" in pruning.CRITERIA.make(settings.prune.criterion).needs:
        raise UserError(
            f"prune.criterion: {settings.prune.criterion} scores on examples, which only `jaxprune compare` does; "
            "use magnitude"
        )
    if until != "theory" and set(settings.mitigation.methods) != {"none"}:
        check_constraint(settings)


def check_groupings(settings: Settings) -> None:
    """Raise for groupings that are to be audited twice.

    Raises:
      UserError: Two are the same, whatever the order in which they cross attributes.
    """
    for one, other in itertools.combinations(settings.audit.groups, 2):
        if same_grouping(one, other):
            same = "is given twice" if one == other else f"has the groups of {one!r}"
            raise UserError(f"audit.groups: {other!r} {same}; name each grouping once")


def check_constraint(settings: Settings) -> None:
    """Raises for a constraint that a run, unlike a comparison, cannot ask for.

    Raises:
      UserError: It compares with the dense network.
    """
    name = settings.mitigation.constraint
    if mitigation.CONSTRAINTS[name](1).needs_dense:
        raise UserError(
            f"mitigation.constraint: {name} compares with the dense network, which is not there while that is trained; "
            "use loss_gap, or `jaxprune compare` with configured among compare.methods"
        )


def check_augmentation(settings: Settings, dataset: Dataset) -> None:
    """Raises where images are to be flipped or cropped that are not images, or that are too small.

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
