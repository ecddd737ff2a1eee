"""The validation split: people who choose, people violations are measured on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxprune.data import Dataset
from jaxprune.data.normalisation import is_image_bytes
from jaxprune.data.splitting import copies_of, stratified_units
from jaxprune.errors import UserError


class ValidationHalves(NamedTuple):
    """The rows of the validation split that decide something, each sorted.

    Attributes:
      choosing: Rows that choose hyperparameters and epochs, for all methods alike.
      held_out: Rows that the violations of some methods are measured on, which move their multipliers.
    """

    choosing: np.ndarray
    held_out: np.ndarray


def validation_halves(dataset: Dataset, methods: Sequence[str]) -> ValidationHalves:
    """Cut the validation split in two, to choose and to measure.

    No example then both chooses hyperparameters and moves multipliers.

    The halves have every label of every group in equal numbers, to within one example, and depend on the data alone.
    Without methods that measure there, both are the whole split.

    Args:
      dataset: The data.
      methods: The methods that measure their violation on the validation split.

    Raises:
      UserError: A group is too small to have an example in each half.
    """
    validation = dataset.validation
    group, y = np.asarray(validation.group), np.asarray(validation.y)
    if not methods:
        return ValidationHalves(np.arange(len(y)), np.arange(len(y)))
    # Groups before labels: the cells of a group lie side by side, so that the group as a whole is cut evenly too.
    cells = group.astype(np.int64) * dataset.num_classes + y
    # Equal images are copies, which would let one half know the other; equal rows of numbers may be two people.
    images = is_image_bytes(validation.x)
    unit = copies_of(np.asarray(validation.x)) if images else np.arange(len(cells))
    first = stratified_units(cells, unit, 0.5)
    halves = ValidationHalves(np.flatnonzero(first), np.flatnonzero(~first))
    weight = np.asarray(validation.weight)
    sizes = [np.bincount(group[rows], weight[rows], dataset.num_groups) for rows in halves]
    lacking = np.flatnonzero(np.minimum(*sizes) == 0)
    if len(lacking):
        raise UserError(
            f"retrain.methods: {', '.join(methods)} measure on one half of the validation split while the other half "
            f"chooses, and group {dataset.group_names[lacking[0]]!r} is too small to be in both; raise "
            "data.validation, or leave them out"
        )
    return halves
