"""Prunings ranked by accuracy, at every sparsity and stage."""

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.numbers import NONE, p_number, percent, share_pruned
from jaxprune.quantities import QUANTITIES, Cell, cell
from jaxprune.reporting.methods import change_text
from jaxprune.reporting.page import Folded, Paragraph, Section, Table
from jaxprune.reporting.prunings import (
    RANKED,
    answered,
    baseline_of,
    by_accuracy,
    capital,
    has_baseline,
    title_of,
    works,
)
from jaxprune.results import Network, Results
from jaxprune.results.comparison import MEASURES
from jaxprune.results.prunings import STRUCTURES_AXIS, Stage, axis_of, stages_of
from jaxprune.results.verdicts import Verdict

_COSTS = ("non-zeros", "bytes", "FLOPs")


def section(results: Results) -> Section:
    """A table for each sparsity and stage."""
    stages = stages_of(results)
    headlines = {answered(results, stage) for stage in stages}
    tables = [
        Folded(
            share_pruned(sparsity),
            tuple(table for stage in stages if (table := _table(results, stage, sparsity)).rows),
            open=sparsity in headlines,
        )
        for sparsity in reversed(results.sparsities)
    ]
    contents = (Paragraph(_legend(results), "soft"), *tables)
    return Section(f"{capital(axis_of(results).several)} ranked by accuracy", contents, anchor="tables")


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
        f"cut off at the range of the figure. {_about_costs(results)}Δ: the mean paired difference from "
        f"{baseline_of(results)}, and p after Holm’s correction for all {axis_of(results).several} (and measures of "
        "fairness) of a table; blue and bold where clearly better, orange where clearly worse. Hold the pointer over Δ "
        f"for its interval for all comparisons at once. {more}"
    )


def _about_costs(results: Results) -> str:
    if not _costs_of(results):
        return ""
    return (
        "Costs are those of the first seed: bytes with each array dense or packed as bits and non-zeros, and the FLOPs "
        "of the program as it runs, which masks do not lower. "
    )


def _table(results: Results, stage: Stage, sparsity: float) -> Table:
    """The dense networks, then the prunings, the most accurate first.

    There are no differences where the baseline works at no sparsity.
    """
    comparison, split = stage.comparison(results), results.answered_split
    dense = comparison.figures(results.dense, split)
    verdicts = comparison.verdicts if has_baseline(results, stage) else {}
    rows: list[tuple[str | Cell, ...]] = []
    for pruning in by_accuracy(results, stage, sparsity):
        name = stage.networks[pruning]
        figures = comparison.figures(results.network(name, sparsity), split)
        whole, cells = works(results, name, sparsity), list(_cost_cells(results, results.network(name, sparsity)))
        for measure in RANKED:
            difference, p = _difference(verdicts.get((sparsity, name, measure)), measure)
            cells += [cell(results, figures[measure], measure), difference if whole else str(difference), p]
        rows.append((title_of(results, pruning) + ("" if whole else " (broken)"), *cells))
    if rows:
        blanks = (("" if part else QUANTITIES[m].text(np.mean(dense[m]))) for m in RANKED for part in range(3))
        rows.insert(0, ("Dense, not pruned", *("100 %" for _ in _costs_of(results)), *blanks))
    costs, titles = _costs_of(results), tuple((MEASURES[measure].title, 3) for measure in RANKED)
    return Table(
        (axis_of(results).one, *costs, *(("mean", "Δ", "p") * len(RANKED))),
        tuple(rows),
        f"{capital(stage.words)}, {share_pruned(sparsity)}, {split} split",
        above=(("", 1), *([("cost, dense = 100 %", len(costs))] if costs else []), *titles),
        ruled=frozenset({1}),
    )


def _costs_of(results: Results) -> tuple[str, ...]:
    """The costs in the table: of compared structures, where counted."""
    return _COSTS if axis_of(results) == STRUCTURES_AXIS and results.costs else ()


def _cost_cells(results: Results, network: Network) -> tuple[str, ...]:
    """The costs of a network's smallest form, dense = 100 %."""
    if not _costs_of(results):
        return ()
    if network.key not in results.costs:
        return (NONE,) * len(_COSTS)
    costs = results.costs[network.key]
    form, dense = costs.forms[costs.best], costs.forms["dense"]
    pairs = (form.nonzeros / dense.nonzeros, form.bytes / dense.bytes, form.flops / dense.flops)
    return tuple(percent(share, 3) for share in pairs)


def _difference(verdict: Verdict | None, measure: str) -> tuple[str | Cell, str]:
    """The difference from the baseline, and its adjusted p."""
    if verdict is None:
        return NONE, NONE
    low, mean, high = (
        change_text(end, measure) for end in (verdict.change.low, verdict.change.mean, verdict.change.high)
    )
    note = f"{low} to {high}; {verdict.tested}" if np.isfinite(verdict.change.low) else verdict.tested
    return Cell(mean, mark=verdict.outcome.value, note=note), p_number(verdict.adjusted_p)
