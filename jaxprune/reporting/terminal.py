"""The short tables that the terminal shows at the end of a command."""

from rich.table import Table
from rich.text import Text

from jaxprune.reporting.comparison import Comparison
from jaxprune.reporting.results import Results
from jaxprune.reporting.short import ShortTable, short_comparison, short_summary


def comparison_table(comparison: Comparison) -> Table:
    """Every method at the headline sparsity on the test split, chosen on validation."""
    return _table(short_comparison(comparison))


def summary_table(results: Results) -> Table:
    """Accuracy, worst group and spreads of every model at the headline sparsity."""
    return _table(short_summary(results))


def _table(short: ShortTable) -> Table:
    table = Table(pad_edge=False, title=Text(short.title), title_justify="left", box=None)
    for heading, number in zip(short.headings, short.numbers, strict=True):
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in short.rows:
        table.add_row(*map(Text, row))
    return table
