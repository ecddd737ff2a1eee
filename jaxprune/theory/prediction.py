"""Scores of predictors of harm, computed from the dense network alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from jaxprune.types import Array


class PredictorScores(NamedTuple):
    """Scores of a predictor, each [...]; NaN where undefined.

    Attributes:
      spearman: Rank correlation over the groups, in [-1, 1].
      kendall: Kendall's τ_b over the groups, in [-1, 1].
      regret: How much more the group hurt most was hurt than the one that the predictor names, in the unit of what
        was observed: 0 where the call was right. Where several groups tie for the largest prediction, the mean over
        them.
      hit: 1 where the call was right, else 0; the share of the tied groups that were hurt most.
    """

    spearman: np.ndarray
    kendall: np.ndarray
    regret: np.ndarray
    hit: np.ndarray


def score_predictor(predictor: Array, observed: Array) -> PredictorScores:
    """Score a predictor that is large where harm is expected.

    Args:
      predictor: [..., G] figures of the dense network.
      observed: [..., G] what happened, such as R(a).

    Returns:
      The scores; groups where either side is not finite are left out, and at least two must remain (three for the
      correlations).
    """
    predictor, observed = np.broadcast_arrays(np.asarray(predictor, float), np.asarray(observed, float))
    flat = zip(predictor.reshape(-1, predictor.shape[-1]), observed.reshape(-1, observed.shape[-1]), strict=True)
    rows = np.array([_scores(a, b) for a, b in flat]).reshape(*predictor.shape[:-1], 4)
    return PredictorScores(*np.moveaxis(rows, -1, 0))


def rank_correlation(predictor: Array, observed: Array) -> np.ndarray:
    """Spearman's rank correlation over the groups.

    Args:
      predictor: [..., G] figures of the dense network.
      observed: [..., G] what happened, such as R(a).

    Returns:
      [...] correlations in [-1, 1]; NaN where either side is constant or not finite, or G < 3.
    """
    predictor, observed = np.broadcast_arrays(np.asarray(predictor, float), np.asarray(observed, float))
    flat = zip(predictor.reshape(-1, predictor.shape[-1]), observed.reshape(-1, observed.shape[-1]), strict=True)
    values = [_correlation(stats.spearmanr, a, b) for a, b in flat]
    return np.array(values).reshape(predictor.shape[:-1])


def uninformative_from(sparsities: Array, bound: Array, observed: Array, factor: float = 10.0) -> np.ndarray:
    """The lowest sparsity with an uninformative bound, for each group.

    A bound tells little where it is more than `factor` times what it bounds, nothing where no harm was done, and is
    wrong where it is below the harm.

    Args:
      sparsities: [S], rising.
      bound: [S, ...] such as the two terms of Theorem 1.
      observed: [S, ...] what happened.
      factor: How loose it may be.

    Returns:
      [...] the sparsity from which on it is never within the factor again: the lowest of all where it never is; NaN
      where it still is at the highest.
    """
    sparsities, bound, observed = np.asarray(sparsities, float), np.asarray(bound, float), np.asarray(observed, float)
    informative = (observed > 0) & (bound >= observed) & (bound <= factor * observed)
    after = np.where(informative.any(0), len(sparsities) - np.argmax(informative[::-1], 0), 0)
    return np.where(after < len(sparsities), sparsities[np.minimum(after, len(sparsities) - 1)], np.nan)


def _scores(a: np.ndarray, b: np.ndarray) -> list[float]:
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < 2 or np.ptp(a) == 0:
        return [float("nan")] * 4
    regrets = b.max() - b[a == a.max()]
    correlations = [_correlation(measure, a, b) for measure in (stats.spearmanr, stats.kendalltau)]
    return [*correlations, float(regrets.mean()), float(np.mean(regrets == 0))]


def _correlation(measure: Callable[..., Any], a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3 or not (np.isfinite(a).all() and np.isfinite(b).all()) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(measure(a, b).statistic)
