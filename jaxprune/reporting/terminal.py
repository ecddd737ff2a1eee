"""The short tables that the terminal shows at the end of a command."""

from rich.table import Table
from rich.text import Text

from jaxprune.reporting.answer import answer_of
from jaxprune.reporting.cells import cell
from jaxprune.reporting.comparison import Comparison
from jaxprune.reporting.findings import headline
from jaxprune.reporting.numbers import PERCENT_LANDMARKS, percent, plural, signed
from jaxprune.reporting.results import MODEL_NAMES, Results
from jaxprune.reporting.tables import overall_figures


def comparison_table(comparison: Comparison) -> Table:
    """Every method at the headline sparsity on the test split, chosen on validation."""
    at = comparison.headline
    what = f"{comparison.settings['name']} by {comparison.settings['data']['group']}"
    seeds = plural(len(comparison.seeds), "seed")
    table = Table(
        pad_edge=False, title=Text(f"{what}, test split, {percent(at)} pruned, {seeds}"), title_justify="left", box=None
    )
    table.add_column("method")
    columns = (
        "accuracy",
        "worst_group_accuracy",
        "accuracy_spread",
        "max_excess_accuracy_gap",
        "excessive_loss_spread",
    )
    for heading in ("accuracy %", "worst %", "spread %", "largest ψ %", "spread ξ"):
        table.add_column(heading, justify="right")
    for method in comparison.methods:
        if (method, at) in comparison.chosen:
            figures = comparison.figures(comparison.chosen[method, at], "test")
            table.add_row(Text(comparison.titles[method]), *(str(cell(comparison, figures[n], n)) for n in columns))
    return table


def summary_table(results: Results) -> Table:
    """Accuracy, worst group and spreads of every model at the headline sparsity."""
    split, sparsity = headline(results)
    what = f"{results.settings['name']} by {results.settings['data']['group']}"
    seeds = plural(len(results.seeds), "seed")
    table = Table(
        pad_edge=False,
        title=Text(f"{what}, {split} split, {percent(sparsity)} pruned, {seeds}"),
        title_justify="left",
        box=None,
    )
    for heading in ("model", "accuracy %", "worst %", "spread %", "hurt most by accuracy, points", "by loss, nats"):
        table.add_column(heading, justify="right" if "%" in heading else "left", overflow="fold")
    for model, at in [("dense", 0.0), *((model, sparsity) for model in results.models)]:
        figures = overall_figures(results, model, at, split)
        columns = ("accuracy", "worst_group_accuracy", "accuracy_spread")
        cells = [str(cell(results, figures[name], name)) for name in columns]
        measures = () if model == "dense" else ("accuracy", "loss")
        hurt = [_hurt_most(results, model, at, measure) for measure in measures]
        table.add_row(MODEL_NAMES[model], *cells, *map(Text, hurt))
    return table


def _hurt_most(results: Results, model: str, sparsity: float, measure: str) -> str:
    """The group hurt most by a measure, and by how much."""
    worst = answer_of(results, model, sparsity).measures[measure].worst
    if worst.change <= 0:
        return "none"
    if measure == "accuracy":
        return f"{worst.group} {signed(-100 * worst.change, 1, landmarks=PERCENT_LANDMARKS)}"
    return f"{worst.group} {signed(worst.change)}"
