"""Accuracy against unfairness of every method, and their Pareto front."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxprune.numbers import share_pruned
from jaxprune.reporting.charts import keep_in_range
from jaxprune.reporting.methods import reported_trials, values_of
from jaxprune.reporting.page import Figure, Section
from jaxprune.reporting.style import GOOD, GREY, WIDTH
from jaxprune.results import Results
from jaxprune.results.comparison import MEASURES, Comparison, compared

_MEASURES = ("max_excess_accuracy_gap", "accuracy_spread")
# Offset of a number in typographic points, and its place as a share of the spans of the axes.
_PLACES = (((5, 2), (0.035, 0.02)), ((-5, 2), (-0.035, 0.02)), ((5, -9), (0.035, -0.045)))


def section(results: Results) -> Section | None:
    """Accuracy against unfairness of every method."""
    comparison = compared(results)
    if not reported_trials(comparison):
        return None
    caption = (
        f"Test split, {share_pruned(comparison.headline)}, means over seeds. No other method beats the blue points, "
        "joined by the line, in both; the black diamond is naive fine-tuning. Up and to the left is better. Which "
        "points lie on the line may be chance. Where points crowd, some have no number."
    )
    alternative = "Accuracy against the largest ψ and against the accuracy spread of every method"
    figure = Figure("pareto", partial(draw_fronts, comparison), caption, alternative)
    return Section("Accuracy and fairness together", (figure,), anchor="front")


def draw_fronts(comparison: Comparison) -> Drawing:
    """Draw a panel for each measure of unfairness.

    It has a numbered point for each method.
    """
    methods = list(reported_trials(comparison))
    figure = Drawing((WIDTH, 4.4))
    panels = figure.subplots(1, len(_MEASURES), sharey=True)
    for axes, measure in zip(panels, _MEASURES, strict=True):
        points = np.array(
            [[100 * np.mean(values_of(comparison, m, name)) for name in (measure, "accuracy")] for m in methods]
        )
        best = front(points)
        order = [i for i in np.argsort(points[:, 0]) if best[i]]
        axes.plot(*points[order].T, color=GOOD, lw=1, alpha=0.5, drawstyle="steps-post", zorder=1)
        colours = [GOOD if on else GREY for on in best]
        axes.scatter(*points.T, c=colours, s=30, zorder=3, edgecolor="#444444", lw=0.4, clip_on=False)
        naive = methods.index(comparison.baseline)
        axes.scatter(*points[naive], marker="D", color="black", s=34, zorder=4, clip_on=False)
        number_points(axes, points, [naive, *order, *range(len(methods))])
        axes.set_xlabel(f"{MEASURES[measure].title}, test split (← fairer)")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        keep_in_range(axes, "x", measure, scale=100)
    keep_in_range(panels[0], "y", "accuracy", scale=100)
    panels[0].set_ylabel("accuracy, test split, % (higher is better)")
    handles = [Line2D([], [], lw=0, label=f"{i} {comparison.results.title(m)}") for i, m in enumerate(methods)]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=0, handletextpad=0, fontsize=8.5)
    return figure


def front(points: np.ndarray) -> np.ndarray:
    """The points that no other point beats.

    Args:
      points: [K, 2] unfairness and accuracy.

    Returns:
      [K] False where another point is at most as unfair and at least as accurate, and better in one of them.
    """
    unfair, accurate = points.T
    no_worse = (unfair[None] <= unfair[:, None]) & (accurate[None] >= accurate[:, None])
    better = (unfair[None] < unfair[:, None]) | (accurate[None] > accurate[:, None])
    return ~(no_worse & better).any(1)


def number_points(
    axes: Axes, points: np.ndarray, order: Sequence[int], texts: Sequence[str] | None = None, size: float = 8
) -> None:
    """Write each point's number beside it, where there is room.

    Numbers earlier in `order` go first.

    Args:
      axes: Where.
      points: [K, 2].
      order: Their order.
      texts: What is written; None for their places, from 0.
      size: Of the numbers, in typographic points.
    """
    spans = np.ptp(points, axis=0)
    scaled = points / np.where(spans > 0, spans, 1)
    taken: list[np.ndarray] = []
    for i in dict.fromkeys(order):
        for (x, y), place in _PLACES:
            if all(np.abs(scaled[i] + place - other).max() > 0.05 for other in taken):
                look = {"fontsize": size, "ha": "left" if x > 0 else "right"}
                axes.annotate(
                    str(i) if texts is None else texts[i], points[i], xytext=(x, y), textcoords="offset points", **look
                )
                taken.append(scaled[i] + place)
                break
