"""Intervals over seeds."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxprune.types import Array

MINIMUM_SEEDS = 4  # with three, Student's factor is 4.3 and with two 12.7: the interval says nothing


class Interval(NamedTuple):
    """A mean over seeds and the interval of Student's t around it.

    Attributes:
      mean: The mean.
      low: The lower end.
      high: The upper end; both are NaN for fewer than `MINIMUM_SEEDS` seeds.
    """

    mean: Array
    low: Array
    high: Array


def mean_interval(
    values: Array, axis: int = 0, confidence: float = 0.95, *, lower: float = -np.inf, upper: float = np.inf
) -> Interval:
    """Compute the mean over seeds and its interval within a range.

    The interval is m ± t_{R-1} s / √R. The interval describes the seeds (initialisation and order), given the data; it
    does not cover the sampling of the people. It is cut off at the range of the quantity: the true mean lies inside of
    the range, so this loses no coverage. Student's interval itself covers somewhat less where the values are skewed,
    near an end of the range.

    Args:
      values: Numbers with a seed axis.
      axis: The seed axis.
      confidence: The coverage.
      lower: The least value that the quantity can have, such as 0 for an accuracy.
      upper: The greatest value that the quantity can have.

    Returns:
      The interval, the axis removed. NaN values are left out; with fewer than `MINIMUM_SEEDS` others, the ends are
      NaN.

    Raises:
      ValueError: If `lower` is above `upper`.
    """
    if lower > upper:
        raise ValueError(f"mean_interval: lower = {lower} is above upper = {upper}; swap them")
    values = np.asarray(values, np.float64)
    n = np.sum(~np.isnan(values), axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.nansum(values, axis)
        mean = np.where(n > 0, total / np.maximum(n, 1), np.nan)
        squares = np.nansum((values - np.expand_dims(mean, axis)) ** 2, axis)
        half = stats.t.ppf((1 + confidence) / 2, np.maximum(n - 1, 1)) * np.sqrt(squares / np.maximum(n - 1, 1) / n)
    half = np.where(n >= MINIMUM_SEEDS, half, np.nan)
    return Interval(mean, np.clip(mean - half, lower, upper), np.clip(mean + half, lower, upper))
