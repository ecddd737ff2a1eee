"""Pages as sections of text, tables and figures, and their HTML."""

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import matplotlib.figure

from jaxprune.quantities import Cell
from jaxprune.reporting.style import save_figure
from jaxprune.text import printable

MOST_ROWS = 50  # of a table or a figure that shows every row
_OF_EACH_END = 10  # rows of a longer table

T = TypeVar("T")


@dataclass(frozen=True)
class Paragraph:
    """A paragraph with its own look; plain ones are strings.

    Attributes:
      text: Text, or `markupsafe.Markup` for constant HTML.
      look: "answer" for the main statement, "strong", or "soft" for notes.
    """

    text: str
    look: str


@dataclass(frozen=True)
class Bullets:
    """A list of remarks.

    Attributes:
      items: One text each.
    """

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Text shown as it is, such as a command or a file.

    Attributes:
      text: Its lines.
    """

    text: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      headings: One for each column.
      rows: A text or a `Cell` for each column.
      caption: What the numbers are.
      words: The columns that hold words, aligned left.
      above: A first row of headings, each with the number of columns that it spans; empty for none.
      from_worst: Whether the rows go from the group hurt most to the one hurt least: of many, both ends are shown.
      ruled: The rows with a line above them.
      marked: The rows with a coloured background.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    caption: str = ""
    words: tuple[int, ...] = (0,)
    above: tuple[tuple[str, int], ...] = ()
    from_worst: bool = False
    ruled: frozenset[int] = frozenset()
    marked: frozenset[int] = frozenset()

    @property
    def is_long(self) -> bool:
        """Return True if there are more rows than are shown at once."""
        return len(self.rows) > MOST_ROWS


@dataclass(frozen=True)
class Figure:
    """A figure, drawn when the page is rendered.

    Attributes:
      name: Of its files, without a suffix.
      draw: Draws it, or returns None where there is nothing to show; it is then left out.
      caption: What it shows and how to read it.
      alternative: What it shows, for readers who cannot see it.
      narrow: Draws it for narrow windows, with its panels below each other; None where the wide one is scrolled there.
    """

    name: str
    draw: Callable[[], matplotlib.figure.Figure | None]
    caption: str
    alternative: str
    narrow: Callable[[], matplotlib.figure.Figure | None] | None = None


@dataclass(frozen=True)
class Folded:
    """Contents that are folded away until a click on their summary.

    Attributes:
      summary: The line that is always shown.
      contents: What is folded away.
      open: Whether they are shown at first.
    """

    summary: str
    contents: tuple["Content", ...]
    open: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading, or a subsection.

    Attributes:
      title: Its heading.
      contents: Texts, tables, figures and subsections in the order of the page; None is left out.
      anchor: Its address within the page; sections that have one are listed at the top.
    """

    title: str
    contents: tuple["Content | None", ...] = ()
    anchor: str = ""

    @property
    def texts(self) -> list[str]:
        """The paragraphs and remarks, without those of subsections."""
        found = []
        for part in self.contents:
            if isinstance(part, str):
                found.append(part)
            elif isinstance(part, Paragraph):
                found.append(part.text)
            elif isinstance(part, Bullets):
                found += part.items
        return found

    @property
    def tables(self) -> list[Table]:
        """All tables, those of subsections too."""
        return list(_parts(self.contents, Table))

    @property
    def figures(self) -> list[Figure]:
        """All figures, those of subsections too."""
        return list(_parts(self.contents, Figure))


Content = str | Paragraph | Bullets | Code | Table | Figure | Folded | Section


def rules(rows: Sequence[Sequence[str | Cell]]) -> frozenset[int]:
    """The rows whose first cell differs from the row before, for `Table.ruled`."""
    return frozenset(i for i in range(1, len(rows)) if rows[i][0] != rows[i - 1][0])


def in_middle(place: int, count: int) -> bool:
    """Return whether a row is between the ends of a long table."""
    return count > MOST_ROWS and _OF_EACH_END <= place < count - _OF_EACH_END


def render(
    title: str,
    heading: str,
    about: str,
    sections: Sequence[Section],
    folder: Path | None,
    advance: Callable[[], None] = lambda: None,
) -> str:
    """Draw the figures of a page and return its self-contained HTML.

    Args:
      title: Of the window.
      heading: Of the page.
      about: One sentence below the heading.
      sections: In order.
      folder: Where the figures go as SVG and PNG; None renders the page without figures.
      advance: Called after the figures of each section.

    Returns:
      The page.
    """
    images = {}
    for section in sections:
        for figure in section.figures if folder is not None else ():
            assert folder is not None
            for name, draw in ((figure.name, figure.draw), (f"{figure.name}-narrow", figure.narrow)):
                if draw is not None and save_figure(name, draw, folder):
                    content = (folder / f"{name}.svg").read_bytes()
                    images[name] = "data:image/svg+xml;base64," + base64.b64encode(content).decode()
        advance()
    return _templates().get_template("page.html.j2").render(
        title=title, heading=heading, about=about, sections=sections, images=images,
        sortable=any(table.is_long for section in sections for table in section.tables),
    )  # fmt: skip


def _templates() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_finish
    )
    environment.globals |= {"most_rows": MOST_ROWS, "in_middle": in_middle}
    environment.filters["kind"] = lambda part: type(part).__name__
    return environment


def _finish(value: Any) -> Any:
    """Make text printable, with a narrow space before percent signs."""
    return re.sub(r"(?<=\d) %", "\u202f%", printable(value, keep="\n")) if type(value) is str else value


def _parts(contents: Sequence[Content | None], kind: type[T]) -> Iterator[T]:
    for part in contents:
        if isinstance(part, kind):
            yield part
        elif isinstance(part, Folded | Section):
            yield from _parts(part.contents, kind)
