"""The short tables that end a command and stand in a notebook."""

from jaxprune.numbers import plural, share_pruned
from jaxprune.quantities import QUANTITIES, cell
from jaxprune.reporting.page import Table
from jaxprune.reporting.prunings import answered, by_accuracy, title_of, where
from jaxprune.reporting.roles import headline
from jaxprune.results import Network, Results, answer_of
from jaxprune.results.comparison import compared
from jaxprune.results.figures import figures
from jaxprune.results.prunings import axis_of, stages_of

_OF_NETWORKS = {"accuracy": "accuracy %", "worst_group_accuracy": "worst %", "accuracy_spread": "spread %"}
_OF_METHODS = _OF_NETWORKS | {"max_excess_accuracy_gap": "largest ψ %", "excessive_loss_spread": "spread ξ"}


def short_comparison(results: Results) -> Table:
    """Every chosen method at the headline sparsity and split."""
    comparison, rows = compared(results), []
    for method in comparison.methods:
        if (method, comparison.headline) in comparison.chosen:
            values = comparison.figures(comparison.chosen[method, comparison.headline], results.answered_split)
            rows.append((results.title(method), *(cell(results, values[name], name) for name in _OF_METHODS)))
    return Table(("method", *_OF_METHODS.values()), tuple(rows), _caption(results, comparison.headline))


def short_prunings(results: Results) -> Table:
    """Every compared pruning at each stage's headline, the most accurate first."""
    rows = []
    for stage in stages_of(results):
        comparison = stage.comparison(results)
        sparsity = answered(results, stage)
        for pruning in by_accuracy(results, stage, sparsity):
            network = results.network(stage.networks[pruning], sparsity)
            values = comparison.figures(network, results.answered_split)
            cells = (cell(results, values[name], name) for name in _OF_METHODS)
            rows.append((title_of(results, pruning), where(results, stage), *cells))
    what = f"{results.settings['name']} by {results.grouping}, {results.answered_split} split"
    caption = f"{what}, {plural(len(results.seeds), 'seed')}"
    return Table((axis_of(results).one, "networks", *_OF_METHODS.values()), tuple(rows), caption, words=(0, 1))


def short_summary(results: Results) -> Table:
    """Accuracy, worst group and spreads of every network at the headline sparsity."""
    split, sparsity = headline(results)
    rows = []
    for network in [results.dense, *(results.network(name, sparsity) for name in results.models)]:
        values = figures(results, network, split)
        measures = ("", "") if network.role == "dense" else ("accuracy", "loss")
        harm = [_hurt_most(results, network, measure) if measure else "" for measure in measures]
        rows.append((network.title, *(cell(results, values[name], name) for name in _OF_NETWORKS), *harm))
    headings = ("network", *_OF_NETWORKS.values(), "hurt most by accuracy, points", "by loss, nats")
    return Table(headings, tuple(rows), _caption(results, sparsity), words=(0, 4, 5))


def _caption(results: Results, sparsity: float) -> str:
    what = f"{results.settings['name']} by {results.grouping}, {results.answered_split} split"
    return f"{what}, {share_pruned(sparsity)}, {plural(len(results.seeds), 'seed')}"


def _hurt_most(results: Results, network: Network, measure: str) -> str:
    """The group hurt most by a measure, and by how much."""
    worst = answer_of(results, network.name, network.sparsity).measures[measure].worst
    if worst.change <= 0:
        return "none"
    if measure == "accuracy":
        return f"{worst.group} {QUANTITIES['accuracy_drop'].text(-worst.change)}"
    return f"{worst.group} {QUANTITIES['excessive_loss'].text(worst.change)}"
