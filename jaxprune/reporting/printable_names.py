"""Results with printable names; files of numbers keep the exact ones."""

from dataclasses import replace

from jaxprune.results import Grouped, Results
from jaxprune.text import printable, shown_names

LONGEST_DRAWN = 30  # characters of a name in a figure or in the terminal


def shown(results: Results, *, most: int | None = None) -> Results:
    """Replace the names in results by printable ones.

    Args:
      results: Of a job.
      most: Longer names of groups are shortened to this many characters; None for no limit.

    Returns:
      The same results, for pages, figures and the terminal.
    """
    data = results.settings["data"] | {"group": printable(results.settings["data"]["group"])}
    settings = results.settings | {"name": printable(results.settings["name"]), "data": data}
    further = zip(shown_names(list(results.further)), results.further.values(), strict=True)
    return replace(
        results,
        settings=settings,
        group_names=shown_names(results.group_names, most),
        label_names=shown_names(results.label_names, most),
        warnings=[printable(warning) for warning in results.warnings],
        further={name: _shown(grouped, most) for name, grouped in further},
    )


def drawn(results: Results) -> Results:
    """Shorten names for figures."""
    short = shown(results, most=LONGEST_DRAWN)
    return replace(short, group_names=[f" {name}" if name.startswith("_") else name for name in short.group_names])


def _shown(grouped: Grouped, most: int | None) -> Grouped:
    warnings = [printable(warning) for warning in grouped.warnings]
    return replace(grouped, group_names=shown_names(grouped.group_names, most), warnings=warnings)
