"""Counts of examples by split, group and label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxprune.data import SPLITS, Dataset
from jaxprune.text import shown_names

_LONGEST = 40  # characters of a name
_MOST_COLUMNS = 10  # of labels or groups side by side


@dataclass(frozen=True)
class CountTable:
    """One table of counts.

    Attributes:
      title: The title.
      headings: Of the columns, the first being that of the rows' names.
      blocks: Rows of cells; a line is drawn between blocks.
    """

    title: str
    headings: Sequence[str]
    blocks: Sequence[Sequence[Sequence[str]]]


def cell_counts(dataset: Dataset, split: str) -> np.ndarray:
    """Count the examples of each group and label, [G, C]."""
    batch = dataset.split(split)
    cells = np.asarray(batch.group, np.int64) * dataset.num_classes + np.asarray(batch.y, np.int64)
    return np.bincount(cells, minlength=dataset.num_groups * dataset.num_classes).reshape(dataset.num_groups, -1)


def count_examples(dataset: Dataset) -> list[CountTable]:
    """Count examples by group and label in each split.

    Where both have many names, each is counted alone.
    """
    counts = {split: cell_counts(dataset, split) for split in SPLITS}
    groups, labels = (shown_names(names, _LONGEST) for names in (dataset.group_names, dataset.label_names))
    if dataset.group_by == dataset.label_by:
        return [_by_split(f"{dataset.name}: {dataset.group_by}", groups, [counts[s].sum(1) for s in SPLITS])]
    if min(len(groups), len(labels)) > _MOST_COLUMNS:
        return [
            _by_split(f"{dataset.name}: groups by {dataset.group_by}", groups, [counts[s].sum(1) for s in SPLITS]),
            _by_split(f"{dataset.name}: labels by {dataset.label_by}", labels, [counts[s].sum(0) for s in SPLITS]),
        ]
    title = f"{dataset.name}: groups by {dataset.group_by}, labels by {dataset.label_by}"
    if len(labels) <= _MOST_COLUMNS:
        return [_by_cell(title, groups, labels, counts)]
    return [_by_cell(title, labels, groups, {split: table.T for split, table in counts.items()})]


def _by_split(title: str, names: Sequence[str], counts: Sequence[np.ndarray]) -> CountTable:
    """A column for each split."""
    rows = [_row(name, values) for name, values in zip(names, np.stack(counts, 1), strict=True)]
    return CountTable(title, ("", *SPLITS, "all"), [rows, [_row("all", np.sum(counts, 1))]])


def _by_cell(title: str, names: Sequence[str], across: Sequence[str], counts: dict[str, np.ndarray]) -> CountTable:
    """A block of rows for each split."""
    blocks = []
    for split, table in counts.items():
        rows = [_row(name, values) for name, values in zip(names, table, strict=True)]
        blocks.append([_row(split, table.sum(0)), *(("  " + row[0], *row[1:]) for row in rows)])
    return CountTable(title, ("", *across, "all"), blocks)


def _row(name: str, counts: np.ndarray) -> tuple[str, ...]:
    return (name, *(f"{count:,}" for count in (*counts, counts.sum())))
