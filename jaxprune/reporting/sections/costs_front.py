"""Accuracy and harm of every group against bytes and measured time."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jaxprune.numbers import fixed, percent, plural, scaled
from jaxprune.reporting.charts import percent_axis
from jaxprune.reporting.cost_points import CostPoint, by_bytes, by_time, front, has_compact, is_timed, measured
from jaxprune.reporting.group_display import ends_drawn, group_colours, groups_to_draw, legend_labels
from jaxprune.reporting.page import Figure
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.style import GREY, WIDTH
from jaxprune.results import Results

_MARKERS = {"dense": "D", "masked": "o", "compact": "s"}
_NARROW = 4.6  # inches, of the figure in a narrow window
_OTHERS = "#A6A6A6"  # networks that another one beats


def figure_of(results: Results) -> Figure:
    """The Pareto front with groups, by bytes and by measured time."""
    time = ""
    if is_timed(results):
        time = (
            f" By speed: the time for {examples(results)}, as a share of the dense network’s in the same rounds, "
            "with 95 % intervals; masked networks run the dense network’s program, so that none is on a front by time."
        )
    caption = (
        f"{results.answered_split.capitalize()} split, means over seeds. Black: the networks that no other one beats "
        "in both cost and accuracy (the Pareto front), with the share pruned. Coloured: what each group gets from them "
        "and from the dense network (diamonds): accuracy above, excessive loss below. Grey: all other "
        f"networks, above by their accuracy and below by their largest excessive loss.{time} Networks that no longer "
        f"work are left out. Which networks lie on the front may be chance.{ends_drawn(results)}"
    )
    alternative = "Accuracy and excessive loss of every group along the Pareto front of accuracy and cost"
    wide, narrow = (partial(draw, drawn(results), narrow=narrow) for narrow in (False, True))
    return Figure("buys", wide, caption, alternative, narrow)


def examples(results: Results) -> str:
    """The large batch in words."""
    batch = results.costs[measured(results)[0].key].forms["dense"].large.batch
    return "one example" if batch == 1 else plural(batch, "example")


def draw(results: Results, *, narrow: bool = False) -> Drawing:
    """Draw a column for each kind of cost: accuracy above, harm below.

    Args:
      results: The results.
      narrow: Draw the columns below each other.
    """
    columns = [by_bytes(results), by_time(results)] if is_timed(results) else [by_bytes(results)]
    figure, panels = _panels(len(columns), narrow)
    for (above, below), points in zip(panels, columns, strict=True):
        best = front(points)
        _draw_others(above, below, _others(points))
        if _is_drawn(best):
            _draw_front(results, above, below, best)
        _draw_dense(results, above, points[0])
    _label_axes(results, panels, narrow=narrow)
    for (above, _), points in zip(panels, columns, strict=True):
        _name(above, _named(points))
    ratios = [point.cost.value for points in columns[1:] for point in points[1:]]
    if ratios and not has_compact(results):
        panels[1][0].text(
            0.04, 0.5, f"Masks bring no speed:\n{_range(ratios)} the dense\nnetwork’s time.",
            transform=panels[1][0].transAxes, fontsize=11, va="center", color="#444444",
        )  # fmt: skip
    figure.legend(handles=_legend(results, columns), loc="outside upper center", ncols=2 if narrow else 4, fontsize=9)
    return figure


def _panels(columns: int, narrow: bool) -> tuple[Drawing, list[tuple[Axes, Axes]]]:
    """The figure, and the upper and the lower panel of each column."""
    if not narrow:
        figure = Drawing((WIDTH, 6.2))
        return figure, [*map(tuple, figure.subplots(2, columns, sharex="col", sharey="row", squeeze=False).T)]
    figure = Drawing((_NARROW, 0.8 + 5 * columns))
    axes = figure.subplots(2 * columns, 1)
    pairs = [(axes[2 * i], axes[2 * i + 1]) for i in range(columns)]
    for above, below in pairs:
        below.sharex(above)
        above.sharey(pairs[0][0])
        below.sharey(pairs[0][1])
    return figure, pairs


def _others(points: Sequence[CostPoint]) -> list[CostPoint]:
    best = front(points)
    return [point for point in points if point not in best and point.form != "dense"]


def _named(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The dense network, and the front where it is drawn."""
    best = front(points)
    return [points[0], *(point for point in best if point.form != "dense" and _is_drawn(best))]


def _is_drawn(best: Sequence[CostPoint]) -> bool:
    """Return whether a front is more than the dense network."""
    return len(best) > 1 or best[0].form != "dense"


def _range(ratios: Sequence[float]) -> str:
    low, high = (fixed(end, 2) for end in (min(ratios), max(ratios)))
    return f"{low} times" if low == high else f"{low} to {high} times"


def _draw_others(above: Axes, below: Axes, points: Sequence[CostPoint]) -> None:
    for point in points:
        for axes, height in ((above, point.accuracy), (below, point.largest_harm)):
            axes.hlines(height, point.cost.low, point.cost.high, color=_OTHERS, lw=0.8, zorder=2)
            axes.plot(point.cost.value, height, _MARKERS[point.form], color=_OTHERS, ms=4, zorder=2, clip_on=False)


def _draw_front(results: Results, above: Axes, below: Axes, best: Sequence[CostPoint]) -> None:
    x, colours = [point.cost.value for point in best], group_colours(results)
    for g in groups_to_draw(results):
        look: Any = {"lw": 0.8, "zorder": 2.5} if colours[g] == GREY else {"lw": 1.3, "zorder": 3}
        for axes, values in ((above, [p.groups[g] for p in best]), (below, [p.harm[g] for p in best])):
            axes.plot(x, values, "-o", color=colours[g], ms=3.5, clip_on=False, **look)
    above.plot(x, [point.accuracy for point in best], "-", color="black", lw=1.8, zorder=4)
    for point in best:
        above.plot(point.cost.value, point.accuracy, _MARKERS[point.form], color="black", ms=6, zorder=5, clip_on=False)
        above.hlines(point.accuracy, point.cost.low, point.cost.high, color="black", lw=1.2, zorder=5)


def _draw_dense(results: Results, above: Axes, dense: CostPoint) -> None:
    """Where every group starts from."""
    colours = group_colours(results)
    for g in groups_to_draw(results):
        above.plot(dense.cost.value, dense.groups[g], "D", color=colours[g], ms=3.5, zorder=3, clip_on=False)
    above.plot(
        dense.cost.value, dense.accuracy, "D", color="black", mfc="white", ms=6, mew=1.4, zorder=5, clip_on=False
    )


def _name(axes: Axes, points: Sequence[CostPoint]) -> None:
    """Write beside points what they are.

    Above to the left, or elsewhere where that is taken.
    """
    halo = [withStroke(linewidth=2.5, foreground="white")]
    placed: list[tuple[float, float]] = []
    last = max(point.cost.value for point in points)
    for point in sorted(points, key=lambda point: point.cost.value):
        x, y = axes.transAxes.inverted().transform(axes.transData.transform((point.cost.value, point.accuracy)))
        near = any(x - other < 0.2 and abs(y - height) < 0.15 for other, height in placed)
        placed.append((x, y))
        look: Any = {"xytext": (-6, 4), "ha": "right"}
        if near and point.cost.value == last and x < 0.88:
            look = {"xytext": (8, 5), "ha": "left"}
        elif near:
            look = {"xytext": (0, -15), "ha": "center"}
        elif x < 0.12:  # no room to the left
            look = {"xytext": (7, 4), "ha": "left"}
        words = "dense" if point.form == "dense" else percent(point.network.sparsity)
        place = (point.cost.value, point.accuracy)
        axes.annotate(words, place, textcoords="offset points", fontsize=8.5, zorder=6, path_effects=halo, **look)


def _label_axes(results: Results, panels: Sequence[tuple[Axes, Axes]], *, narrow: bool) -> None:
    for (above, below), title in zip(panels, ("by size", "by measured speed"), strict=False):
        above.set_title(title)
        above.set_ylabel("accuracy (↑ better)")
        below.set_ylabel(f"excessive loss R, nats{' (↑ more hurt)' if not narrow else ''}")
        percent_axis(above.yaxis)
        below.axhline(0, color="#444444", lw=0.9, zorder=1)
        above.tick_params(labelbottom=False)
        if not narrow:
            above.label_outer()
            below.label_outer()
    size, *timed = (below for _, below in panels)
    size.set_xlabel("bytes of the arrays (← smaller)")
    size.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    size.xaxis.set_major_formatter(FuncFormatter(lambda value, _: scaled(value, "B", 2)))
    size.set_xlim(0, 1.06 * max(size.get_xlim()[1], 1))
    for axes in timed:
        axes.set_xlim(0, max(axes.get_xlim()[1], 1.15))
        axes.set_xlabel(f"time for {examples(results)}, dense = 1 (← faster)")


def _legend(results: Results, columns: Sequence[Sequence[CostPoint]]) -> list[Line2D]:
    """What occurs in the figure."""
    marks = []
    if any(_is_drawn(front(points)) for points in columns):
        marks.append(Line2D([], [], color="black", marker="o", ms=6, lw=1.8, label="all groups, on the front"))
    if any(_others(points) for points in columns):
        marks.append(Line2D([], [], color=_OTHERS, marker="o", ms=4, lw=0, label="all groups, other networks"))
    forms = {point.form for points in columns for point in points}
    for form in ("masked", "compact") if {"masked", "compact"} <= forms else ():
        marks.append(Line2D([], [], color="#444444", marker=_MARKERS[form], ms=5, lw=0, label=form))
    groups = [
        Line2D([], [], color=colour, marker="o", ms=4, lw=1.3, label=label)
        for label, colour in legend_labels(results)
        if label
    ]
    return [*marks, *groups]
