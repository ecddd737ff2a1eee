"""From a name to a data set: the registry of sources, and what is done alike to all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.data.arrays import read_npz
from jaxprune.data.bundled import adult, digits
from jaxprune.data.dataset import Dataset, check_split, from_arrays
from jaxprune.data.prepared import data_directory, find_prepared, read_prepared
from jaxprune.data.resampling import long_tail
from jaxprune.data.splitting import stratified
from jaxprune.data.synthetic import synthetic
from jaxprune.data.table import Table
from jaxprune.errors import UserError, unknown
from jaxprune.groups import intersect
from jaxprune.options import fill


@dataclass(frozen=True)
class Source:
    """A data set that can be loaded by name.

    Attributes:
      read: Yields the raw examples, given the options.
      summary: One line for the list of data sets.
      licence: Its licence.
      options: What can be chosen, with the defaults.
    """

    read: Callable[..., Table]
    summary: str
    licence: str
    options: Mapping[str, Any] = field(default_factory=dict)


SOURCES = {
    "adult": Source(adult, "census income of 48,842 people; groups race, sex, race*sex, ...", "CC BY 4.0"),
    "synthetic": Source(
        synthetic,
        "made data: group size, difficulty and label noise set independently",
        "none needed",
        {"sizes": (8000, 800), "margins": (2.0, 1.0), "noise": (0.0,)},
    ),
    "digits": Source(digits, "1,797 handwritten digits, 8x8; groups are the classes", "CC BY 4.0"),
}


PREPARED_OPTIONS: Mapping[str, Any] = {"directory": "", "bins": (), "image_size": 0}


@dataclass(frozen=True)
class KnownSet:
    """A data set that is not bundled, and how to get it."""

    summary: str
    licence: str
    how: str


def _with_tensorflow(name: str) -> str:
    return (
        f'prepare it once where TensorFlow is installed: python -c "import tensorflow_datasets as t; '
        f"t.builder('{name}', file_format='array_record').download_and_prepare()\""
    )


KNOWN_SETS = {
    "utkface": KnownSet(
        "23,704 faces; race, gender, age (nine bins)",
        "research only",
        "run: jaxprune datasets prepare utkface --directory FOLDER_OF_ITS_FILES",
    ),
    **{
        name: KnownSet(f"{summary} (tensorflow-datasets)", licence, _with_tensorflow(name))
        for name, summary, licence in (
            ("cifar10", "60,000 images, 10 classes", "none given"),
            ("cifar100", "60,000 images, 100 classes", "none given"),
            ("svhn_cropped", "600,000 house numbers, 10 classes", "non-commercial"),
            ("mnist", "70,000 digits, 10 classes", "CC BY-SA 3.0"),
            ("fashion_mnist", "70,000 articles of clothing, 10 classes", "MIT"),
            ("celeb_a", "202,599 faces, 40 attributes", "research only"),
        )
    },
}


def load(
    name: str,
    *,
    group: str | None = None,
    label: str | None = None,
    validation: float = 0.2,
    imbalance: float = 1.0,
    **options: Any,
) -> Dataset:
    """A data set by name, grouped, split and normalised.

    The validation split is cut from the training part, evenly from every label and group, the same one at every
    call. Inputs are normalised with the moments of the training split.

    Args:
      name: A name in `SOURCES`, the path of an npz file (docs/data.md describes its arrays), or the name of a set that
        tensorflow-datasets has prepared.
      group: What forms the groups: an attribute, or several crossed ("race*sex"); None for the source's default.
      label: What is predicted; None for the source's default.
      validation: The share of the training part that becomes the validation split.
      imbalance: Above 1, the training split is thinned to a long tail over the groups, the last group becoming
        `imbalance` times smaller than the largest.
      **options: Options of the source; None means its default.

    Returns:
      The data set.

    Raises:
      UserError: A name is not known, a group has no examples in a split, or the arrays are not fit for use.
    """
    table = _read(name, options)
    if not 0 < validation < 1:
        raise UserError(f"data.validation: {validation} is not between 0 and 1; 0.2 is usual")
    label_by = label or next(iter(table.labels))
    if label_by not in table.labels:
        raise unknown("label", label_by, table.labels, where="data.label")
    y, label_names = table.labels[label_by]
    group_by = group or next(iter(table.attributes))
    groups, group_names = intersect(table.attributes, group_by)
    where = f"data {name}"
    check_split("whole", table.x, y, groups, num_classes=len(label_names), num_groups=len(group_names), where=where)

    members = _members(table, y, validation)
    if imbalance != 1:
        kept = long_tail(groups[members["train"]], len(group_names), imbalance)
        members["train"] = members["train"][kept]
    shift, scale = _moments(table.x[members["train"]], table.standardise)
    parts = {split: ((table.x[i] - shift) / scale, y[i], groups[i]) for split, i in members.items()}
    return from_arrays(
        parts["train"], parts["validation"], parts["test"],
        label_names=label_names, group_names=group_names, name=name, label_by=label_by, group_by=group_by,
        provenance=table.provenance,
    )  # fmt: skip


def _read(name: str, options: Mapping[str, Any]) -> Table:
    if name in SOURCES:
        return SOURCES[name].read(**fill("data", name, SOURCES[name].options, options))
    if name.endswith(".npz"):
        fill("data", name, {}, options)
        return read_npz(Path(name))
    chosen = fill("data", name, PREPARED_OPTIONS, options)
    folder = find_prepared(name, chosen["directory"])
    if folder is not None:
        return read_prepared(folder, bins=chosen["bins"], image_size=chosen["image_size"])
    if name in KNOWN_SETS:
        raise UserError(
            f"data.name: {name} is not prepared in {data_directory(chosen['directory'])}; "
            f"{KNOWN_SETS[name].how}, or copy a prepared folder there"
        )
    raise unknown("data set", name, [*SOURCES, *KNOWN_SETS], where="data.name")


def _members(table: Table, y: np.ndarray, validation: float) -> dict[str, np.ndarray]:
    """Indices of each split; a validation split that the source has of its own is kept."""
    train = np.flatnonzero(table.split == 0)
    test = np.flatnonzero(table.split == 1)
    own = np.flatnonzero(table.split == 2)
    if len(own):
        return {"train": train, "validation": own, "test": test}
    cells = np.asarray(y, np.int64)
    for attribute in table.stratify:
        codes, names = table.attributes[attribute]
        cells = cells * len(names) + codes
    unit = np.arange(len(y)) if table.unit is None else table.unit
    # Whole units are chosen, each in the cell of its first example, so that copies stay together.
    _, first, of_unit = np.unique(unit[train], return_index=True, return_inverse=True)
    chosen = stratified(cells[train][first], validation)[of_unit.reshape(-1)]
    return {"train": train[~chosen], "validation": train[chosen], "test": test}


def _moments(x: np.ndarray, standardise: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    axes = (0,) if standardise is not None else tuple(range(x.ndim - 1))
    shift, scale = x.mean(axes, dtype=np.float64), x.std(axes, dtype=np.float64)
    if standardise is not None:
        shift, scale = np.where(standardise, shift, 0), np.where(standardise, scale, 1)
    return shift.astype(np.float32), np.where(scale > 0, scale, 1).astype(np.float32)
