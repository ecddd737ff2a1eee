"""The theory's numbers as arrays, and which of them are unreliable."""

from typing import Any

import numpy as np
from scipy import stats

from jaxprune.numbers import NONE, signed, significant
from jaxprune.quantities import Cell, seed_means
from jaxprune.reporting.roles import headline
from jaxprune.results import Results, TheoryResults
from jaxprune.types import Array


def theory_of(results: Results) -> TheoryResults:
    """The theory's results, which must exist."""
    assert results.theory is not None
    return results.theory


def has(results: Results, measure: str) -> bool:
    """Return whether a further measure of the theory was asked for."""
    return results.theory is not None and measure in (results.measures or {})


def measured(results: Results, measure: str, *path: str) -> np.ndarray:
    """An array of a further measure, with NaN for null."""
    values: Any = (results.measures or {})[measure]
    for name in path:
        values = values[name]
    return np.array(values, dtype=float)


def headline_index(results: Results) -> int:
    """The place of the headline's sparsity among the theory's."""
    return int(np.argmin(np.abs(theory_of(results).sparsities - headline(results).sparsity)))


def split_sizes(results: Results) -> np.ndarray:
    """[R, G] examples of each group on the theory's split."""
    theory = theory_of(results)
    return np.broadcast_to(np.array(results.group_sizes[theory.split], float), theory.gradient_norm.shape)


def shares(values: np.ndarray) -> np.ndarray:
    """Divide values [..., G] by their sum over the groups."""
    total = np.nansum(np.abs(values), -1, keepdims=True)
    return np.where(total > 0, values / np.where(total > 0, total, 1), np.nan)


def correlations(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Pearson's and Spearman's correlation of [G]; NaN with few groups."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan"), float("nan")
    pearson: Any = stats.pearsonr(a, b)
    spearman: Any = stats.spearmanr(a, b)
    return float(pearson.statistic), float(spearman.statistic)


def present(results: Results) -> np.ndarray:
    """[G] bool, the groups with examples on the theory's split."""
    return split_sizes(results)[0] > 0


def not_converged(results: Results, values: np.ndarray, converged: np.ndarray) -> np.ndarray:
    """[..., G] bool, whether a finite eigenvalue has missed its tolerance."""
    return np.asarray((np.asarray(converged) != 1) & np.isfinite(values) & present(results))


def unfinished_groups(results: Results) -> np.ndarray:
    """[G] bool, the groups whose dense λ missed its tolerance."""
    theory = theory_of(results)
    return np.any(not_converged(results, theory.eigenvalue, theory.converged), 0)


def overflowed(results: Results, values: np.ndarray) -> list[str]:
    """The groups with examples but with values [..., G] not finite."""
    failed = ~np.isfinite(values) & present(results)
    return [name for g, name in enumerate(results.group_names) if failed[..., g].any()]


def convergence(results: Results, values: np.ndarray, converged: np.ndarray, group: int) -> Cell:
    """A cell for the convergence of a group's eigenvalue [R, G]."""
    if not present(results)[group]:
        return Cell("no examples")
    if results.group_names[group] in overflowed(results, values):
        return Cell("NOT FINITE", mark="bad")
    return Cell("yes") if np.all(converged[:, group] == 1) else Cell("NO", mark="bad")


def largest_residual(residuals: np.ndarray) -> str:
    """The largest over seeds, to one digit."""
    return significant(np.max(residuals), 1) if np.isfinite(residuals).all() else NONE


def correlation_words(results: Results, first: str, a: Array, second: str, b: Array) -> str:
    """A sentence on the correlation of two measures [R, G]."""
    pearson, spearman = correlations(seed_means(a), seed_means(b))
    if np.isnan(pearson):
        few = "groups with different finite numbers" if len(results.group_names) >= 3 else "groups"
        return f"There are too few {few} to correlate {first} with {second}."
    return (
        f"Over the {len(results.group_names)} groups, {first} and {second} correlate by {signed(pearson, 2)} (Pearson) "
        f"and {signed(spearman, 2)} (Spearman): a description of these groups, without a test."
    )
