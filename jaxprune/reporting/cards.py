"""Results in a notebook: a short card of HTML, and a page shown inline."""

import html
from collections.abc import Sequence
from pathlib import Path

from jaxprune.errors import UserError
from jaxprune.reporting.short import ShortTable


class InlinePage:
    """A page that a notebook shows inline, its styles apart from the notebook's.

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


def card(sentences: Sequence[str], table: ShortTable | None, page: Path) -> str:
    """Draw what was found: sentences, a table, and where the page is."""
    paragraphs = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences)
    where = html.escape(str(page))
    link = f'<p>Report: <a href="{where}" target="_blank">{where}</a> (<code>.report()</code> shows it here)</p>'
    return f"<div>{paragraphs}{_table(table) if table else ''}{link}</div>"


def _table(table: ShortTable) -> str:
    sides = ["right" if number else "left" for number in table.numbers]

    def row(tag: str, texts: Sequence[str]) -> str:
        cells = [
            f'<{tag} style="text-align: {side}">{html.escape(text)}</{tag}>'
            for side, text in zip(sides, texts, strict=True)
        ]
        return f"<tr>{''.join(cells)}</tr>"

    body = "".join(row("td", texts) for texts in table.rows)
    return f"<table><caption>{html.escape(table.title)}</caption>{row('th', table.headings)}{body}</table>"
