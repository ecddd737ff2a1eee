"""Tables of people (CSV or Parquet) as inputs, labels and groups."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxprune.data.cells import Cell, is_missing, none_notes, twin_notes
from jaxprune.data.columns import BinsLike, number_column, read_bins
from jaxprune.data.normalisation import centred
from jaxprune.data.raw import Column, RawData
from jaxprune.data.sources.catalogue import fit_name
from jaxprune.data.sources.people_columns import Categories, Numbers, read_column, read_label
from jaxprune.data.sources.split_column import SPLIT_CODES, read_split
from jaxprune.data.sources.table_files import CSV_SUFFIXES, PARQUET_SUFFIXES, image_columns, read_columns
from jaxprune.data.splitting import TEST_SHARE, cells_of, stratified
from jaxprune.errors import UserError, unknown
from jaxprune.files import digest_of
from jaxprune.groups import attributes_of

_Cells = dict[str, list[Cell]]  # by column
_MISSING = ("category", "drop")


def is_table_file(name: str) -> bool:
    """Return True if a name ends like a table file."""
    return Path(name).suffix.lower() in (*CSV_SUFFIXES, *PARQUET_SUFFIXES)


def read_people(
    path: Path,
    *,
    label: str,
    group: str,
    bins: BinsLike = (),
    missing: str = "category",
    split_column: str = "",
    leave_out: Sequence[str] = (),
    groupings: Sequence[str] = (),
) -> RawData:
    """Read a data set from a table of people.

    The table has one row for each person. A column of numbers is one input, a column of categories one input for each
    category. The label, the columns of the groups and the split are left out of the inputs; so are remarks,
    identifiers, row numbers and constant columns, which the notes name, and these alone cannot form groups.

    Args:
      path: A CSV or Parquet file.
      label: The column that is predicted.
      group: The column that forms the groups, or several crossed, as "race*sex".
      bins: Edges of the bins of numbers that form groups, as for `read_bins`.
      missing: "category": a missing category is one of its own, and a missing number becomes the mean of the training
        split, with an input that says so; "drop": such rows are left out. Rows without a label always are.
      split_column: The column that says train, validation or test; empty for one named split, where there is one.
        Without one, a fifth of the rows becomes the test split.
      leave_out: Further columns to leave out of the inputs.
      groupings: Further groupings, whose columns are left out of the inputs as well.

    Raises:
      UserError: The table cannot be read, a column is missing or cannot be used, or no row or input is left.
    """
    where = f"data.name: {path}"
    if missing not in _MISSING:
        raise UserError(f"data.missing: {missing!r} is not a choice; give {' or '.join(_MISSING)}")
    _refuse_images(path, where)
    cells = read_columns(path, where)
    split_column = split_column or ("split" if "split" in cells else "")
    _check_names(cells, label, group, split_column, leave_out)
    of_groups = {attribute for spec in (group, *groupings) for attribute in attributes_of(spec)}
    apart = {label, split_column, *leave_out, *of_groups}
    cells, columns, notes = _read(cells, label, split_column, apart - of_groups, apart, missing == "drop", where)
    labels = read_label(label, cells[label])
    inputs = {name: column for name, column in columns.items() if name not in apart and not isinstance(column, str)}
    notes += _input_notes(cells, columns, inputs, apart)
    twins = {*inputs, *of_groups} - set(attributes_of(group))  # of the label and these, `load` tells
    notes += twin_notes((n, c.names) for n, c in columns.items() if isinstance(c, Categories) and n in twins)
    if not inputs:
        raise UserError(f"{where} has no column of inputs{': ' + notes[-1] if notes else ''}; add one")
    x, standardise = _inputs(list(inputs.values()))
    attributes, unused = _attributes({**columns, label: Categories(*labels)}, bins)
    strata = tuple(
        c.few for name, c in columns.items() if name != label and not isinstance(c, str) and c.few is not None
    )
    summary = f"{len(x):,} rows, {x.shape[1]:,} inputs from {', '.join(inputs)}"
    return RawData(
        x=x, labels={label: labels}, attributes=attributes, stratify=strata, standardise=standardise,
        split=_split(cells, split_column, [labels[0], *strata], where), unused=unused, imputed=True,
        provenance=f"{path.name}, SHA-256 {digest_of(path)}: {summary}", notes=tuple(notes),
    )  # fmt: skip


def _refuse_images(path: Path, where: str) -> None:
    if images := image_columns(path, where):
        raise UserError(
            f"{where} holds images, in column {images[0]!r}; prepare it once, with: jaxprune datasets prepare "
            f"{fit_name(path.stem)} --table {shlex.quote(str(path))}"
        )


def _check_names(cells: _Cells, label: str, group: str, split_column: str, leave_out: Sequence[str]) -> None:
    """Raise if a column is missing, unknown or has two roles."""
    for setting, name, use in (("data.label", label, "is predicted"), ("data.group", group, "forms the groups")):
        if not name:
            raise UserError(f"{setting}: say which column of the table {use}; it has {', '.join(cells)}")
    named = [("data.label", label), *(("data.group", attribute) for attribute in attributes_of(group))]
    named += [("data.split_column", split_column)] if split_column else []
    for setting, name in named + [("data.leave_out", name) for name in leave_out]:
        if name not in cells:
            raise unknown("column", name, cells, where=setting, listed=True)
        if name == split_column and setting in ("data.label", "data.group"):
            raise UserError(f"{setting}: {name} holds the splits; give another column")


def _read(
    cells: _Cells, label: str, split_column: str, unused: set[str], apart: set[str], drop: bool, where: str
) -> tuple[_Cells, dict[str, Numbers | Categories | str], list[str]]:
    """Choose rows, read their columns, and describe those left out.

    Args:
      cells: Those of the file.
      label: The column without which no row is used.
      split_column: The column that is neither numbers nor kinds.
      unused: Columns that may lack any value.
      apart: Columns that are not inputs.
      drop: Leave out rows that lack another value.
      where: The name of the table in messages.
    """
    columns = {name: read_column(name, column) for name, column in cells.items() if name != split_column}
    fit = {name for name, column in columns.items() if not isinstance(column, str)}
    whole = (fit | apart) - unused if drop else set[str]()
    kept, notes = _kept_rows(cells, label, whole, where)
    if len(kept) < len(cells[label]):  # what was not fit with all rows stays so: fewer may hide that it numbers them
        cells = {name: [column[i] for i in kept] for name, column in cells.items()}
        columns |= {name: read_column(name, cells[name]) for name in fit}
    return cells, columns, notes


def _kept_rows(cells: _Cells, label: str, whole: set[str], where: str) -> tuple[list[int], list[str]]:
    """Choose the rows without missing values in some columns."""
    count, notes = len(cells[label]), []
    lacking = np.array([is_missing(cell) for cell in cells[label]])
    if lacking.any():
        notes.append(f"{lacking.sum():,} of {count:,} rows are left out: they have no {label}")
    gaps = {n: np.array([is_missing(cell) for cell in column]) & ~lacking for n, column in cells.items() if n in whole}
    dropped = np.any([*gaps.values()], axis=0) if gaps else np.zeros(count, bool)
    if dropped.any():
        most = max(gaps, key=lambda name: int(gaps[name].sum()))
        notes.append(
            f"{dropped.sum():,} of {count:,} rows are left out: a value is missing, most often {most} "
            f"({gaps[most].sum():,})"
        )
    if (lacking | dropped).all():
        raise UserError(f"{where}: no row is left: {'; '.join(notes)}; name such columns in data.leave_out")
    return np.flatnonzero(~(lacking | dropped)).tolist(), notes


def _input_notes(
    cells: _Cells,
    columns: dict[str, Numbers | Categories | str],
    inputs: dict[str, Numbers | Categories],
    apart: set[str],
) -> list[str]:
    left_out = [f"{n} {reason}" for n, reason in columns.items() if isinstance(reason, str) and n not in apart]
    notes = [f"left out of the inputs: {'; '.join(left_out)}"] if left_out else []
    return notes + none_notes((n, cells[n]) for n, c in inputs.items() if isinstance(c, Categories))


def _inputs(columns: Sequence[Numbers | Categories]) -> tuple[np.ndarray, np.ndarray]:
    """Build the inputs [N, F], and flag columns to standardise."""
    values = [column.values for column in columns if isinstance(column, Numbers)]
    absent = [np.isnan(column) for column in values if np.isnan(column).any()]
    one_hot = [np.eye(len(c.names), dtype=np.float32)[c.codes] for c in columns if isinstance(c, Categories)]
    parts = [centred(np.stack(values, axis=1))] if values else []
    parts += [np.stack(absent, axis=1).astype(np.float32)] if absent else []
    x = np.concatenate([*parts, *one_hot], axis=1)
    return x, np.arange(x.shape[1]) < len(values)


def _attributes(
    columns: dict[str, Numbers | Categories | str], bins: BinsLike
) -> tuple[dict[str, Column], dict[str, str]]:
    """Convert columns to attributes; give reasons against the others."""
    edges, usable, unused = read_bins(bins), {}, {}
    edges.check_names(
        [name for name, column in columns.items() if isinstance(column, Numbers)],
        {name: column.names if isinstance(column, Categories) else () for name, column in columns.items()},
    )
    for name, column in columns.items():
        groups = column if isinstance(column, str) else _as_groups(name, column, edges.of(name))
        if isinstance(groups, str):
            unused[name] = groups
        else:
            usable[name] = groups
    return usable, unused


def _as_groups(name: str, column: Numbers | Categories, edges: tuple[float, ...]) -> Column | str:
    if isinstance(column, Categories):
        return column.codes, column.names
    known = ~np.isnan(column.values)
    binned = number_column(name, column.known, edges)
    if isinstance(binned, str):
        return binned
    codes = np.full(len(known), len(binned[1]), np.int32)
    codes[known] = binned[0]
    return codes, (*binned[1], *([] if known.all() else ["missing"]))


def _split(cells: _Cells, column: str, strata: Sequence[np.ndarray], where: str) -> np.ndarray:
    if column:
        return read_split(cells[column], column, where)
    return np.where(stratified(cells_of(strata), TEST_SHARE), SPLIT_CODES["test"], SPLIT_CODES["train"])
