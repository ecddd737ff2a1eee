"""Reading sections of pages: tables as dictionaries, and figures by name."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure as Drawing

from jaxprune.quantities import Cell
from jaxprune.reporting.page import Section, Table
from jaxprune.reporting.reports import MakeSection, sections_of
from jaxprune.results import Results


def rows_of(table: Table) -> list[dict[str, Any]]:
    """The rows of a table by heading; of equal headings the last one counts."""
    return [dict(zip(table.headings, row, strict=True)) for row in table.rows]


def texts_of(section: Section | None) -> str:
    """All paragraphs and remarks of a section, subsections not included; empty for none."""
    return "" if section is None else " ".join(section.texts)


def figures_in(results: Results, sections: Sequence[MakeSection]) -> dict[str, Drawing]:
    """Name -> the figure, drawn, of every section that has one."""
    drawn = {figure.name: figure.draw() for section in sections_of(results, sections) for figure in section.figures}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def value_of(cell: str | Cell) -> float:
    """The number of a cell."""
    return float(cell.mean if isinstance(cell, Cell) else cell)
