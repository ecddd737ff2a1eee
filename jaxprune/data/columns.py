"""Columns of numbers as labels and groups.

Numbers are binned, or are categories of their own where there are few distinct ones.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from jaxprune.data.cells import no_number
from jaxprune.data.raw import Column
from jaxprune.errors import UserError, unknown

# The paper's nine age bins; other numeric attributes need data.bins.
AGE = "age"
AGE_BINS = (10, 20, 30, 40, 50, 60, 70, 80)
BinsLike = Sequence[float | str] | Mapping[str, Sequence[float]]  # what `read_bins` reads
FEW = 20  # distinct numbers that may stand as they are


@dataclass(frozen=True)
class Bins:
    """Edges of the bins of numeric columns.

    Attributes:
      others: Edges for the columns that have none of their own; empty for none.
      named: Column -> its own edges.
    """

    others: tuple[float, ...] = ()
    named: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def of(self, column: str) -> tuple[float, ...]:
        """Return the edges of a column."""
        return self.named.get(column, self.others)

    def check_names(self, numbers: Iterable[str], columns: Mapping[str, Sequence[str]]) -> None:
        """Raise if edges name an unknown or non-numeric column.

        Args:
          numbers: The columns of numbers.
          columns: All columns, each with the names of its categories, if it has any.
        """
        numbers = list(numbers)
        for name in self.named:
            if name not in columns:
                raise unknown("column", name, columns, where="data.bins", listed=True)
            if name not in numbers:
                binned = f"those that can be binned: {', '.join(numbers)}" if numbers else "none can be binned"
                odd = no_number(columns[name])
                why = "" if odd is None else f": {odd[:40]!r} is none"
                raise UserError(f"data.bins: {name} is not a column of numbers{why}; leave it out ({binned})")


def read_bins(bins: BinsLike) -> Bins:
    """Read the edges of bins.

    Args:
      bins: Edges for all columns, such as `(30, 60)`; or for each its own, as texts such as `("age=30,60", "dose=0.7")`
        or as a mapping; edges beside texts are those of the other columns.

    Raises:
      UserError: A text is none of these, or edges do not rise: falling edges would swap the names of groups.
    """
    if isinstance(bins, Mapping):
        others, named = (), {name: _edges(edges, name) for name, edges in bins.items()}
    else:
        others, named = _edges([b for b in bins if not isinstance(b, str)]), {}
        for text in (b for b in bins if isinstance(b, str)):
            name, _, listed = text.rpartition("=")
            if not name or name in named:
                what = "gives edges twice" if name else "is neither a number nor edges of a column"
                raise UserError(f"data.bins: {text!r} {what}; give 30 60 for all columns, or age=30,60 dose=0.7")
            try:
                named[name] = _edges(map(float, listed.split(",")), name)
            except UserError:
                raise
            except ValueError:
                raise UserError(f"data.bins: {text!r}: the edges are not numbers; write age=30,60") from None
    return Bins(others, named)


def _edges(edges: Iterable[float], name: str = "") -> tuple[float, ...]:
    """Return the edges, or raise if they do not rise."""
    rising = tuple(edges)
    where = f"data.bins: {f'{name}: ' if name else ''}{' '.join(f'{b:g}' for b in rising)}"
    if not all(map(math.isfinite, rising)):
        raise UserError(f"{where} are not all finite; leave the others out")
    if any(not b > a for a, b in itertools.pairwise(rising)):
        raise UserError(f"{where} do not rise; give the edges in rising order")
    return rising


def not_finite(values: np.ndarray) -> str:
    """Describe non-finite values, or return ""."""
    bad = 0 if values.dtype.kind in "iub" else int((~np.isfinite(values)).sum())
    return f"holds {bad:,} value{'s' * (bad != 1)} that are NaN or infinite" if bad else ""


def number_column(path: str, values: np.ndarray, bins: tuple[float, ...]) -> Column | str:
    """Convert numbers to codes with names, or return the reason against it.

    Bins are for the numbers that they cut, not for a 0 or 1.

    Args:
      path: The name of the column; one named age has the paper's bins by default.
      values: [N] whole or other numbers.
      bins: Rising edges of bins; a number on an edge is in the bin above it.
    """
    if values.dtype.kind == "f":  # stored in float32: an edge of 0.7 must be the 0.7 that is stored
        with np.errstate(over="ignore"):  # what becomes infinite is still above every edge, or below
            values, bins = values.astype(np.float32), tuple(np.array(bins, np.float32))
    kinds, codes = np.unique(values, return_inverse=True)
    few = len(kinds) <= FEW  # few distinct numbers may stand as they are
    edges = bins or (AGE_BINS if path.rpartition("/")[2] == AGE else ())
    uncut = len(set(np.digitize(kinds, edges))) == 1  # all numbers fall into one bin: bins would be one group
    if edges and uncut and not few:
        return (
            f"lies between {kinds[0]:g} and {kinds[-1]:g}, where none of the edges {' '.join(f'{b:g}' for b in edges)} "
            "cuts it; give edges between these with data.bins"
        )
    if edges and not uncut:
        named = [f"<{edges[0]:g}", *(f"{a:g}-{b:g}" for a, b in itertools.pairwise(edges)), f"{edges[-1]:g}+"]
        return np.digitize(values, edges).astype(np.int32), tuple(named)
    if not few:
        return f"has {len(kinds):,} distinct numbers; give the edges of bins with data.bins"
    return codes.astype(np.int32), tuple(f"{kind:.6g}" if values.dtype.kind == "f" else str(kind) for kind in kinds)
