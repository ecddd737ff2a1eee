"""Columns that assign rows to splits.

They hold words, or CelebA's numbers.
"""

from collections.abc import Sequence

import numpy as np

from jaxprune.data.cells import Cell
from jaxprune.errors import UserError

SPLIT_CODES = {"train": 0, "test": 1, "validation": 2}  # as in RawData.split
SPLIT_NAMES = tuple(SPLIT_CODES)  # by their codes
_WORDS = {"train": "train", "training": "train", "validation": "validation", "val": "validation",
          "valid": "validation", "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip
_NUMBERS = {"0": "train", "1": "validation", "2": "test"}


def read_split(cells: Sequence[Cell], column: str, where: str) -> np.ndarray:
    """Read a column of splits.

    Args:
      cells: [N] train, validation or test, in usual spellings; or 0, 1 and 2, which mean these, as in CelebA.
      column: The name of the column, for messages.
      where: The name of the table in messages.

    Returns:
      [N] codes as in `SPLIT_CODES`.

    Raises:
      UserError: A cell says something else; the numbers are 0 and 1 alone, of which 1 may mean either; or there is no
        train split.
    """
    texts = [str(cell).strip().lower() for cell in cells]
    texts = [text.removesuffix(".0") for text in texts]
    meaning = _NUMBERS if texts[0] in _NUMBERS else _WORDS
    wrong = next((row for row, text in enumerate(texts) if text not in meaning), None)
    if wrong is not None:
        raise UserError(
            f"{where}: column {column!r} says {str(cells[wrong])[:40]!r} in row {wrong + 1}; it may say train, "
            "validation or test (or 0, 1 and 2)"
        )
    if meaning is _NUMBERS and set(texts) == {"0", "1"}:
        raise UserError(
            f"{where}: column {column!r} holds 0 and 1 alone, and 1 may mean validation or test; write train, "
            "validation or test in place of the numbers"
        )
    if not any(meaning[text] == "train" for text in texts):
        raise UserError(f"{where}: column {column!r} says train in no row; a set needs a train split")
    return np.array([SPLIT_CODES[meaning[text]] for text in texts], np.uint8)
