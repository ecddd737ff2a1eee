"""Permutation tests of how well predictors rank the groups."""

from itertools import permutations
from math import factorial
from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxprune.types import Array

_MOST_ENUMERATED = 7  # groups, whose 5,040 orders are all taken
_FEWEST_GROUPS = 10  # for an interval by a normal approximation
_ROUNDING = 1e-9  # correlations this close are equal


class PredictorTest(NamedTuple):
    """Rank correlations of K predictors with the harm, tested together.

    Attributes:
      correlation: [K] Spearman's correlation over the groups, mean over the seeds where it exists; NaN without one.
      p: [K] share of the orders of the groups that give the predictor as large a correlation (one-sided).
      adjusted_p: [K] share of the orders that give any of the predictors as large a correlation.
      chance: The correlation that the best predictor reaches by chance alone in one of twenty orders.
      groups: How many groups were ranked.
      judged: How many predictors have a correlation: the adjustment is for so many.
    """

    correlation: np.ndarray
    p: np.ndarray
    adjusted_p: np.ndarray
    chance: float
    groups: int
    judged: int


def permutation_test(predictors: Array, observed: Array, *, draws: int = 5000, seed: int = 0) -> PredictorTest:
    """Test all predictors together by permuting the groups of the observed harm.

    The single-step maximum-statistic procedure of Westfall and Young (Resampling-Based Multiple Testing, 1993): the
    observed ranks change places among the groups, in the same way in every seed, and the largest correlation over all
    predictors is compared with its distribution. Predictors may depend on each other in any way.

    Args:
      predictors: [K, R, G] large where harm is expected; those constant or not finite in a seed are left out of its
        mean.
      observed: [R, G] what happened, such as R(a). Groups that are not finite in some seed are left out.
      draws: Random orders, with more than seven groups; with up to seven all G! are taken.
      seed: Of the random orders.

    Returns:
      The test; NaN with fewer than three groups.

    Raises:
      ValueError: If the shapes do not fit.
    """
    predictors, observed = np.asarray(predictors, float), np.asarray(observed, float)
    if predictors.ndim != 3 or predictors.shape[1:] != observed.shape:
        raise ValueError(f"predictors {predictors.shape} must be [K, R, G] with observed {observed.shape} [R, G]")
    known = np.isfinite(observed).all(0)
    groups = int(known.sum())
    x, y = _standard_ranks(predictors[..., known]), _standard_ranks(observed[..., known])
    valid = np.isfinite(x).all(-1) & np.isfinite(y).all(-1)  # [K, R]
    judged = valid.any(-1)
    if groups < 3 or not judged.any():
        nothing = np.full(len(predictors), np.nan)
        return PredictorTest(nothing, nothing, nothing, float("nan"), groups, 0)
    weights = valid / np.maximum(valid.sum(1, keepdims=True), 1)
    x, y = np.nan_to_num(x) * weights[..., None], np.nan_to_num(y)
    correlation = np.where(judged, np.einsum("krg,rg->k", x, y), np.nan)
    orders, exact = _orders(groups, draws, seed)
    by_chance = np.einsum("krg,rpg->kp", x[judged], y[:, orders], optimize=True)  # [judged, P]
    largest = by_chance.max(0)
    p, adjusted = np.full((2, len(predictors)), np.nan)
    # Random orders do not hold the observed one: it is counted beside them, so that p is never 0.
    extra = 0 if exact else 1
    total = len(orders) + extra
    for row, k in enumerate(np.flatnonzero(judged)):
        reached = correlation[k] - _ROUNDING
        p[k] = (np.sum(by_chance[row] >= reached) + extra) / total
        adjusted[k] = (np.sum(largest >= reached) + extra) / total
    chance = float(np.sort(largest)[::-1][int(np.ceil(0.05 * len(orders))) - 1])
    return PredictorTest(correlation, p, adjusted, chance, groups, int(judged.sum()))


def correlation_interval(correlation: float, groups: int, confidence: float = 0.95) -> tuple[float, float]:
    """An interval over groups for Spearman's rank correlation.

    Fisher's transform with the standard error √((1 + ρ²/2) / (G − 3)) of Bonett and Wright (Psychometrika 65, 2000),
    as if the groups were drawn at random from many.

    Args:
      correlation: ρ.
      groups: G.
      confidence: The coverage.

    Returns:
      The ends; NaN with fewer than ten groups, where the approximation fails, and for |ρ| = 1.
    """
    if groups < _FEWEST_GROUPS or not abs(correlation) < 1:
        return float("nan"), float("nan")
    half = stats.norm.ppf((1 + confidence) / 2) * np.sqrt((1 + correlation**2 / 2) / (groups - 3))
    return float(np.tanh(np.arctanh(correlation) - half)), float(np.tanh(np.arctanh(correlation) + half))


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks [..., G] whose products sum to Spearman's ρ, or NaN."""
    if not values.shape[-1]:
        return values
    ranks = np.apply_along_axis(stats.rankdata, -1, values)
    ranks -= ranks.mean(-1, keepdims=True)
    length = np.linalg.norm(ranks, axis=-1, keepdims=True)
    ordered = np.isfinite(values).all(-1, keepdims=True) & (length > 0)
    return np.where(ordered, ranks / np.where(length > 0, length, 1), np.nan)


def _orders(groups: int, draws: int, seed: int) -> tuple[np.ndarray, bool]:
    """Orders of the groups [P, G], and True if they are all orders."""
    if groups <= _MOST_ENUMERATED:
        return np.array(list(permutations(range(groups)))).reshape(factorial(groups), groups), True
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(groups), (draws, 1)), axis=1), False
