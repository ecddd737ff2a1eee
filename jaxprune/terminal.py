"""A terminal that names from outside cannot write to as they like."""

from typing import Any

from rich.console import Console
from rich.text import Text

from jaxprune.text import printable


class PlainConsole(Console):
    """A terminal that interprets nothing in its text.

    Markup and names of emoji are plain text, and control characters are escaped.
    """

    def __init__(self, width: int | None = None, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, width=width, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text of a string, on one line."""
        return super().render_str(printable(text), **options)
