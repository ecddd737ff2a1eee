"""The short tables that end a command and stand in a notebook."""

from typing import NamedTuple

from jaxprune.reporting.answer import answer_of
from jaxprune.reporting.cells import cell
from jaxprune.reporting.comparison import Comparison
from jaxprune.reporting.findings import headline
from jaxprune.reporting.numbers import PERCENT_LANDMARKS, percent, plural, signed
from jaxprune.reporting.results import MODEL_NAMES, Results
from jaxprune.reporting.tables import overall_figures

_OF_METHODS = {
    "accuracy": "accuracy %",
    "worst_group_accuracy": "worst %",
    "accuracy_spread": "spread %",
    "max_excess_accuracy_gap": "largest ψ %",
    "excessive_loss_spread": "spread ξ",
}


class ShortTable(NamedTuple):
    """A table of texts.

    Attributes:
      title: What it is about.
      headings: Of the columns.
      numbers: Whether each column holds numbers.
      rows: The texts of each row.
    """

    title: str
    headings: tuple[str, ...]
    numbers: tuple[bool, ...]
    rows: list[tuple[str, ...]]


def short_comparison(comparison: Comparison) -> ShortTable:
    """Every method at the headline sparsity on the test split, chosen on validation."""
    at = comparison.headline
    what = f"{comparison.settings['name']} by {comparison.settings['data']['group']}"
    title = f"{what}, test split, {percent(at)} pruned, {plural(len(comparison.seeds), 'seed')}"
    rows = []
    for method in comparison.methods:
        if (method, at) in comparison.chosen:
            figures = comparison.figures(comparison.chosen[method, at], "test")
            rows.append((comparison.titles[method], *(str(cell(comparison, figures[n], n)) for n in _OF_METHODS)))
    return ShortTable(title, ("method", *_OF_METHODS.values()), (False, *[True] * len(_OF_METHODS)), rows)


def short_summary(results: Results) -> ShortTable:
    """Accuracy, worst group and spreads of every model at the headline sparsity."""
    split, sparsity = headline(results)
    what = f"{results.settings['name']} by {results.settings['data']['group']}"
    title = f"{what}, {split} split, {percent(sparsity)} pruned, {plural(len(results.seeds), 'seed')}"
    headings = ("model", "accuracy %", "worst %", "spread %", "hurt most by accuracy, points", "by loss, nats")
    rows = []
    for model, at in [("dense", 0.0), *((model, sparsity) for model in results.models)]:
        figures = overall_figures(results, model, at, split)
        columns = ("accuracy", "worst_group_accuracy", "accuracy_spread")
        cells = [str(cell(results, figures[name], name)) for name in columns]
        measures = ("", "") if model == "dense" else ("accuracy", "loss")
        hurt = [_hurt_most(results, model, at, measure) if measure else "" for measure in measures]
        rows.append((MODEL_NAMES[model], *cells, *hurt))
    return ShortTable(title, headings, (False, True, True, True, False, False), rows)


def _hurt_most(results: Results, model: str, sparsity: float, measure: str) -> str:
    """The group hurt most by a measure, and by how much."""
    worst = answer_of(results, model, sparsity).measures[measure].worst
    if worst.change <= 0:
        return "none"
    if measure == "accuracy":
        return f"{worst.group} {signed(-100 * worst.change, 1, landmarks=PERCENT_LANDMARKS)}"
    return f"{worst.group} {signed(worst.change)}"
