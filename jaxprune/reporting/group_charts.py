"""Parts of figures with a row, bar or line per group."""

from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from jaxprune.numbers import percent
from jaxprune.reporting.charts import draw_bars, keep_in_range, over_seeds, percent_axis
from jaxprune.reporting.group_display import group_colours, groups_to_draw, legend_labels
from jaxprune.reporting.style import GREY, PALETTE, WIDTH
from jaxprune.reporting.theory_values import unfinished_groups
from jaxprune.results import Results
from jaxprune.types import Array

_UNFINISHED = "λ not converged in some seed: it may be larger"


def rows_of_panels(results: Results, count: int) -> tuple[Figure, list[Axes]]:
    """Panels side by side with a row for each drawn group."""
    names = [results.group_names[g] for g in groups_to_draw(results)]
    figure = Figure((WIDTH, 1.3 + 0.4 * len(names)))
    panels = list(figure.subplots(1, count, sharey=True))
    panels[0].set_yticks(np.arange(len(names)), names)
    panels[0].invert_yaxis()
    for axes in panels:
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    return figure, panels


def measure_bars(results: Results, columns: Mapping[str, tuple[str, np.ndarray]], **title: Any) -> Figure:
    """A panel of bars for each measure; unconverged λ are hatched.

    Args:
      results: With the groups.
      columns: Title of the panel -> quantity and values [R, G].
      title: The look of the titles.
    """
    figure, panels = rows_of_panels(results, len(columns))
    groups, colours, unfinished = groups_to_draw(results), group_colours(results), unfinished_groups(results)
    rows = np.arange(len(groups))
    for axes, (words, (quantity, values)) in zip(panels, columns.items(), strict=True):
        drawn = over_seeds(results, values, quantity).at(groups)
        axes.barh(rows, drawn.mean, color=[colours[g] for g in groups], height=0.66)
        if "λ" in words:
            hatch(axes, unfinished[groups])
        if "examples" not in words:  # of which all seeds have the same
            draw_bars(axes, "x", rows, drawn, "#222222", lw=1.1)
        keep_in_range(axes, "x", quantity)
        if quantity != "margin":
            percent_axis(axes.xaxis, 3 if len(columns) > 4 else 4)
        axes.set_title(words, **title)
    explain_marks(figure, unfinished[groups], bars=True)
    return figure


def paired(results: Results, axes: Axes, columns: Mapping[str, Array]) -> None:
    """Two bars for each group; all columns are shares of 1."""
    groups = groups_to_draw(results)
    rows = np.arange(len(groups))
    for shift, colour, (label, values) in zip((-0.19, 0.19), (GREY, PALETTE[0]), columns.items(), strict=True):
        share = over_seeds(results, values, "share").at(groups)
        axes.barh(rows + shift, share.mean, height=0.36, color=colour, label=label)
        if np.any(np.ptp(values[:, groups], 0) > 0):
            draw_bars(axes, "x", rows + shift, share, "#222222", lw=1.0)
    keep_in_range(axes, "x", "share")
    percent_axis(axes.xaxis)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8.5)


def lines(results: Results, axes: Axes, values: np.ndarray, unfinished: np.ndarray | None = None) -> None:
    """A line for each group, [S, G], hollow where `unfinished` [S, G]."""
    for g, (label, colour) in enumerate(legend_labels(results)):
        axes.plot(values[:, g], "o-", ms=3.5, lw=1.6 if colour != GREY else 1.0, color=colour, label=label)
        if unfinished is not None:
            at = np.flatnonzero(unfinished[:, g])
            axes.plot(at, values[at, g], "o", ms=5, mfc="white", mec=colour, mew=1.3, zorder=3)


def hatch(axes: Axes, unfinished: np.ndarray) -> None:
    """Hatch the last drawn bars of groups whose λ has not converged."""
    container: Any = axes.containers[-1]
    for bar, marked in zip(container.patches, unfinished, strict=True):
        if marked:
            bar.set(edgecolor=bar.get_facecolor(), facecolor="white", hatch="/////", linewidth=1)


def explain_marks(figure: Figure, unfinished: np.ndarray, *, bars: bool = False) -> None:
    """Explain hatched bars or hollow points below a figure."""
    if not np.any(unfinished):
        return
    grey = "#555555"
    mark = Patch(facecolor="white", edgecolor=grey, hatch="/////") if bars else Line2D(
        [], [], ls="", marker="o", mfc="white", mec=grey, mew=1.3)  # fmt: skip
    with mpl.rc_context({"hatch.linewidth": 0.8}):
        figure.legend([mark], [_UNFINISHED], loc="outside lower center", fontsize=8.5)


def sparsity_axis(axes: Axes, sparsities: Iterable[float], unit: str, *, dense: bool = False) -> None:
    """Label an axis with evenly spaced sparsities of weights or channels."""
    labels = [*(["dense"] if dense else []), *map(percent, sparsities)]
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel(f"share of {unit} pruned")
