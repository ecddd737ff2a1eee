"""What the chapter on the theory is made from: its sections, and the laboratory's values as arrays."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from jaxprune.reporting.cells import Cell
from jaxprune.reporting.findings import headline
from jaxprune.reporting.results import Results
from jaxprune.reporting.theory_findings import predictors, theory_of
from jaxprune.theory import score_predictor

FACTOR = 10.0  # a bound more than this many times what it bounds is called uninformative


@dataclass(frozen=True)
class Section:
    """A part of the chapter.

    Attributes:
      title: Its heading.
      sentences: What the numbers say.
      figure: The name of its figure, or empty.
      caption: Of the figure.
      alternative: What the figure shows, for readers who cannot see it.
      headings: Of the table.
      rows: Of the table.
      note: The caption of the table.
      summary: Of a table that is folded away until it is asked for; empty for one that is not.
      words: The columns of the table that hold words, not numbers.
    """

    title: str
    sentences: tuple[str, ...] = ()
    figure: str = ""
    caption: str = ""
    alternative: str = ""
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[str | Cell, ...], ...] = ()
    note: str = ""
    summary: str = ""
    words: tuple[int, ...] = (0,)


def measured(results: Results, measure: str, *path: str) -> np.ndarray:
    """An array of the laboratory; what is not finite, null in JSON, is NaN."""
    found: Any = (results.laboratory or {})[measure]
    for name in path:
        found = found[name]
    return np.array(found, dtype=float)


def shares(values: np.ndarray) -> np.ndarray:
    """Each over the sum over the groups, as the figures of the paper have it."""
    total = np.nansum(np.abs(values), -1, keepdims=True)
    return np.where(total > 0, values / np.where(total > 0, total, 1), np.nan)


def headline_index(results: Results) -> int:
    """The place of the headline's sparsity among the theory's."""
    return int(np.argmin(np.abs(theory_of(results).sparsities - headline(results).sparsity)))


def group_means(values: np.ndarray) -> np.ndarray:
    """[..., R, G] -> [..., G] means over the seeds with a number; NaN where none has one."""
    known = np.isfinite(values)
    total = np.sum(np.where(known, values, 0), -2)
    return np.where(known.any(-2), total / np.maximum(known.sum(-2), 1), np.nan)


def correlations(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Pearson's and Spearman's correlation over the groups, each [G]; NaN with fewer than three groups."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan"), float("nan")
    pearson: Any = stats.pearsonr(a, b)
    spearman: Any = stats.spearmanr(a, b)
    return float(pearson.statistic), float(spearman.statistic)


def predictor_scores(results: Results) -> dict[str, Any]:
    """Predictor -> its scores, leaves [S, R]."""
    observed = theory_of(results).observed
    return {name: score_predictor(values, observed) for name, values in predictors(results).items()}
