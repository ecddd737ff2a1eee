"""The short tables that end a command and stand in a notebook."""

from typing import NamedTuple

from jaxprune.numbers import PERCENT_LANDMARKS, percent, plural, signed
from jaxprune.quantities import cell
from jaxprune.reporting.roles import headline
from jaxprune.results import Network, Results, answer_of
from jaxprune.results.comparison import compared
from jaxprune.results.figures import figures

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


def short_comparison(results: Results) -> ShortTable:
    """Every method at the headline sparsity on the answered split, chosen on validation."""
    comparison = compared(results)
    at = comparison.headline
    rows = []
    for method in comparison.methods:
        if (method, at) in comparison.chosen:
            values = comparison.figures(comparison.chosen[method, at], results.answered_split)
            rows.append((results.title(method), *(str(cell(results, values[name], name)) for name in _OF_METHODS)))
    headings = ("method", *_OF_METHODS.values())
    return ShortTable(_title(results, at), headings, (False, *[True] * len(_OF_METHODS)), rows)


def short_summary(results: Results) -> ShortTable:
    """Accuracy, worst group and spreads of every network at the headline sparsity."""
    split, sparsity = headline(results)
    headings = ("network", "accuracy %", "worst %", "spread %", "hurt most by accuracy, points", "by loss, nats")
    networks = [results.dense, *(results.network(name, sparsity) for name in results.models)]
    rows = []
    for network in networks:
        values = figures(results, network, split)
        columns = ("accuracy", "worst_group_accuracy", "accuracy_spread")
        measures = ("", "") if network.role == "dense" else ("accuracy", "loss")
        hurt = [_hurt_most(results, network, measure) if measure else "" for measure in measures]
        rows.append((network.title, *(str(cell(results, values[name], name)) for name in columns), *hurt))
    return ShortTable(_title(results, sparsity), headings, (False, True, True, True, False, False), rows)


def _title(results: Results, sparsity: float) -> str:
    what = f"{results.settings['name']} by {results.grouping}"
    seeds = plural(len(results.seeds), "seed")
    return f"{what}, {results.answered_split} split, {percent(sparsity)} pruned, {seeds}"


def _hurt_most(results: Results, network: Network, measure: str) -> str:
    """The group hurt most by a measure, and by how much."""
    worst = answer_of(results, network.name, network.sparsity).measures[measure].worst
    if worst.change <= 0:
        return "none"
    if measure == "accuracy":
        return f"{worst.group} {signed(-100 * worst.change, 1, landmarks=PERCENT_LANDMARKS)}"
    return f"{worst.group} {signed(worst.change)}"
