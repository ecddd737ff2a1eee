"""Intervals over seeds."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxprune.types import Array


class Interval(NamedTuple):
    """A mean over seeds and the interval of Student's t around it.

    Attributes:
      mean: The mean.
      low: The lower end.
      high: The upper end; both are NaN for a single seed.
    """

    mean: Array
    low: Array
    high: Array


def mean_interval(values: Array, axis: int = 0, confidence: float = 0.95) -> Interval:
    """The mean over replicas with its confidence interval, m ± t_{R-1} s / √R.

    The interval speaks of the seeds (initialisation and order), given the data; it does not cover the sampling of
    the people.

    Args:
      values: Numbers with a replica axis.
      axis: Which one that is.
      confidence: The coverage.

    Returns:
      The interval, the axis removed. NaN values are left out; with fewer than two, the ends are NaN.
    """
    values = np.asarray(values, np.float64)
    n = np.sum(~np.isnan(values), axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.nansum(values, axis)
        mean = np.where(n > 0, total / np.maximum(n, 1), np.nan)
        squares = np.nansum((values - np.expand_dims(mean, axis)) ** 2, axis)
        half = stats.t.ppf((1 + confidence) / 2, np.maximum(n - 1, 1)) * np.sqrt(squares / np.maximum(n - 1, 1) / n)
    half = np.where(n > 1, half, np.nan)
    return Interval(mean, mean - half, mean + half)
