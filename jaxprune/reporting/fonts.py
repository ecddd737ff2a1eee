"""Fonts that have the letters of names in any script."""

from collections.abc import Iterable
from functools import cache

from matplotlib import font_manager

_FIRST = "DejaVu Sans"  # which comes with matplotlib
# Fonts with letters that it lacks, as systems have them; the first ones cover Chinese, Japanese and Korean.
_FURTHER = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK TC", "Noto Sans CJK KR", "Noto Sans JP", "Noto Sans SC",
    "Noto Sans TC", "Noto Sans KR", "Source Han Sans", "IPAexGothic", "IPAGothic", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Droid Sans Fallback", "Arial Unicode MS", "Hiragino Sans", "PingFang SC",
    "Apple SD Gothic Neo", "Microsoft YaHei", "SimHei", "Yu Gothic", "MS Gothic", "Malgun Gothic", "NanumGothic",
    "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil",
    "Noto Sans Telugu", "Noto Sans Thai", "Noto Sans Ethiopic", "Nirmala UI", "Leelawadee UI", "Noto Emoji",
    "Segoe UI Emoji", "Segoe UI Symbol", "Symbola", "Unifont",
)  # fmt: skip
_UNDRAWN = "\u200c\u200d\ufe0e\ufe0f"  # joiners and variants of the character before


@cache
def families() -> tuple[str, ...]:
    """The font families for figures, in order of preference."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ("sans-serif", *(name for name in _FURTHER if name in installed))


def missing_letters(texts: Iterable[str]) -> str:
    """Letters of some texts that no font for figures has.

    Each letter is listed once.
    """
    there = _letters(_FIRST)
    letters = [c for c in dict.fromkeys("".join(texts)) if ord(c) not in there and c not in _UNDRAWN]
    for family in families()[1:] if letters else ():
        letters = [c for c in letters if ord(c) not in _letters(family)]
    return "".join(letters)


def font_file(text: str, *, bold: bool = False) -> str:
    """The file of the font that has most letters of a text."""
    best = min((_FIRST, *families()[1:]), key=lambda family: sum(ord(c) not in _letters(family) for c in text))
    weight = "bold" if bold else "normal"
    return font_manager.findfont(font_manager.FontProperties(family=[best], weight=weight))


@cache
def _letters(family: str) -> frozenset[int]:
    """The code points that a font has."""
    path = font_manager.findfont(font_manager.FontProperties(family=[family]))
    return frozenset(font_manager.get_font(path).get_charmap())
