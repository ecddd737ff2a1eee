"""Spreads over seeds in figures, and axes within their range."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from jaxprune.auditing import MINIMUM_SEEDS, Interval
from jaxprune.numbers import percent
from jaxprune.quantities import QUANTITIES, Source, quantity_interval
from jaxprune.types import Array

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_POINT: Any = {"s": 11, "alpha": 0.5, "lw": 0, "zorder": 5, "clip_on": False}
_TRAIL: Any = {"lw": 0.7, "alpha": 0.4}
_BAND: Any = {"alpha": 0.13, "lw": 0}


class OverSeeds(NamedTuple):
    """The mean, interval and seeds of values in a figure.

    Attributes:
      seeds: [R, ...] the value of each seed.
      mean: [...] over the seeds.
      low: [...] the lower end of the interval; NaN with too few seeds.
      high: [...] the upper end.
    """

    seeds: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def drawn_apart(self) -> bool:
        """Return True for several seeds, but too few for an interval."""
        return 1 < len(self.seeds) < MINIMUM_SEEDS

    def at(self, column: Any) -> "OverSeeds":
        """The values of one column, or of several."""
        return OverSeeds(*(part[..., column] for part in self))


def over_seeds(source: Source, values: Array, quantity: str, axis: int = 0) -> OverSeeds:
    """Mean, interval and the value of each seed.

    Args:
      source: Whose settings tell the coverage.
      values: Numbers with a seed axis.
      quantity: A name in `QUANTITIES`, which tells the range.
      axis: The seed axis.

    Returns:
      What to draw, in the unit of the values.
    """
    return with_seeds(quantity_interval(source, values, quantity, axis), np.moveaxis(np.asarray(values), axis, 0))


def with_seeds(interval: Interval, seeds: np.ndarray) -> OverSeeds:
    """An interval with the values [R, ...] that it comes from."""
    return OverSeeds(np.asarray(seeds), *(np.asarray(part) for part in interval))


def draw_bars(axes: Axes, along: str, places: Any, values: OverSeeds, colour: Any, **look: Any) -> None:
    """Draw intervals as bars, or seeds as points where they are few.

    Args:
      axes: Where.
      along: "x" for horizontal bars, "y" for vertical ones.
      places: [P] the coordinate of each bar on the other axis.
      values: Leaves [..., P].
      colour: Of all bars, or one for each.
      look: Further properties of the lines.
    """
    if not values.drawn_apart:
        (axes.hlines if along == "x" else axes.vlines)(places, values.low, values.high, color=colour, **look)
        return
    for seed in values.seeds:
        x, y = (seed, places) if along == "x" else (places, seed)
        axes.scatter(x, y, color=colour, **_POINT)


def draw_band(axes: Axes, x: Sequence[float] | np.ndarray, values: OverSeeds, colour: Any) -> None:
    """Draw an interval [..., X] as a band, or few seeds as points."""
    if values.drawn_apart:
        draw_bars(axes, "y", x, values, colour)
    else:
        axes.fill_between(x, values.low, values.high, color=colour, **_BAND)


def draw_trajectories(axes: Axes, x: Sequence[float] | np.ndarray, values: OverSeeds, colour: Any) -> None:
    """Draw an interval [..., X] as a band, or few seeds as lines."""
    if values.drawn_apart:
        axes.plot(x, values.seeds.T, color=colour, **_TRAIL)
    else:
        axes.fill_between(x, values.low, values.high, color=colour, **_BAND)


def keep_in_range(axes: Axes, along: str, quantity: str, scale: float = 1) -> None:
    """Cuts an axis off at the range of its quantity.

    Args:
      axes: Whose axis.
      along: "x" or "y".
      quantity: A name in `QUANTITIES`.
      scale: What is drawn is the stored value times this.
    """
    form = QUANTITIES[quantity]
    low, high = getattr(axes, f"get_{along}lim")()
    limits = np.clip((low, high), scale * form.lower, scale * form.upper)
    if limits[0] != limits[1]:
        getattr(axes, f"set_{along}lim")(*limits)


def percent_axis(axis: Axis, ticks: int = 5) -> None:
    """Few ticks at round places, without needless decimals."""
    axis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: percent(round(value, 9))))


def label_powers(axis: Axis) -> None:
    """Label a logarithmic axis with powers of ten.

    They need no mathematical text.
    """
    axis.set_major_formatter(FuncFormatter(_power))
    axis.set_minor_formatter(NullFormatter())


def _power(value: float, _: Any) -> str:
    if value == 0:
        return "0"
    exponent = f"{round(math.log10(abs(value)))}".translate(_SUPERSCRIPTS)
    return f"{'−' if value < 0 else ''}10{exponent}"
