"""Loading of data sets by name: labels, groups, splits, normalisation."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxprune.data import resampling
from jaxprune.data.attributes import Attributes, check_attributes
from jaxprune.data.cells import twin_notes
from jaxprune.data.dataset import SPLITS, Dataset, check_split, from_arrays
from jaxprune.data.grouping import keep_groups
from jaxprune.data.normalisation import as_they_are, image_sums, is_image_bytes, normalise_with
from jaxprune.data.raw import RawData
from jaxprune.data.record_images import RecordImages
from jaxprune.data.sources import read_source
from jaxprune.data.splitting import TEST_SHARE, cells_of, copies_of, crossing, stratified_units
from jaxprune.errors import UserError
from jaxprune.groups import attributes_of, intersect
from jaxprune.types import Array


def load(
    name: str,
    *,
    group: str | None = None,
    label: str | None = None,
    validation: float = 0.2,
    imbalance: float = 1.0,
    shares: Sequence[float] = (),
    upsample_group: str | None = None,
    upsample_times: int = 1,
    balance: bool = False,
    min_group_size: int = 0,
    stream: bool = False,
    **options: Any,
) -> Dataset:
    """Load a data set by name, grouped, split and normalised.

    The validation split is cut from the training part, evenly from every label and group, the same one at every call.
    Inputs are normalised with the moments of the training split: images of bytes by `Dataset.normalise`, on the device.

    Args:
      name: A name in `SOURCES` or of a set that tensorflow-datasets has prepared; or the path of an npz file, or of a
        table (CSV or Parquet) with a row for each person: docs/data.md describes both.
      group: The attribute that forms the groups, or several crossed ("race*sex"); None for the source's default.
      label: The column that is predicted; None for the source's default.
      validation: The share of the training part that becomes the validation split.
      imbalance: Above 1, the training split is thinned to a long tail over the groups, the last group becoming
        `imbalance` times smaller than the largest.
      shares: [G] The training split is thinned so that the groups have these shares; empty leaves it.
      upsample_group: A group whose training examples are repeated.
      upsample_times: How often they are to occur.
      balance: Repeat examples of small groups until every group is as large as the largest.
      min_group_size: Groups with fewer examples than this in any split are left out, and named.
      stream: Leave the images of a prepared set on disk, for sets larger than memory; the splits' `x` is then a
        `RecordImages`, which `jaxprune.streaming` trains and evaluates on.
      **options: Options of the source; None means its default.

    Returns:
      The data set.

    Raises:
      UserError: A name is unknown, a group has no examples in a split, or the arrays cannot be used.

    Example:
      >>> people = load("adult", group="race*sex", min_group_size=30)
      >>> len(people.train.y), people.label_names, people.num_groups
      (25867, ('<=50K', '>50K'), 8)
      >>> people.warnings()[0][:64]
      '2 of the 10 groups of race*sex are left out with all their examp'
    """
    raw = read_source(name, options | {"stream": True} if stream else options, label=label, group=group)
    _check_names(raw, label, group)
    reshape = partial(
        _reshape, imbalance=imbalance, shares=shares, upsample_group=upsample_group, upsample_times=upsample_times,
        balance=balance,
    )  # fmt: skip
    return _assemble(raw, name, label, group, validation, min_group_size, reshape)


def _assemble(
    raw: RawData,
    name: str,
    label: str | None,
    group: str | None,
    validation: float,
    min_group_size: int,
    reshape: Callable[[np.ndarray, Sequence[str]], np.ndarray],
) -> Dataset:
    """Group, split, reshape and normalise raw examples."""
    label_by, group_by = label or next(iter(raw.labels)), group or next(iter(raw.attributes))
    (y, label_names), (groups, group_names) = raw.labels[label_by], intersect(raw.attributes, group_by)
    where = f"data {name}"
    _check_examples(raw, y, groups, label_by, label_names, len(group_names), where)
    members, notes = _members(raw, y, validation, where)
    members, groups, group_names, small = keep_groups(members, groups, group_names, group_by, min_group_size)
    members["train"] = members["train"][reshape(groups[members["train"]], group_names)]
    parts, normalise = _parts(raw, members, y, groups)
    return from_arrays(
        *(parts[split] for split in SPLITS), name=name, label_names=label_names, group_names=group_names,
        label_by=label_by, group_by=group_by, provenance=raw.provenance, normalise=normalise,
        notes=[*raw.notes, *notes, *small, *twin_notes(_names_by_column(raw, label_by, group_by))],
        attributes=Attributes(columns=raw.attributes, rows=members, unused=raw.unused),
    )  # fmt: skip


def _check_names(raw: RawData, label: str | None, group: str | None) -> None:
    """Raise if a label or attribute is unknown or unusable."""
    for setting, kind, columns, names in (
        ("data.label", "label", raw.labels, (label.strip(),) if label else ()),
        ("data.group", "group attribute", raw.attributes, attributes_of(group) if group else ()),
    ):
        check_attributes(names, kind, columns, raw.unused, setting)
    if not raw.labels:
        reasons = "; ".join(f"{name} {reason}" for name, reason in raw.unused.items())
        raise UserError(f"data.label: there is nothing to predict{': ' + reasons if reasons else ''}")


def _check_examples(
    raw: RawData, y: np.ndarray, groups: np.ndarray, label: str, names: Sequence[str], num_groups: int, where: str
) -> None:
    """Raise if inputs, labels or groups are not fit for use.

    A label that is the same for all examples is not.
    """
    if len(kinds := np.unique(y)) == 1 and 0 <= kinds[0] < len(names):
        raise UserError(f"data.label: {label} is {names[int(kinds[0])]!r} for every example; give another")
    x = np.nan_to_num(np.asarray(raw.x), nan=0.0) if raw.imputed else raw.x
    check_split("whole", x, y, groups, num_classes=len(names), num_groups=num_groups, where=where)


def _names_by_column(raw: RawData, label: str, group: str) -> list[tuple[str, Sequence[str]]]:
    """Collect the names of classes and groups, by column."""
    columns = {label: raw.labels[label]} | {name: raw.attributes[name] for name in attributes_of(group)}
    return [(name, names) for name, (_, names) in columns.items()]


def _parts(
    raw: RawData, members: Mapping[str, np.ndarray], y: np.ndarray, groups: np.ndarray
) -> tuple[dict[str, tuple[Any, np.ndarray, np.ndarray]], Callable[[Array], Array]]:
    """Cut inputs, labels and groups into splits; choose the normalisation."""
    if is_image_bytes(raw.x):
        x = raw.x
        sums = x.channel_sums() if isinstance(x, RecordImages) else image_sums(x)
        normalise = normalise_with(sums[members["train"]], math.prod(x.shape[1:3]))
        parts = {split: x.select(i) if isinstance(x, RecordImages) else x[i] for split, i in members.items()}
        return {split: (parts[split], y[i], groups[i]) for split, i in members.items()}, normalise
    shift, scale = _moments(np.asarray(raw.x[members["train"]]), raw)
    scaled = {split: (raw.x[i] - shift) / scale for split, i in members.items()}
    if raw.imputed:
        scaled = {split: np.nan_to_num(x, nan=0.0) for split, x in scaled.items()}
    return {split: (scaled[split], y[i], groups[i]) for split, i in members.items()}, as_they_are


def _notes(split: np.ndarray, left_out: np.ndarray) -> list[str]:
    """Describe the copies left out of the source's splits."""
    return [
        f"{count:,} of {(split == code).sum():,} images of the source's {name} split {'is' if count == 1 else 'are'} "
        f"left out: equal ones are in its {others} split"
        for name, code, others in (("train", 0, "test or validation"), ("validation", 2, "test"))
        if (count := int(left_out[split == code].sum()))
    ]


def _members(raw: RawData, y: np.ndarray, validation: float, where: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Choose the examples of each split, and describe those left out.

    A validation split of the source's own is kept.
    """
    if not 0 < validation < 1:
        raise UserError(f"data.validation: {validation} is not between 0 and 1; 0.2 is usual")
    unit = copies_of(raw.x) if raw.unit is None else raw.unit
    left_out = crossing(raw.split, unit) >= 0
    notes = _notes(raw.split, left_out)
    train, test, own = (np.flatnonzero((raw.split == code) & ~left_out) for code in range(3))
    if not len(train):
        all_are_copies = (raw.split == 0).any()
        raise UserError(
            f"{where}: every image of the train split is a copy of one in another split; correct the splits"
            if all_are_copies
            else f"{where}: the train split is empty; give it examples"
        )
    if len(test) and len(own):
        return {"train": train, "validation": own, "test": test}, notes
    cells = cells_of([y, *raw.stratify])

    def cut(rows: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        chosen = stratified_units(cells[rows], unit[rows], share)
        return rows[~chosen], rows[chosen]

    if not len(test):  # many published sets have a train split alone
        train, test = cut(train, TEST_SHARE)
    if len(own):
        return {"train": train, "validation": own, "test": test}, notes
    train, validated = cut(train, validation)
    return {"train": train, "validation": validated, "test": test}, notes


def _reshape(
    group: np.ndarray,
    group_names: Sequence[str],
    *,
    imbalance: float,
    shares: Sequence[float],
    upsample_group: str | None,
    upsample_times: int,
    balance: bool,
) -> np.ndarray:
    """Choose the training examples after thinning and repeating."""
    index = np.arange(len(group))
    if imbalance != 1:
        index = index[resampling.long_tail(group[index], len(group_names), imbalance)]
    if shares:
        index = index[resampling.to_shares(group[index], group_names, shares)]
    if upsample_group:
        index = index[resampling.upsample(group[index], group_names, upsample_group, upsample_times)]
    if balance:
        index = index[resampling.balance(group[index], len(group_names))]
    return index


def _moments(x: np.ndarray, raw: RawData) -> tuple[np.ndarray, np.ndarray]:
    """Compute means and deviations of the training inputs.

    They are of all values, or of each column that is scaled.
    """
    axes = (0,) if raw.standardise is not None else tuple(range(x.ndim - 1))
    if raw.imputed:
        known = ~np.isnan(x)
        count = np.maximum(known.sum(axes), 1)
        shift = np.sum(x, axes, dtype=np.float64, where=known) / count
        scale = np.sqrt(np.sum(np.square(x - shift), axes, where=known) / count)
    else:
        shift, scale = x.mean(axes, dtype=np.float64), x.std(axes, dtype=np.float64)
    if raw.standardise is not None:
        shift, scale = np.where(raw.standardise, shift, 0), np.where(raw.standardise, scale, 1)
    return shift.astype(np.float32), np.where(scale > 0, scale, 1).astype(np.float32)
