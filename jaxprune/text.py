"""Makes names from outside safe to show and store."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_JOINERS = "\u200c\u200d"  # between letters of Persian or Hindi, or within an emoji, they belong to the text
_CELL = re.compile(r"[=+\-@\t\r]")
NOT_UTF8 = "it is not UTF-8 text"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def printable(text: str, *, keep: str = "") -> str:
    r"""Show characters that control a terminal or cannot be seen as escapes.

    These are control characters, line ends, marks that reverse the direction of text, other invisible characters, and
    what is no character of Unicode, such as the bytes of a path that is not UTF-8.

    Args:
      text: Any text, such as the name of a group.
      keep: Characters that are left as they are, such as a newline.

    Returns:
      One line of visible text.

    Example:
      >>> printable("a\x1b[31m\u202eb\nc")
      'a\\x1b[31m\\u202eb\\nc'
    """
    if text.isprintable():  # most names: no invisible character but the space
        return text
    return "".join(c if c in keep or _is_visible(c) or _joins(text, i) else _escape(c) for i, c in enumerate(text))


def shortened(text: str, most: int) -> str:
    """Shorten a text to at most `most` characters, in its middle."""
    if len(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def name_some(names: Sequence[str], most: int = 10, *, separator: str = ", ") -> str:
    """List the first names, such as "a, b and 5 more"."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{separator.join(shortened(name, 80) for name in names[:most])}{more}"


def shown_names(names: Sequence[str], most: int | None = None) -> list[str]:
    """Make names printable and keep them apart.

    Of names that would look the same, each is followed by its place in the list.

    Args:
      names: Names that differ.
      most: Longer ones are shortened to this many characters; None for no limit.

    Returns:
      A printable name for each; "(no name)" for one without visible characters.
    """
    shown = [printable(name) if name.strip() else "(no name)" for name in names]
    shown = shown if most is None else [shortened(name, most) for name in shown]
    looks = Counter(unicodedata.normalize("NFC", name) for name in shown)
    repeated = {name for name, count in looks.items() if count > 1}
    return [
        f"{name} (no. {i + 1})" if repeated and unicodedata.normalize("NFC", name) in repeated else name
        for i, name in enumerate(shown)
    ]


def inert_cell(text: str) -> str:
    """Escape a CSV cell that a spreadsheet would take for a formula.

    A text that begins with =, +, -, @, a tab or a carriage return, and is no number, gets an apostrophe before it.
    """
    text = "".join(_escape(c) if unicodedata.category(c) == "Cs" else c for c in text)  # UTF-8 has no surrogates
    return f"'{text}" if _CELL.match(text) and not _NUMBER.fullmatch(text) else text


def path_fault(text: str) -> str:
    """Describe the fault of a path that no file system can hold."""
    if "\0" in text:
        return "a name of a file has no NUL character"
    try:
        parts = text.encode("utf-8").split(b"/")
    except UnicodeEncodeError:
        return NOT_UTF8
    if len(text.encode()) > 4000 or max(map(len, parts)) > 255:
        return "it is longer than file systems allow"
    return ""


def digest_of(text: str, digits: int) -> str:
    """The first digits of the SHA-256 of any text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _joins(text: str, place: int) -> bool:
    """Return True if a joiner stands between two characters beyond ASCII."""
    return text[place] in _JOINERS and 0 < place < len(text) - 1 and min(text[place - 1], text[place + 1]) > "\x7f"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
