"""Names of tensors as messages show them: on one line, without characters that control a terminal."""

from collections.abc import Sequence

_MOST = 5
_LONGEST = 120  # of a name in a list


def printable(text: object, most: int | None = None) -> str:
    r"""A text with every invisible character as an escape, such as \x1b; shortened to `most` characters or so."""
    text = str(text)
    text = text if most is None or len(text) <= most else f"{text[: most - 20]}…{text[-19:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _MOST
    shown = ", ".join(printable(name, _LONGEST) for name in names[:_MOST])
    return shown + (f" and {more:,} more" if more > 0 else "")
