"""The short tables as the terminal shows them."""

from rich.table import Table as TerminalTable
from rich.text import Text

from jaxprune.reporting.page import Table


def terminal_table(table: Table) -> TerminalTable:
    """A table of a page for the terminal."""
    made = TerminalTable(pad_edge=False, title=Text(table.caption), title_justify="left", box=None)
    for column, heading in enumerate(table.headings):
        made.add_column(heading, justify="left" if column in table.words else "right", overflow="fold")
    for row in table.rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    return made
