"""Results with printable names; files of numbers keep the exact ones."""

from dataclasses import replace
from typing import TypeVar

from jaxprune.reporting.comparison import Comparison
from jaxprune.reporting.results import Audited, Results
from jaxprune.text import printable, shown_names

LONGEST_DRAWN = 30  # characters of a name in a figure or in the terminal

T = TypeVar("T", Results, Comparison)


def shown(results: T, *, most: int | None = None) -> T:
    """Replace the names in results by printable ones.

    Args:
      results: Of a run or of a comparison.
      most: Longer names of groups are shortened to this many characters; None for no limit.

    Returns:
      The same results, for pages, figures and the terminal.
    """
    data = results.settings["data"] | {"group": printable(results.settings["data"]["group"])}
    settings = results.settings | {"name": printable(results.settings["name"]), "data": data}
    named = replace(results, settings=settings, group_names=shown_names(results.group_names, most))
    if not isinstance(named, Results):
        return named
    further = zip(shown_names(list(named.further)), named.further.values(), strict=True)
    return replace(
        named,
        label_names=shown_names(named.label_names, most),
        warnings=[printable(warning) for warning in named.warnings],
        further={name: _of_further(one, most) for name, one in further},
    )


def _of_further(found: Audited, most: int | None) -> Audited:
    warnings = [printable(warning) for warning in found.warnings]
    return replace(found, group_names=shown_names(found.group_names, most), warnings=warnings)


def drawn(results: T) -> T:
    """Shorten names for figures."""
    short = shown(results, most=LONGEST_DRAWN)
    return replace(short, group_names=[f" {name}" if name.startswith("_") else name for name in short.group_names])
