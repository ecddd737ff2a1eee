"""Columns of a table of people, as numbers or categories."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np

from jaxprune.data.cells import MANY, Cell, is_missing, is_number, natural, to_categories
from jaxprune.data.columns import FEW
from jaxprune.data.raw import Column
from jaxprune.errors import UserError

_CLASSES = 50  # distinct numbers that a label may have
_IDENTIFIER = re.compile(r"(.*[ _.-])?(id|index|idx)|unnamed:.*|.*[a-z]I[dD]")


@dataclass(frozen=True, eq=False)
class Numbers:
    """A column of numbers.

    Attributes:
      values: [N] float64, NaN where there is none.
    """

    values: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """The known numbers, as integers if all of them are whole."""
        values = self.values[~np.isnan(self.values)]
        whole = (values == np.floor(values)).all() and (np.abs(values) < 2**53).all()
        return values.astype(np.int64) if whole else values

    @property
    def few(self) -> np.ndarray | None:
        """[N] codes of the values; None for more than 20 distinct values."""
        kinds, codes = np.unique(self.values, return_inverse=True)
        return codes.reshape(-1) if len(kinds) <= FEW else None


@dataclass(frozen=True, eq=False)
class Categories:
    """A column of categories.

    Attributes:
      codes: [N] int32 in [0, K).
      names: The K names, in the order of the numbers in them, then of the alphabet.
    """

    codes: np.ndarray
    names: tuple[str, ...]

    @property
    def few(self) -> np.ndarray | None:
        """[N] the codes; None where there are more than 20 kinds."""
        return self.codes if len(self.names) <= FEW else None


def read_column(name: str, cells: Sequence[Cell]) -> Numbers | Categories | str:
    """Read a column as numbers where possible, else as categories.

    Args:
      name: The name of the column.
      cells: [N] the column.

    Returns:
      The column; or why it is neither input nor attribute, with the remedy: it is empty, never changes, numbers the
      rows, or has more than 100 kinds, or more than 20 and more than half as many as there are rows.
    """
    there = [cell for cell in cells if not is_missing(cell)]
    if not there:
        return "is empty"
    if all(map(is_number, there)):
        values = np.array([np.nan if is_missing(cell) else float(cell) for cell in cells], np.float64)
        if _numbers_the_rows(name, values):
            return "numbers the rows"
        return "is the same in every row" if len(np.unique(values)) == 1 else Numbers(values)
    if any(isinstance(cell, float) and math.isinf(cell) for cell in there):
        return "holds infinite numbers; leave such cells empty"
    odd = next((c for c in there if not (isinstance(c, str | bool | date | datetime) or is_number(c))), None)
    if odd is not None:
        return f"has cells of type {type(odd).__name__}; give text or numbers"
    kinds = _kinds(cells)
    count = len(kinds.names)
    if count > MANY or (count > FEW and 2 * count > len(cells)):
        return f"has {count:,} categories, such as {kinds.names[0][:30]!r}; give numbers, or at most {MANY} categories"
    return "is the same in every row" if count == 1 else kinds


def read_label(name: str, cells: Sequence[Cell]) -> Column:
    """Read a column without missing values as classes.

    Raises:
      UserError: It has more than 50 distinct numbers or 100 texts.
    """
    if all(map(is_number, cells)):
        values, codes = np.unique(np.array([float(cell) for cell in cells]), return_inverse=True)
        names, most = [f"{value:.15g}" for value in values], _CLASSES
        codes = codes.reshape(-1).astype(np.int32)
    else:
        kinds = _kinds(cells)
        codes, names, most = kinds.codes, kinds.names, MANY
    if len(names) > most:
        raise UserError(
            f"data.label: {name} has {len(names):,} classes, such as {names[0][:30]!r}; a label has at most "
            f"{most}: give another column, or one of fewer classes"
        )
    return codes, tuple(names)


def _kinds(cells: Sequence[Cell]) -> Categories:
    texts = to_categories(cells)
    names = tuple(sorted(set(texts), key=natural))
    code = {name: i for i, name in enumerate(names)}
    return Categories(np.array([code[text] for text in texts], np.int32), names)


def _numbers_the_rows(name: str, values: np.ndarray) -> bool:
    """Return True if a column numbers the rows.

    Its whole numbers are all different, and follow each other or are called an identifier.
    """
    if np.isnan(values).any() or (values != np.floor(values)).any() or len(np.unique(values)) < len(values):
        return False
    return values.max() - values.min() == len(values) - 1 or bool(
        _IDENTIFIER.fullmatch(name.strip()) or _IDENTIFIER.fullmatch(name.strip().lower())
    )
