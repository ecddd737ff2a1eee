"""Numbers as text: percentages, intervals, counts, lists and p-values."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import SupportsFloat

NONE = "–"  # where there is no number
PERCENT_LANDMARKS = (-100, 0, 100)  # what a percentage, or a number of points, reads as only if it is so
_PREFIXES = {-3: "n", -2: "µ", -1: "m", 0: "", 1: "k", 2: "M", 3: "G", 4: "T"}
_MOST_DECIMALS = 4  # of a percentage; finer differences are those of float32


def percent(share: float, digits: int = 4) -> str:
    """A share as a percentage, such as "99.5 %" for 0.995.

    It reads "100 %" or "0 %" only if the share is exactly 1 or 0.

    Args:
      share: A share of 1; negative for a decrease.
      digits: Significant digits at most; more are written where fewer would read as 0 % or 100 %.

    Returns:
      The percentage, with a plain space.
    """
    value = 100 * float(share) + 0.0  # without the sign of -0.0
    if not math.isfinite(value):
        return NONE
    least = 10.0**-_MOST_DECIMALS
    if 0 < abs(value) < least:
        return f"< {least:.{_MOST_DECIMALS}f} %" if value > 0 else f"> -{least:.{_MOST_DECIMALS}f} %"
    if 0 < abs(abs(value) - 100) < least:
        text = f"{100 - least if abs(value) < 100 else 100:.{_MOST_DECIMALS if abs(value) < 100 else 0}f}"
        return f"> {text} %" if value > 0 else f"< -{text} %"
    digits = max(digits, len(str(int(abs(value)))))
    text = _plain(value, digits)
    while float(text) in (-100, 0, 100) and float(text) != value:
        digits += 1
        text = _plain(value, digits)
    return f"{text} %"


def points(share: float) -> str:
    """A difference of two shares in percentage points, such as "1.5 points" for 0.015."""
    text = percent(share).removesuffix(" %")
    return f"{text} point{'' if text == '1' else 's'}"


def nats(value: float, digits: int = 3) -> str:
    """A loss with its unit, such as "0.312 nats"."""
    return f"{fixed(value, digits)} nats"


def fixed(value: float, digits: int, *, landmarks: Sequence[float] = ()) -> str:
    """A number with fixed decimals, and more if rounding reaches a landmark.

    Args:
      value: The number.
      digits: Decimals.
      landmarks: Numbers that the text may read as only if `value` equals them, up to the precision of float32.

    Returns:
      The text, without a sign for a number that is rounded to 0.
    """
    if not math.isfinite(value):
        return NONE
    for decimals in range(digits, max(digits, _MOST_DECIMALS) + 1):
        text = f"{value:.{decimals}f}"
        if float(text) not in landmarks:
            break
    else:
        text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def signed(value: float, digits: int = 3, *, landmarks: Sequence[float] = ()) -> str:
    """A number with its sign, such as "+0.312"; rounded to 0, without."""
    text = fixed(value, digits, landmarks=landmarks)
    return f"+{text}" if text != NONE and float(text) > 0 else text


def significant(value: float, digits: int = 3) -> str:
    """A number with significant digits, and an exponent only if extreme."""
    if not math.isfinite(value):
        return NONE
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return _plain(value, max(digits, len(str(int(abs(value))))), zeros=True)
    return f"{value:.{digits - 1}e}"


def scaled(value: float, unit: str, digits: int = 3) -> str:
    """A number with a prefix of its unit, such as "43.0 kB" and "19.6 µs".

    Prefixes are powers of 1000, from n to T.
    """
    if not math.isfinite(value):
        return NONE
    rounded = float(f"{value:.{digits - 1}e}")  # 999.6 B is 1.00 kB
    factor, prefix = prefix_of(rounded)
    whole = factor == 1 and rounded == int(rounded)
    text = f"{rounded:.0f}" if whole else significant(rounded / factor, digits)
    return f"{text} {prefix}{unit}".rstrip()


def prefix_of(value: float) -> tuple[float, str]:
    """The power of 1000 that a number is written in, and its prefix.

    Such as (1000.0, "k") for 43016.
    """
    if not math.isfinite(value) or value == 0:
        return 1.0, ""
    power = min(max(math.floor(math.log10(abs(value)) / 3), min(_PREFIXES)), max(_PREFIXES))
    return 1000.0**power, _PREFIXES[power]


def plural(count: int, singular: str, several: str | None = None) -> str:
    """A count with its noun, such as "1 seed" and "2 seeds".

    Args:
      count: How many.
      singular: The noun for one.
      several: The noun for any other count; with an "s" added unless given.

    Returns:
      The text.
    """
    return f"{count:,} {singular if count == 1 else several or f'{singular}s'}"


def listing(parts: Sequence[str], word: str = "and") -> str:
    """A list in words, such as "a, b and c"; empty for no parts."""
    return f" {word} ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)


def plain(value: float, digits: int = 3) -> str:
    """A number with at most so many significant digits, such as "3.5" and "4"."""
    return _plain(value, digits)


def p_value(p: float) -> str:
    """A p-value, such as "p = 0.012" and "p < 0.001"."""
    text = p_number(p)
    return f"p {text}" if text[0] in f"<>{NONE}" else f"p = {text}"


def p_number(p: float) -> str:
    """A p-value for a column of such, such as "0.012" and "< 0.001"."""
    if not math.isfinite(p):
        return NONE
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.9995 or p == 1 else "> 0.999"


def count(number: SupportsFloat) -> str:
    """A number without decimals, such as "1,234"."""
    return f"{float(number):,.0f}"


def share_pruned(sparsity: float) -> str:
    """The label of a sparsity, such as "90 % pruned"."""
    return f"{percent(sparsity)} pruned"


def _plain(value: float, digits: int, *, zeros: bool = False) -> str:
    """Format with significant digits and without an exponent.

    Zeros at the end stay only if asked for.
    """
    text = format(Decimal(f"{value:{'#' if zeros else ''}.{digits}g}"), "f")
    return text.removesuffix(".")
