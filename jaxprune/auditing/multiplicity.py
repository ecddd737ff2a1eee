"""Paired tests and intervals over seeds, adjusted for the number of comparisons."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from jaxprune.auditing.intervals import MINIMUM_SEEDS, Interval, mean_interval
from jaxprune.types import Array

LEVEL = 0.05  # of a family of tests: the chance of any false claim in it


def paired_p_value(differences: Array, resolution: float = 0.0) -> float:
    """Compute the two-sided p-value of the paired t-test over seeds.

    The seeds share their test people, so the test speaks of other seeds (initialisations and orders of the examples),
    not of other people.

    Args:
      differences: [R] one for each seed.
      resolution: Differences that are this close to each other count as the same.

    Returns:
      p; NaN with fewer than `MINIMUM_SEEDS` seeds, with differences that are not finite, and where all seeds have the
      same difference: there is then no spread to test against.
    """
    differences = np.asarray(differences, float)
    if len(differences) < MINIMUM_SEEDS or not np.isfinite(differences).all() or constant(differences, resolution):
        return float("nan")
    test: Any = stats.ttest_1samp(differences, 0)
    return float(test.pvalue)


def constant(differences: Array, resolution: float = 0.0) -> bool:
    """Return True if all seeds differ equally, up to a resolution."""
    return bool(np.ptp(np.asarray(differences, float)) <= resolution)


def holm(p: Array | Sequence[float]) -> np.ndarray:
    """Adjust p-values by Holm's step-down method.

    Scandinavian Journal of Statistics 6, 1979. A claim for every adjusted p below α is wrong anywhere in the family
    with a chance of at most α, however the tests depend on each other.

    Args:
      p: [M] the p-values of the whole family. NaN stands for a member without a test.

    Returns:
      [M] adjusted p-values; NaN where `p` is. Such members count: the family keeps its size M.
    """
    p = np.asarray(p, float)
    order = np.argsort(p)  # NaN come last
    steps = np.minimum(1, (len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted


def simultaneous_interval(values: Array, comparisons: int, axis: int = 0, level: float = LEVEL) -> Interval:
    """Compute means over seeds with intervals that hold simultaneously.

    Student's interval at the level 1 − α/m (Bonferroni), m ± t_{R-1, 1-α/(2m)} s / √R: that all m of a family cover
    their means has a chance of at least 1 − α. Half its width is the smallest mean change that these seeds could have
    told from chance.

    Args:
      values: Numbers with a seed axis.
      comparisons: m, the size of the family.
      axis: The seed axis.
      level: α of the whole family.

    Returns:
      The interval, the axis removed; with NaN ends for fewer than `MINIMUM_SEEDS` seeds.

    Raises:
      ValueError: If there are no comparisons.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons = {comparisons}: a family has at least one")
    mean, low, high = mean_interval(values, axis, 1 - level / comparisons)
    if np.shape(values)[axis] < MINIMUM_SEEDS:
        low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    return Interval(mean=mean, low=low, high=high)
