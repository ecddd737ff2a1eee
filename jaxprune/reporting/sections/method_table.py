"""Every measure of every method at every sparsity, and of every candidate."""

from dataclasses import replace

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.numbers import NONE, percent, share_pruned
from jaxprune.quantities import QUANTITIES, Cell, cell
from jaxprune.reporting.methods import candidate_text, change_text
from jaxprune.reporting.page import Folded, Paragraph, Section, Table
from jaxprune.results import Results
from jaxprune.results.comparison import MEASURES, Comparison, compared

_COLUMNS = tuple(measure.title for measure in MEASURES.values())


def section(results: Results) -> Section:
    """A table for each sparsity and split, and one of the candidates."""
    comparison = compared(results)
    tables = [
        Folded(
            share_pruned(sparsity),
            tuple(_methods(comparison, sparsity, split) for split in ("test", "train")),
            open=sparsity == comparison.headline,
        )
        for sparsity in reversed(comparison.results.sparsities)
    ]
    contents = (Paragraph(_legend(comparison), "soft"), *tables, _candidates(comparison))
    return Section("All figures", contents, anchor="tables")


def _legend(comparison: Comparison) -> str:
    more = "summary.csv beside this report has every candidate, methods.csv every difference."
    confidence = comparison.results.settings["audit"]["confidence"]
    if len(comparison.results.seeds) < MINIMUM_SEEDS:
        return (
            "Means over seeds. Hold the pointer over a cell for the value of each seed and the difference from naive. "
            + more
        )
    return (
        f"Means over seeds ± half the width of their {percent(confidence)} intervals, "
        "or with both ends where an interval is cut off at the range of the figure. Blue and bold: the paired "
        "difference from naive is better, p below 0.05 after Holm’s correction for the "
        f"{comparison.comparisons} comparisons of a table; orange: worse. Overall accuracy is a family of its own, of "
        f"{len(comparison.methods) - 1}. The spread of ψ and the training split are not tested. Hold the pointer over "
        f"a cell for the difference, its interval for all comparisons at once, and its p. {more}"
    )


def _methods(comparison: Comparison, sparsity: float, split: str) -> Table:
    """The dense networks and each method's chosen network, one split."""
    dense = comparison.figures(comparison.results.dense, split)
    rows: list[tuple[str | Cell, ...]] = [("Dense, not pruned", "", *_means(dense))]
    for method in comparison.methods:
        network = comparison.chosen.get((method, sparsity))
        if network is not None:
            cells = [_cell(comparison, method, sparsity, split, measure) for measure in MEASURES]
            rows.append((comparison.results.title(method), Cell(candidate_text(network.values), mark="quiet"), *cells))
    headings = ("method", "chosen on validation", *_COLUMNS)
    return Table(headings, tuple(rows), f"{split.capitalize()} split", words=(0, 1), ruled=frozenset({1}))


def _cell(comparison: Comparison, method: str, sparsity: float, split: str, measure: str) -> Cell:
    """A mean with its interval, marked against the baseline."""
    values = comparison.figures(comparison.chosen[method, sparsity], split)[measure]
    mean = cell(comparison.results, values, measure)
    if method == comparison.baseline:
        return mean
    verdict = comparison.verdicts.get((sparsity, method, measure)) if split == "test" else None
    change = verdict.change if verdict else comparison.difference(method, sparsity, split, measure).change
    low, middle, high = (change_text(value, measure) for value in (change.low, change.mean, change.high))
    difference = f"against naive: {middle}{f' ({low} to {high})' if np.isfinite(change.low) else ''}"
    note = f"{difference}; {verdict.tested if verdict else 'not tested'}"
    return replace(mean, note=note, mark=verdict.outcome.value if verdict else "")


def _candidates(comparison: Comparison) -> Folded | None:
    """Every candidate at the headline sparsity, the chosen ones marked."""
    rows, chosen = [], set()
    for network in comparison.trials:
        if network.sparsity != comparison.headline or not network.values:
            continue
        note = " (diverged)" if network.trouble else ""
        if network.chosen:
            chosen.add(len(rows))
            note = " (chosen)"
        means = [NONE] * len(MEASURES) if network.trouble else _means(comparison.figures(network, "validation"))
        rows.append((comparison.results.title(network.name), candidate_text(network.values) + note, *means))
    if not rows:
        return None
    table = Table(("method", "candidate", *_COLUMNS), tuple(rows), words=(0, 1), marked=frozenset(chosen))
    return Folded("Every candidate on the validation split", (table,))


def _means(figures: dict[str, np.ndarray]) -> list[str]:
    return [QUANTITIES[measure].text(np.mean(figures[measure])) for measure in MEASURES]
