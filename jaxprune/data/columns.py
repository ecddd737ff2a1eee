"""Columns of numbers as labels and groups: binned, or taken as they are where there are few kinds of them."""

import itertools
import math

import numpy as np

from jaxprune.data.table import Column
from jaxprune.errors import UserError

# The paper's nine age bins; other numeric attributes need data.bins.
AGE_BINS = (10, 20, 30, 40, 50, 60, 70, 80)
FEW = 20  # kinds of numbers that may stand as they are


def check_bins(bins: tuple[float, ...]) -> None:
    """Raises where the edges of bins do not rise: falling ones would give every group the other's name."""
    if any(not math.isfinite(b) for b in bins):
        raise UserError(f"data.bins: {' '.join(f'{b:g}' for b in bins)} are not all finite; leave the others out")
    if any(not b > a for a, b in itertools.pairwise(bins)):
        raise UserError(f"data.bins: {' '.join(f'{b:g}' for b in bins)} do not rise; give the edges in rising order")


def not_finite(values: np.ndarray) -> str:
    """What is wrong with numbers [N] of which some are none; empty where nothing is."""
    bad = 0 if values.dtype.kind in "iub" else int((~np.isfinite(values)).sum())
    return f"holds {bad:,} value{'s' * (bad != 1)} that are NaN or infinite" if bad else ""


def number_column(path: str, values: np.ndarray, bins: tuple[float, ...]) -> Column | str:
    """Numbers as codes with names, or why they are none. Bins are for the numbers that they cut, not for a 0 or 1.

    Args:
      path: What the column is called; one named age has the paper's bins where none are given.
      values: [N] whole or other numbers.
      bins: Rising edges of bins; a number on an edge is in the bin above it.
    """
    if values.dtype.kind == "f":  # stored in float32: an edge of 0.7 must be the 0.7 that is stored
        values, bins = values.astype(np.float32), tuple(np.array(bins, np.float32))
    kinds, codes = np.unique(values, return_inverse=True)
    few = len(kinds) <= FEW
    edges = bins or (AGE_BINS if path.rpartition("/")[2] == "age" else ())
    if edges and not (few and len(set(np.digitize(kinds, edges))) == 1):
        named = [f"<{edges[0]:g}", *(f"{a:g}-{b:g}" for a, b in itertools.pairwise(edges)), f"{edges[-1]:g}+"]
        return np.digitize(values, edges).astype(np.int32), tuple(named)
    if not few:
        return f"is numbers of {len(kinds):,} kinds; give the edges of bins with data.bins"
    return codes.astype(np.int32), tuple(f"{kind:.6g}" if values.dtype.kind == "f" else str(kind) for kind in kinds)
