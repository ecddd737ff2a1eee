"""Moderated variances of many groups from few seeds."""

from typing import Any

import numpy as np
from scipy import optimize, special


def moderated(variances: np.ndarray, freedom: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw variances towards the value that they have in common.

    Empirical Bayes after Smyth (Statistical Applications in Genetics and Molecular Biology 3, 2004): the true variances
    are taken for draws from a scaled inverse χ² distribution, whose scale and degrees of freedom d₀ are fitted to the
    mean and the variance of log s². A t statistic with the moderated variance then has d + d₀ degrees of freedom. As
    the contrasts of G groups depend on each other, d + d₀ is at most (G - 1) d: for two groups nothing is gained.

    Args:
      variances: [G, M] variances s² of G groups; those that are NaN or 0 are left out of the fit.
      freedom: d, the degrees of freedom of each.

    Returns:
      [G, M] moderated variances, and [M] their degrees of freedom.
    """
    moderate = np.array(variances, np.float64)
    degrees = np.full(moderate.shape[1], float(freedom))
    for m in range(moderate.shape[1]):
        usable = np.isfinite(moderate[:, m]) & (moderate[:, m] > 0)
        most = (usable.sum() - 2) * freedom
        if most <= 0:
            continue
        logs = np.log(moderate[usable, m]) - special.digamma(freedom / 2) + np.log(freedom / 2)
        excess = logs.var(ddof=1) - special.polygamma(1, freedom / 2)
        prior = min(2 * _inverse_trigamma(excess) if excess > 0 else np.inf, most)
        scale = np.exp(logs.mean() + special.digamma(prior / 2) - np.log(prior / 2))
        moderate[usable, m] = (prior * scale + freedom * moderate[usable, m]) / (prior + freedom)
        degrees[m] = freedom + prior
    return moderate, degrees


def _inverse_trigamma(value: float) -> float:
    """The x > 0 with trigamma(x) = value."""
    low, high = 1e-6, 1e6
    if value >= special.polygamma(1, low):
        return low
    if value <= special.polygamma(1, high):
        return high
    root: Any = optimize.brentq(lambda x: special.polygamma(1, x) - value, low, high)
    return float(root)
