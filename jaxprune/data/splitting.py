"""Deterministic, stratified splits."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from jaxprune.data.normalisation import is_image_bytes
from jaxprune.data.record_images import RecordImages
from jaxprune.types import Array

TEST_SHARE = 0.2  # where the source does not say which examples are the test split
_SPLIT_SEED = 20220614  # fixed: splits must not change with the seed of a run


def cells_of(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Number the strata of several columns of codes.

    Args:
      columns: Codes [N] of each column.

    Returns:
      [N] int, numbered in the order of the first column, then of the second, and so on. However many columns there
      are, no number is as large as N.
    """
    cells = np.zeros(len(columns[0]), np.int64)
    for codes in columns:
        kinds, compact = np.unique(codes, return_inverse=True)
        # Renumbered after every column, 0, 1, 2, ...: products of many columns would overflow.
        cells = np.unique(cells * len(kinds) + compact.reshape(-1), return_inverse=True)[1].reshape(-1)
    return cells


def stratified(cells: np.ndarray, fraction: float) -> np.ndarray:
    """Choose a fraction of the examples of every cell.

    Every cell gives its share, to within one example. Examples are put in order of their cell, in random order inside
    each, and every (1/fraction)-th one is chosen (systematic sampling), so that the total is exact as well. The choice
    depends on nothing but the arguments.

    Args:
      cells: [N] int, the stratum of each example.
      fraction: Between 0 and 1.

    Returns:
      [N] bool, True for those chosen.
    """
    n = len(cells)
    shuffled = np.random.Generator(np.random.PCG64(_SPLIT_SEED)).permutation(n)
    ordered = shuffled[np.argsort(cells[shuffled], kind="stable")]  # stable: the random order survives inside each cell
    # An example is chosen where the running total of the fraction reaches a whole number. Shifted by half an example,
    # the total of usual fractions, such as 0.2, never is one, so that no rounding of it decides.
    marks = np.floor((np.arange(n + 1) + 0.5) * fraction)
    chosen = np.zeros(n, bool)
    chosen[ordered[np.diff(marks) > 0]] = True
    return chosen


def stratified_units(cells: np.ndarray, unit: np.ndarray, fraction: float) -> np.ndarray:
    """Choose a fraction of whole units, as `stratified` does.

    Copies stay together, in the cell of the first of them.

    Args:
      cells: [N] int, the stratum of each example.
      unit: [N] int, equal for copies.
      fraction: Between 0 and 1.

    Returns:
      [N] bool, True for those chosen.
    """
    _, first, of_unit = np.unique(unit, return_index=True, return_inverse=True)  # first: the first copy of each unit
    return stratified(cells[first], fraction)[of_unit.reshape(-1)]


def copies_of(x: np.ndarray | RecordImages) -> np.ndarray:
    """Find the first copy of each example.

    Images of bytes are copies where they are equal. Rows of numbers and images of floats have no copies: equal ones may
    be two people.

    Args:
      x: [N, ...] inputs.

    Returns:
      [N] int, the number of the first copy, which is the example itself where there is none before it.
    """
    if isinstance(x, RecordImages):
        return x.copies()
    if not is_image_bytes(x):
        return np.arange(len(x))
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(blake2b(row.tobytes(), digest_size=16).digest(), i) for i, row in enumerate(x)])


def crossing(split: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Find copies of an example in a split that goes first.

    Test goes before validation, and validation before train. Without these examples, copies are on one side of every
    split.

    Args:
      split: [N] codes as in `SPLIT_CODES`: 0 train, 1 test, 2 validation.
      unit: [N] int, equal for copies.

    Returns:
      [N] int, the first copy in the split that goes first; -1 for examples that may stay.
    """
    rank = np.array([2, 0, 1], np.int8)[split.astype(np.intp)]
    _, of_unit = np.unique(unit, return_inverse=True)
    of_unit = of_unit.reshape(-1)
    order = np.lexsort((np.arange(len(unit)), rank, of_unit))  # by unit, then rank, then number
    _, begins = np.unique(of_unit[order], return_index=True)  # where each unit begins in that order
    first = order[begins][of_unit]  # the first copy in the first split, for every example
    return np.where(rank > rank[first], first, -1)


def at_most(group: Array, y: Array, examples: int) -> np.ndarray:
    """Choose at most so many examples of each group.

    The labels of a group keep their shares; the choice is the same at every call.

    Args:
      group: [N] int.
      y: [N] int, labels.
      examples: How many of each group, at most; a group that has no more keeps all.

    Returns:
      Sorted indices.
    """
    chosen = []
    for a in np.unique(group):
        members = np.flatnonzero(group == a)
        keep = stratified(np.asarray(y)[members], examples / len(members)) if len(members) > examples else slice(None)
        chosen.append(members[keep])
    return np.sort(np.concatenate(chosen))
