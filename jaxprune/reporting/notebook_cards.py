"""Results in a notebook: a short card and an inline page."""

import html
from collections.abc import Sequence
from pathlib import Path

from jaxprune.errors import UserError
from jaxprune.quantities import Cell
from jaxprune.reporting.page import Table


class InlinePage:
    """A page that a notebook shows inline, with its own styles.

    Attributes:
      path: The file.
      height: Pixels of the frame that it is shown in.
    """

    def __init__(self, path: Path, height: int = 700):
        self.path, self.height = path, height

    def __repr__(self) -> str:
        return f"InlinePage({str(self.path)!r})"

    def _repr_html_(self) -> str:
        try:
            content = self.path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{self.path} cannot be read ({error.strerror}); run again to write it anew") from None
        style = f"width: 100%; height: {int(self.height)}px; border: 1px solid #bbb; background: white"
        return f'<div><iframe srcdoc="{html.escape(content)}" style="{style}"></iframe></div>'


def card(sentences: Sequence[str], table: Table | None, page: Path) -> str:
    """Results as short HTML: sentences, a table, and where the page is."""
    paragraphs = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
    where = html.escape(str(page))
    link = f'<p>Report: <a href="{where}" target="_blank">{where}</a> (<code>.report()</code> shows it here)</p>'
    return f"<div>{paragraphs}{_table(table) if table else ''}{link}</div>"


def _table(table: Table) -> str:
    def row(tag: str, cells: Sequence[str | Cell]) -> str:
        sides = ("left" if column in table.words else "right" for column in range(len(cells)))
        made = (
            f'<{tag} style="text-align: {side}">{html.escape(str(cell))}</{tag}>'
            for side, cell in zip(sides, cells, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(row("td", cells) for cells in table.rows)
    return f"<table><caption>{html.escape(table.caption)}</caption>{row('th', table.headings)}{body}</table>"
