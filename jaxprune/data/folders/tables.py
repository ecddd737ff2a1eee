"""Columns of a table as labels and attributes of images."""

import numbers
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import numpy as np

from jaxprune.data import table_files
from jaxprune.data.cells import MANY, Cell, is_missing, is_number, kinds_of, natural
from jaxprune.data.folders.collection import Attribute


def read_columns(path: Path) -> dict[str, list[Cell]]:
    """The named columns of a table of images, as `table_files.read_columns` reads them."""
    return table_files.read_columns(path, f"--table {path}")


def to_attribute(cells: Sequence[Cell], *, chosen: bool) -> Attribute | str:
    """A column as an attribute, or the reason why it is not fit to be one.

    Text becomes codes of its sorted kinds ("2-9" before "10-19"), a cell of it that says nothing the kind "missing";
    numbers stay numbers.

    Args:
      cells: [N] the column.
      chosen: Whether it was asked for: then it may have any number of kinds.
    """
    there = [cell for cell in cells if not is_missing(cell)]
    if not there:
        return "it is empty"
    if all(is_number(cell) for cell in there):
        if len(there) < len(cells):
            return f"{len(cells) - len(there):,} of {len(cells):,} rows have no number in it"
        whole = all(isinstance(cell, numbers.Integral) for cell in there)
        if max(map(abs, there)) >= (2**63 if whole else float(np.finfo(np.float32).max)):
            return "its numbers are too large"
        return Attribute(
            np.array(list(map(int, there)), np.int64) if whole else np.array(list(map(float, there)), np.float32)
        )
    if not all(isinstance(cell, str | bool | date | datetime) or is_number(cell) for cell in there):
        return f"its cells are of the kind {type(there[0]).__name__}"
    texts = kinds_of(cells)
    kinds = sorted(set(texts), key=natural)
    if len(kinds) > MANY and not chosen:
        return f"{len(kinds):,} kinds of text"
    code = {kind: i for i, kind in enumerate(kinds)}
    return Attribute(np.array([code[text] for text in texts], np.int64), tuple(kinds))
