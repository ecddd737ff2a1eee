"""Criteria ranked by accuracy, at every sparsity and stage."""

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.numbers import NONE, p_number, percent, share_pruned
from jaxprune.quantities import QUANTITIES, Cell, cell
from jaxprune.reporting.criteria import RANKED, baseline_of, by_accuracy, capital, has_baseline, title_of, works
from jaxprune.reporting.methods import change_text
from jaxprune.reporting.page import Folded, Paragraph, Section, Table
from jaxprune.results import Results
from jaxprune.results.comparison import MEASURES
from jaxprune.results.criteria import Stage, stages_of
from jaxprune.results.verdicts import Verdict


def section(results: Results) -> Section:
    """A table for each sparsity and stage."""
    stages = stages_of(results)
    headlines = {stage.comparison(results).headline for stage in stages}
    tables = [
        Folded(
            share_pruned(sparsity),
            tuple(table for stage in stages if (table := _table(results, stage, sparsity)).rows),
            open=sparsity in headlines,
        )
        for sparsity in reversed(results.sparsities)
    ]
    contents = (Paragraph(_legend(results), "soft"), *tables)
    return Section("Criteria ranked by accuracy", contents, anchor="tables")


def _legend(results: Results) -> str:
    more = (
        f"Broken: networks of some seed no longer work; where {baseline_of(results)} is broken, its ψ and ξ "
        "may be small and mean nothing. summary.csv beside this report has every figure, methods.csv every difference, "
        "also of other splits."
    )
    if not all(has_baseline(results, stage) for stage in stages_of(results)):
        more = f"No Δ is given where {baseline_of(results)} works at no sparsity. {more}"
    if len(results.seeds) < MINIMUM_SEEDS:
        return f"Means over seeds; differences (Δ) are from {baseline_of(results)}, seed by seed. {more}"
    confidence = percent(results.settings["audit"]["confidence"])
    return (
        f"Means over seeds ± half the width of their {confidence} intervals, or with both ends where an interval is "
        f"cut off at the range of the figure. Δ: the mean paired difference from {baseline_of(results)}, and p after "
        "Holm’s correction for all criteria (and measures of fairness) of a table; blue and bold where clearly better, "
        f"orange where clearly worse. Hold the pointer over Δ for its interval for all comparisons at once. {more}"
    )


def _table(results: Results, stage: Stage, sparsity: float) -> Table:
    """The dense networks, then the criteria, the most accurate first.

    There are no differences where the baseline works at no sparsity.
    """
    comparison, split = stage.comparison(results), results.answered_split
    dense = comparison.figures(results.dense, split)
    verdicts = comparison.verdicts if has_baseline(results, stage) else {}
    rows: list[tuple[str | Cell, ...]] = []
    for criterion in by_accuracy(results, stage, sparsity):
        name = stage.networks[criterion]
        figures = comparison.figures(results.network(name, sparsity), split)
        whole, cells = works(results, name, sparsity), []
        for measure in RANKED:
            difference, p = _difference(verdicts.get((sparsity, name, measure)), measure)
            cells += [cell(results, figures[measure], measure), difference if whole else str(difference), p]
        rows.append((title_of(criterion) + ("" if whole else " (broken)"), *cells))
    if rows:
        blanks = (("" if part else QUANTITIES[m].text(np.mean(dense[m]))) for m in RANKED for part in range(3))
        rows.insert(0, ("Dense, not pruned", *blanks))
    titles = tuple((MEASURES[measure].title, 3) for measure in RANKED)
    return Table(
        ("criterion", *(("mean", "Δ", "p") * len(RANKED))),
        tuple(rows),
        f"{capital(stage.words)}, {share_pruned(sparsity)}, {split} split",
        above=(("", 1), *titles),
        ruled=frozenset({1}),
    )


def _difference(verdict: Verdict | None, measure: str) -> tuple[str | Cell, str]:
    """The difference from the baseline, and its adjusted p."""
    if verdict is None:
        return NONE, NONE
    low, mean, high = (
        change_text(end, measure) for end in (verdict.change.low, verdict.change.mean, verdict.change.high)
    )
    note = f"{low} to {high}; {verdict.tested}" if np.isfinite(verdict.change.low) else verdict.tested
    return Cell(mean, mark=verdict.outcome.value, note=note), p_number(verdict.adjusted_p)
