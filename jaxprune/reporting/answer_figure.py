"""The figure of the answer."""

import matplotlib as mpl

mpl.use("agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxprune.reporting.answer import Answer, GroupHarm, answer_of
from jaxprune.reporting.many import MOST_ANSWERED
from jaxprune.reporting.results import Results

_WIDTH = 9.2  # inches
_CLEAR, _OTHER = "#D55E00", "#6E6E6E"
_PANELS = {"accuracy": ("accuracy lost", "points", 100), "loss": ("loss gained", "nats", 1)}


def answer_figure(results: Results) -> Figure:
    """Draw each group's harm beyond the rest with simultaneous intervals."""
    answer = answer_of(results)
    names = _shown(answer)
    figure = Figure((_WIDTH, 1.5 + 0.34 * len(names)))
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, (measure, (words, unit, scale)) in zip(panels, _PANELS.items(), strict=True):
        groups = {group.group: group for group in answer.measures[measure].groups}
        for row, name in enumerate(names):
            if name in groups:
                _draw(axes, row, groups[name], scale)
        axes.axvline(0, color="#444444", lw=0.9)
        axes.set_title(f"{words} beyond the rest")
        axes.set_xlabel(f"{unit} (more hurt →)")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    people = {group.group: group.people for group in answer.measures["accuracy"].groups}
    panels[0].set_yticks(range(len(names)), [f"{name}  (n = {people[name]:,})" for name in names])
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    marks = [
        Line2D([], [], color=_CLEAR, marker="o", ms=6, lw=1.8, label="clearly hurt more than the rest"),
        Line2D([], [], color=_OTHER, marker="o", mfc="white", ms=6, lw=1.4, label="not clear, or hurt less"),
    ]
    figure.legend(handles=marks, loc="outside upper center", ncols=2)
    return figure


def _shown(answer: Answer) -> list[str]:
    """The groups to draw, most accuracy lost first; of many, the worst by accuracy and by loss, and the best."""
    accuracy, loss = ([group.group for group in answer.measures[m].groups] for m in ("accuracy", "loss"))
    if len(accuracy) <= MOST_ANSWERED:
        return accuracy
    third = MOST_ANSWERED // 3
    chosen = {*accuracy[:third], *loss[:third], *accuracy[-third:]}
    return [name for name in accuracy if name in chosen]


def _draw(axes: Axes, row: int, group: GroupHarm, scale: float) -> None:
    colour = _CLEAR if group.clear else _OTHER
    axes.hlines(row, scale * group.low, scale * group.high, color=colour, lw=1.8 if group.clear else 1.4)
    face = colour if group.clear else "white"
    axes.scatter(scale * group.excess, row, s=40, color=face, edgecolor=colour, lw=1.4, zorder=3)
