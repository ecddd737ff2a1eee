"""Tests of changes, adjusted for a family of methods and measures."""

from collections.abc import Hashable, Mapping
from enum import Enum
from typing import NamedTuple, TypeVar

import numpy as np

from jaxprune.auditing.intervals import Interval
from jaxprune.auditing.multiplicity import LEVEL, constant, holm, paired_p_value, simultaneous_interval
from jaxprune.numbers import p_value

K = TypeVar("K", bound=Hashable)


class Outcome(Enum):
    """The outcome of the adjusted test of a change."""

    BETTER = "better"
    WORSE = "worse"
    CHANCE = ""


class Verdict(NamedTuple):
    """A method against plain fine-tuning by one measure, adjusted for its family.

    Attributes:
      change: Mean difference over seeds, with the interval that holds for the whole family at once.
      p: Of the paired t-test by itself; NaN without a test.
      adjusted_p: After Holm's correction over the family; NaN without a test.
      same: Whether the difference is the same in every seed, so that there is no test.
      outcome: Better or worse, where the adjusted p is below 0.05.
      comparisons: The size of the family.
    """

    change: Interval
    p: float
    adjusted_p: float
    same: bool
    outcome: Outcome
    comparisons: int

    @property
    def smallest_visible(self) -> float:
        """The smallest mean change that these seeds could show.

        It is NaN without a test.
        """
        return float(self.change.high - self.change.low) / 2 if np.isfinite(self.p) else float("nan")

    @property
    def tested(self) -> str:
        """The test in words: "p = 0.012 after Holm's correction for 28 comparisons"."""
        if np.isfinite(self.adjusted_p):
            return f"{p_value(self.adjusted_p)} after Holm’s correction for {self.comparisons} comparisons"
        return "the same in every seed: no test" if self.same else "too few seeds for a test"


class Change(NamedTuple):
    """The differences of one comparison.

    Attributes:
      differences: [R] method minus baseline, by seed.
      more_is_better: Whether a rise is for the better.
      resolution: Differences that are this close count as the same.
    """

    differences: np.ndarray
    more_is_better: bool
    resolution: float


def judge(changes: Mapping[K, Change], comparisons: int) -> dict[K, Verdict]:
    """The verdict on every comparison of a family.

    Args:
      changes: The comparisons that could be made.
      comparisons: How many were planned: those without numbers count too.

    Returns:
      The verdicts, by the keys of `changes`.

    Raises:
      ValueError: If more comparisons are given than were planned.
    """
    if len(changes) > comparisons:
        raise ValueError(f"{len(changes)} comparisons are given, more than the {comparisons} that were planned")
    p = np.full(comparisons, np.nan)
    p[: len(changes)] = [paired_p_value(c.differences, c.resolution) for c in changes.values()]
    verdicts = {}
    for (key, change), own, adjusted in zip(changes.items(), p, holm(p), strict=False):
        interval = simultaneous_interval(change.differences, comparisons)
        verdicts[key] = Verdict(
            change=interval,
            p=float(own),
            adjusted_p=float(adjusted),
            same=len(change.differences) > 1 and constant(change.differences, change.resolution),
            outcome=_outcome(float(interval.mean), float(adjusted), change.more_is_better),
            comparisons=comparisons,
        )
    return verdicts


def _outcome(mean: float, adjusted_p: float, more_is_better: bool) -> Outcome:
    if not adjusted_p < LEVEL:
        return Outcome.CHANCE
    return Outcome.BETTER if (mean > 0) == more_is_better else Outcome.WORSE
