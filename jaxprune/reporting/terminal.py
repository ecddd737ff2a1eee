"""The short tables that the terminal shows at the end of a command."""

from rich.table import Table
from rich.text import Text

from jaxprune.reporting.short import ShortTable


def terminal_table(short: ShortTable) -> Table:
    """A short table for the terminal."""
    table = Table(pad_edge=False, title=Text(short.title), title_justify="left", box=None)
    for heading, number in zip(short.headings, short.numbers, strict=True):
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in short.rows:
        table.add_row(*map(Text, row))
    return table
