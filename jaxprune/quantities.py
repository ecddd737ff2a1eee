"""Reported quantities: ranges, units, digits, and means as table cells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, SupportsFloat

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS, Interval, mean_interval
from jaxprune.numbers import NONE, fixed, plural, signed, significant
from jaxprune.types import Array


class Source(Protocol):
    """Results of a job, with the coverage of its intervals."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings, with `audit.confidence`."""
        ...


@dataclass(frozen=True)
class Quantity:
    """The range and the notation of a quantity.

    Attributes:
      lower: The least value that it can have, in the unit that it is stored in.
      upper: The greatest.
      scale: What is written is the stored value times this: 100 for shares.
      digits: Decimals; None writes three significant digits.
      unit: Of what is written.
      sign: Whether a plus sign is written.
    """

    lower: float = -np.inf
    upper: float = np.inf
    scale: float = 1
    digits: int | None = 3
    unit: str = ""
    sign: bool = False

    def text(self, value: SupportsFloat) -> str:
        """Format a stored value.

        Percentages read 0 or 100 only if they are exactly so.
        """
        number = self.scale * float(value)
        if self.digits is None:
            return significant(number)
        landmarks = (-100, 0, 100) if self.scale == 100 else ()
        return (signed if self.sign else fixed)(number, self.digits, landmarks=landmarks)

    def half_text(self, half: float) -> str:
        """Half the width of an interval as text."""
        if self.digits is None:
            return significant(float(half), 2)
        return fixed(self.scale * float(half), self.digits, landmarks=(0,) if self.scale == 100 else ())

    def end_text(self, value: float | Array) -> str:
        """Format an end of an interval.

        An end of the range itself goes without decimals.
        """
        at_range = value in (self.lower, self.upper)
        return f"{self.scale * float(value):g}" if at_range else self.text(value)


_PERCENT = Quantity(0, 1, 100, 1, "%")
_POINTS = Quantity(0, 1, 100, 1, "points")
_CHANGE = Quantity(-1, 1, 100, 1, "points", sign=True)
_NATS = Quantity(0, unit="nats")
_HARM = Quantity(unit="nats", sign=True)
_POSITIVE = Quantity(0, digits=None)
_UNIT = Quantity(0, 1)

# ψ is the drop of one group minus the overall drop, each within ±1, so it lies within ±2. Its largest is not below 0,
# since the mean of ψ over the examples is 0.
QUANTITIES: Mapping[str, Quantity] = {
    "accuracy": _PERCENT,
    "worst_group_accuracy": _PERCENT,
    "best_group_accuracy": _PERCENT,
    "share": _PERCENT,
    "accuracy_spread": _POINTS,
    "accuracy_drop": _CHANGE,
    "excess_accuracy_gap": Quantity(-2, 2, 100, 1, "points", sign=True),
    "max_excess_accuracy_gap": Quantity(0, 2, 100, 1, "points"),
    "excess_accuracy_gap_spread": Quantity(0, 2, 100, 1, "points"),
    "loss": _NATS,
    "loss_gap": _NATS,
    "excessive_loss": _HARM,
    "max_excessive_loss": Quantity(unit="nats"),
    "excessive_loss_spread": _NATS,
    "signed_share": Quantity(-1, 1, 100, 1, "%", sign=True),
    "layer_harm": _HARM,
    "first_order": _HARM,
    "second_order": _HARM,
    "bound": Quantity(digits=None, unit="nats"),
    "regret": _NATS,
    "correlation": Quantity(-1, 1, digits=2, sign=True),
    "gradient_norm": _POSITIVE,
    "norm": _POSITIVE,
    "eigenvalue": Quantity(digits=None),
    "gauss_newton_eigenvalue": _POSITIVE,
    "trace": Quantity(digits=None),
    "ratio": Quantity(0, digits=1),
    "margin": _UNIT,
    "closeness": _UNIT,
    "distance": Quantity(0),
    "side": Quantity(digits=None),
    "multiplier": _POSITIVE,
    "signed_multiplier": Quantity(digits=None),
    "violation": Quantity(digits=4, sign=True),
    "absolute_violation": Quantity(0, digits=4),
}


def seed_means(values: Array) -> np.ndarray:
    """[..., R, G] -> [..., G] means over seeds with finite numbers.

    The mean is NaN if no seed has one.
    """
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    total = np.sum(np.where(known, values, 0), -2)
    return np.where(known.any(-2), total / np.maximum(known.sum(-2), 1), np.nan)


def amount(value: SupportsFloat, quantity: str) -> str:
    """A stored value with its unit, such as "1.5 points" and "+0.312 nats"."""
    text, unit = QUANTITIES[quantity].text(value), QUANTITIES[quantity].unit
    return f"{text} {'point' if text == '1.0' and unit == 'points' else unit}"


def quantity_interval(source: Source, values: Array, quantity: str, axis: int = 0) -> Interval:
    """The mean over seeds with its interval, within the quantity's range.

    Args:
      source: Whose settings tell the coverage.
      values: Numbers with a seed axis, in the unit that they are stored in; those not finite are left out.
      quantity: A name in `QUANTITIES`.
      axis: The seed axis.

    Returns:
      The interval, in the same unit.
    """
    values = np.asarray(values, np.float64)
    range_ = QUANTITIES[quantity]
    return mean_interval(
        np.where(np.isfinite(values), values, np.nan), axis, source.settings["audit"]["confidence"],
        lower=range_.lower, upper=range_.upper,
    )  # fmt: skip


def difference_interval(source: Source, mine: np.ndarray, other: np.ndarray, quantity: str) -> Interval:
    """Return a paired difference's mean over seeds and its interval.

    The interval is cut at the largest difference that the quantity can have.

    Args:
      source: Whose settings tell the coverage.
      mine: [R], in the unit that they are stored in.
      other: [R] what is subtracted, seed by seed.
      quantity: A name in `QUANTITIES`.

    Returns:
      The interval, in the same unit.
    """
    width = QUANTITIES[quantity].upper - QUANTITIES[quantity].lower
    difference = np.asarray(mine, np.float64) - np.asarray(other, np.float64)
    return mean_interval(difference, 0, source.settings["audit"]["confidence"], lower=-width, upper=width)


@dataclass(frozen=True)
class Cell:
    """The text of a table's cell, such as a mean over seeds.

    Attributes:
      mean: The mean, or "–".
      spread: Its interval, "±0.7" or, where it is cut off at the range, "(95.1 to 100)"; empty with too few seeds.
      seeds: The value of each seed where there are several, but too few for an interval; else empty.
      mark: How it is coloured on the page: "better", "worse", "bad" or "quiet"; empty for not at all.
      note: A remark on it.
    """

    mean: str
    spread: str = ""
    seeds: str = ""
    mark: str = ""
    note: str = ""

    @property
    def hint(self) -> str:
        """Text shown while the pointer rests on the cell."""
        return "; ".join(part for part in (f"seeds: {self.seeds}" if self.seeds else "", self.note) if part)

    def __str__(self) -> str:
        """The mean and its interval."""
        return f"{self.mean} {self.spread}".rstrip()


def cell(source: Source, values: Array, quantity: str) -> Cell:
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
    """Format an interval: "±0.7", or its ends where not symmetric.

    Its ends are written as "(95.1 to 100)"; the text is empty without an interval.
    """
    below, above = float(interval.mean - interval.low), float(interval.high - interval.mean)
    if not np.isfinite(below + above):
        return ""
    if np.isclose(below, above, rtol=1e-6, atol=1e-12):
        return f"±{form.half_text(above)}"
    return f"({form.end_text(interval.low)} to {form.end_text(interval.high)})"


def means_caption(count: int) -> str:
    """Caption for the numbers of a table: means, with intervals or without."""
    return "means over seeds with their intervals" if count >= MINIMUM_SEEDS else "means over seeds"


def multiplier_kind(values: np.ndarray) -> str:
    """The quantity of multipliers' trajectories: of one sign, or of either.

    Multipliers of inequalities, of absolute violations and of group DRO never fall below 0. Signed gaps have mean 0
    over the examples, so under a signed equality some group's multiplier falls below 0 at the first step.
    """
    return "signed_multiplier" if np.any(values < 0) else "multiplier"


def few_seeds(count: int) -> str:
    """Explain missing intervals over seeds; empty with enough seeds."""
    if count >= MINIMUM_SEEDS:
        return ""
    verb = "is" if count == 1 else "are"
    return (
        f"{plural(count, 'seed')} {verb} too few for intervals over seeds ({MINIMUM_SEEDS} are needed): points show "
        "each seed."
    )


def spread_words(count: int, interval: str, seeds: str) -> str:
    """Caption for the spread over seeds; empty for one seed."""
    return interval if count >= MINIMUM_SEEDS else seeds if count > 1 else ""
