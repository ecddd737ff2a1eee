"""Cells of tables as numbers, categories, or missing values."""

import math
import numbers
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Cell = Any  # int, float, bool, str, or None for an empty cell
MISSING = "missing"  # the category of empty cells
MANY = 100  # a column of more texts holds remarks or identifiers
_NOTHING = ("", "na", "n/a", "nan", "null", "none", "?")  # in small letters
_LONGEST = 300  # characters of a number
# Numbers with leading zeros are codes, such as those of places.
_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_COMMA = re.compile(r"[+-]?(0|[1-9][0-9]*)(,[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+")


def read_cells(column: Sequence[str]) -> list[Cell]:
    """Read text cells as numbers, if all known ones are numbers.

    A decimal comma is read where the whole column can be read so, unless every comma may as well part thousands.
    """
    kinds = dict.fromkeys(column)  # each once: columns are long
    there = [cell for cell in kinds if not says_nothing(cell)]
    read = _number_reader(there)
    values = {cell: read(cell) for cell in there} if read else {cell: cell or None for cell in kinds}
    return [values.get(cell) for cell in column]


def _number_reader(texts: Sequence[str]) -> Callable[[str], int | float] | None:
    """Choose the parser that reads all texts as numbers, or None."""
    if not texts or max(map(len, texts)) > _LONGEST:
        return None
    for pattern, kind in ((_WHOLE, int), (_DECIMAL, float)):
        if all(map(pattern.fullmatch, texts)):
            return kind
    commas = [text for text in texts if "," in text]
    if all(map(_COMMA.fullmatch, texts)) and not all(map(_THOUSANDS.fullmatch, commas)):
        return lambda text: float(text.replace(",", "."))
    return None


def says_nothing(cell: str) -> bool:
    """Return True if a text means a missing value, as NA does."""
    return cell.strip().lower() in _NOTHING


def is_missing(cell: Cell) -> bool:
    """Return True if a cell is missing."""
    if isinstance(cell, str):
        return says_nothing(cell)
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def is_number(cell: Cell) -> bool:
    """Return True if a cell is a finite number; booleans are not."""
    finite = isinstance(cell, numbers.Real) or hasattr(cell, "as_tuple")  # the latter is a decimal, of Parquet
    return finite and not isinstance(cell, bool) and math.isfinite(cell)


def to_categories(cells: Sequence[Cell]) -> list[str]:
    """Convert cells to names of categories, with single spaces.

    A missing cell becomes `MISSING`.
    """
    names = {text: " ".join(text.split()) for text in set(map(str, cells))}
    return [MISSING if is_missing(cell) else names[str(cell)] for cell in cells]


def natural(text: str) -> list[str | int]:
    """Sort key that orders numbers in texts by size.

    "2-9" comes before "10-19".
    """
    parts = re.split(r"([0-9]{1,18})", text)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def none_notes(columns: Iterable[tuple[str, Sequence[Cell]]]) -> list[str]:
    """A warning for each column where "none" may be a category.

    Args:
      columns: The name of each column of categories, and its cells.
    """
    notes = []
    for name, cells in columns:
        count = sum(isinstance(cell, str) and cell.strip().lower() == "none" for cell in cells)
        if count:
            notes.append(f"{name}: {count:,} cells say none, which is read as missing; write no if that is meant")
    return notes


def no_number(names: Iterable[str]) -> str | None:
    """Return the first name that is not a number, or None."""
    return next((name for name in names if name != MISSING and not _DECIMAL.fullmatch(name)), None)


def twin_notes(columns: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """A warning for each column with names that look alike.

    Args:
      columns: The name of each column and of its categories.
    """
    notes = []
    for column, names in columns:
        alike: dict[str, list[str]] = defaultdict(list)
        for name in names:
            alike[_skeleton(name)].append(name)
        twins = [" and ".join(map(_visible, same)) for same in alike.values() if len(same) > 1]
        if twins:
            more = f", and {len(twins) - 3:,} more" if len(twins) > 3 else ""
            notes.append(
                f"{column}: {'; '.join(twins[:3])}{more} are different categories, though only case, spaces or "
                "invisible characters differ; spell them alike if they are one"
            )
    return notes


def _skeleton(name: str) -> str:
    """Reduce a name to what tells it from a look-alike.

    Case, spaces and invisible characters go; the Unicode form is one.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc", "Zs", "Zl", "Zp"))


def _visible(name: str) -> str:
    """Quote a name, with escapes for invisible characters."""

    def seen(c: str) -> bool:
        return c == " " or (c.isprintable() and not unicodedata.combining(c) and not c.isspace())

    return "'" + "".join(c if seen(c) else c.encode("unicode_escape").decode() for c in name) + "'"
