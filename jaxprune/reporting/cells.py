"""Means over seeds with their intervals, as the cells of tables."""

from dataclasses import dataclass

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS, Interval
from jaxprune.reporting.numbers import NONE
from jaxprune.reporting.quantities import QUANTITIES, Quantity, Source, quantity_interval


@dataclass(frozen=True)
class Cell:
    """A mean over seeds as texts.

    Attributes:
      mean: The mean, or "–".
      spread: Its interval, "±0.7" or, where it is cut off at the range, "(95.1 to 100)"; empty with too few seeds.
      seeds: The value of each seed where there are several, but too few for an interval; else empty.
    """

    mean: str
    spread: str = ""
    seeds: str = ""

    def __str__(self) -> str:
        """The mean and its interval."""
        return f"{self.mean} {self.spread}".rstrip()


def cell(source: Source, values: np.ndarray, quantity: str) -> Cell:
    """The mean over seeds with its interval.

    Args:
      source: Whose settings tell the coverage.
      values: [R], in the unit that they are stored in; those not finite are left out.
      quantity: A name in `QUANTITIES`.

    Returns:
      The cell.
    """
    form = QUANTITIES[quantity]
    interval = quantity_interval(source, values, quantity)
    if not np.isfinite(interval.mean):
        return Cell(NONE)
    known = np.asarray(values)[np.isfinite(values)]
    few = 1 < len(known) < MINIMUM_SEEDS
    seeds = ", ".join(form.text(value) for value in known) if few else ""
    return Cell(form.text(interval.mean), spread_text(interval, form), seeds)


def spread_text(interval: Interval, form: Quantity) -> str:
    """An interval as "±0.7", or as "(95.1 to 100)" where it is not symmetric; empty without one."""
    below, above = float(interval.mean - interval.low), float(interval.high - interval.mean)
    if not np.isfinite(below + above):
        return ""
    if np.isclose(below, above, rtol=1e-6, atol=1e-12):
        return f"±{form.half_text(above)}"
    return f"({form.end_text(interval.low)} to {form.end_text(interval.high)})"


def means_caption(count: int) -> str:
    """What the numbers of a table are: "means over seeds with their intervals", or without."""
    return "means over seeds with their intervals" if count >= MINIMUM_SEEDS else "means over seeds"


def text(source: Source, values: np.ndarray, form: str) -> Cell:
    """`cell`, for callers that name a format instead of a quantity.

    Args:
      source: Whose settings tell the coverage.
      values: [R].
      form: "+.2f" for a rank correlation, or ".3f" for a regret.

    Returns:
      The cell.
    """
    return cell(source, values, {"+.2f": "correlation", ".3f": "regret"}[form])
