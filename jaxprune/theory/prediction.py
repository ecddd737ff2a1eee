"""How well a figure of the dense network ranks the groups by what pruning then does to them."""

from typing import Any

import numpy as np
from scipy import stats

from jaxprune.types import Array


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
    values = [_spearman(a, b) for a, b in flat]
    return np.array(values).reshape(predictor.shape[:-1])


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 3 or not (np.isfinite(a).all() and np.isfinite(b).all()) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    correlation: Any = stats.spearmanr(a, b)
    return float(correlation.statistic)
