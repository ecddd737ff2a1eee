"""Tables of labels and attributes: CSV with the standard library, Parquet with pyarrow where it is installed."""

import csv
import math
import numbers
import re
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.data.folders.collection import Attribute
from jaxprune.errors import UserError

Cell = Any  # int, float, bool, str, or None where there is nothing
_MANY = 100  # kinds of text beyond which a column is taken for remarks or identifiers, unless it is asked for
# Numbers with leading zeros are codes, such as those of places.
_WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)")
_DECIMAL = re.compile(r"[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def read_columns(path: Path) -> dict[str, list[Cell]]:
    """The named columns of a table, as many cells in each as the table has rows.

    In CSV, a column whose cells are numbers is one of numbers; the delimiter (comma, semicolon or tab) is that of the
    first line.

    Raises:
      UserError: The file is missing, is no table, or is empty; or pyarrow is missing.
    """
    if not path.is_file():
        raise UserError(f"--table {path}: there is no such file; give a CSV or Parquet file")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        columns = _read_csv(path)
    elif suffix in (".parquet", ".pq"):
        columns = _read_parquet(path)
    else:
        raise UserError(f"--table {path} is neither CSV nor Parquet; save it as one (.csv, .tsv or .parquet)")
    if not columns or not len(next(iter(columns.values()))):
        raise UserError(f"--table {path} holds no rows; give one row for each image")
    return columns


def to_attribute(cells: Sequence[Cell], *, chosen: bool) -> Attribute | str:
    """A column as an attribute, or the reason why it is not fit to be one.

    Text becomes codes of its sorted kinds ("2-9" before "10-19"), an empty cell of it the kind "missing"; numbers stay
    numbers.

    Args:
      cells: [N] the column.
      chosen: Whether it was asked for: then it may have any number of kinds.
    """
    there = [cell for cell in cells if not _missing(cell)]
    if not there:
        return "it is empty"
    if all(_is_number(cell) for cell in there):
        if len(there) < len(cells):
            return f"{len(cells) - len(there):,} of {len(cells):,} rows have no number in it"
        whole = all(isinstance(cell, numbers.Integral) for cell in there)
        if max(map(abs, there)) >= (2**63 if whole else float(np.finfo(np.float32).max)):
            return "its numbers are too large"
        return Attribute(
            np.array(list(map(int, there)), np.int64) if whole else np.array(list(map(float, there)), np.float32)
        )
    if not all(isinstance(cell, str | bool | date | datetime) or _is_number(cell) for cell in there):
        return f"its cells are of the kind {type(there[0]).__name__}"
    texts = ["missing" if _missing(cell) else " ".join(str(cell).split()) for cell in cells]
    kinds = sorted(set(texts), key=_natural)
    if len(kinds) > _MANY and not chosen:
        return f"{len(kinds):,} kinds of text"
    code = {kind: i for i, kind in enumerate(kinds)}
    return Attribute(np.array([code[text] for text in texts], np.int64), tuple(kinds))


def _read_csv(path: Path) -> dict[str, list[Cell]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            head = lines.readline()
            lines.seek(0)
            reader = csv.reader(lines, delimiter=max(",;\t", key=head.count), skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except UnicodeDecodeError:
        raise UserError(f"--table {path} is not text in UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"--table {path} cannot be read as CSV ({error}); mend it") from None
    if not rows:
        raise UserError(f"--table {path} is empty; give a first line of column names, and one row for each image")
    names = [cell.strip() for cell in rows[0][1]]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"--table {path} has two columns named {twice!r}; rename one")
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise UserError(f"--table {path}: line {line} has {len(row)} cells, the first line {len(names)}; mend it")
    cells = {name: [row[i].strip() for _, row in rows[1:]] for i, name in enumerate(names) if name}
    return {name: _typed(column) for name, column in cells.items()}


def _typed(column: list[str]) -> list[Cell]:
    """Text cells as numbers where all of those that say something are numbers."""
    there = [cell for cell in column if not _says_nothing(cell)]
    for pattern, kind in ((_WHOLE, int), (_DECIMAL, float)):
        if there and all(map(pattern.fullmatch, there)):
            return [None if _says_nothing(cell) else kind(cell) for cell in column]
    return [cell or None for cell in column]


def _says_nothing(cell: str) -> bool:
    return cell.lower() in ("", "na", "n/a", "nan", "null", "none", "?")


def _read_parquet(path: Path) -> dict[str, list[Cell]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f"--table {path} needs pyarrow; run: python -m pip install 'jaxprune[parquet]', or save the table as CSV"
        ) from None
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"--table {path} cannot be read as Parquet ({str(error).splitlines()[0]}); mend it") from None
    names = [name for name in table.column_names if name and not name.startswith("__index_level_")]  # that of pandas
    return {name: table.column(name).to_pylist() for name in names}


def _missing(cell: Cell) -> bool:
    return cell is None or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def _is_number(cell: Cell) -> bool:
    finite = isinstance(cell, numbers.Real) or hasattr(cell, "as_tuple")  # the latter is a decimal, of Parquet
    return finite and not isinstance(cell, bool) and math.isfinite(cell)


def _natural(text: str) -> list[str | int]:
    """A key that sorts the numbers in texts by their size."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", text))]
