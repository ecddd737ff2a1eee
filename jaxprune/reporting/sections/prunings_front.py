"""Accuracy against unfairness of every pruning, and the Pareto fronts."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxprune.numbers import share_pruned
from jaxprune.quantities import QUANTITIES
from jaxprune.reporting.charts import keep_in_range
from jaxprune.reporting.page import Figure, Section
from jaxprune.reporting.prunings import answered, baseline_of, capital, has_baseline, reported, title_of, works
from jaxprune.reporting.sections.accuracy_against_fairness import front, number_points
from jaxprune.reporting.style import GOOD, GREY, WIDTH
from jaxprune.results import Results
from jaxprune.results.comparison import MEASURES
from jaxprune.results.prunings import (
    PRUNED,
    REESTIMATED,
    STRUCTURES_AXIS,
    Stage,
    axis_of,
    prunings_of,
    stages_of,
    unretrained,
)

_MEASURES = ("max_excess_accuracy_gap", "excessive_loss_spread")
_MARKERS = ("o", "s", "^", "v", "P", "X")  # of ways of retraining


def section(results: Results) -> Section | None:
    """Accuracy against unfairness, without and with retraining."""
    rows = rows_of(results)
    if not rows:
        return None
    base, axis = baseline_of(results), axis_of(results)
    most = "most structures" if axis == STRUCTURES_AXIS else f"the networks of {base}"
    caption = (
        f"{results.answered_split.capitalize()} split, means over seeds, at the largest sparsity at which {most} work. "
        f"Hollow: {unretrained(results)}; filled: retrained; each row has its own scale. "
        f"{capital(axis.several)} whose networks no longer work are left out. No other {axis.one} that was treated "
        "alike beats the blue points, joined by a line, in both accuracy and fairness; the black points are "
        f"{base}. Up and to the left is better. Which points lie on a line may be chance. Where points crowd, some "
        "have no number."
    )
    alternative = f"Accuracy against the largest ψ and against the spread ξ of every {axis.one}"
    figure = Figure("pareto", partial(draw_fronts, results), caption, alternative)
    return Section("Accuracy and fairness together", (figure,), anchor="front")


def rows_of(results: Results) -> list[tuple[float, list[Stage]]]:
    """The stages without and with retraining, each with their sparsity.

    It is the smallest that these stages are answered for; those at which the baseline works nowhere are left out.
    """
    stages = [stage for stage in stages_of(results) if has_baseline(results, stage)]
    kinds = ([stage for stage in stages if stage.retrained == kind] for kind in (False, True))
    return [(min(answered(results, stage) for stage in kind), kind) for kind in kinds if kind]


def points_of(results: Results, stage: Stage, sparsity: float, measure: str) -> dict[str, np.ndarray]:
    """Pruning that works -> [2] unfairness and accuracy, as written.

    Broken networks would stretch the axes until the others lie on one point.
    """
    comparison, names = stage.comparison(results), (measure, "accuracy")
    figures = {
        pruning: comparison.figures(results.network(network, sparsity), results.answered_split)
        for pruning, network in reported(results, stage, sparsity).items()
        if works(results, network, sparsity)
    }
    return {
        pruning: np.array([QUANTITIES[name].scale * np.mean(values[name]) for name in names])
        for pruning, values in figures.items()
    }


def draw_fronts(results: Results) -> Drawing:
    """Draw a row of panels without and one with retraining.

    A pruning has the same number everywhere.
    """
    rows, prunings = rows_of(results), prunings_of(results)
    figure = Drawing((WIDTH, 0.9 + 3.4 * len(rows) + 0.2 * -(-len(prunings) // 4)))
    panels = figure.subplots(len(rows), len(_MEASURES), sharey="row", squeeze=False)
    for line, (sparsity, stages) in zip(panels, rows, strict=True):
        for axes, measure in zip(line, _MEASURES, strict=True):
            _draw_panel(axes, results, stages, sparsity, measure)
            keep_in_range(axes, "x", measure, scale=QUANTITIES[measure].scale)
            axes.set_xlabel(f"{MEASURES[measure].title}, {results.answered_split} split (← fairer)")
        keep_in_range(line[0], "y", "accuracy", scale=100)
        line[0].set_title(f"{'retrained' if stages[0].retrained else unretrained(results)}, {share_pruned(sparsity)}")
        line[0].set_ylabel("accuracy, % (higher is better)")
    marks = [
        Line2D([], [], lw=0, ms=6, color="#444444", mfc=face or "white", marker=marker, label=stage.words)
        for _, stages in rows
        for stage, (marker, face) in zip(stages, _looks(stages), strict=True)
    ]
    figure.legend(handles=marks, loc="outside upper center", ncols=2, fontsize=10)
    names = [Line2D([], [], lw=0, label=f"{i} {title_of(results, name)}") for i, name in enumerate(prunings, 1)]
    figure.legend(handles=names, loc="outside lower center", ncols=4, handlelength=0, handletextpad=0, fontsize=10)
    return figure


def _draw_panel(axes: Axes, results: Results, stages: list[Stage], sparsity: float, measure: str) -> None:
    prunings, places, texts, order = prunings_of(results), [], [], []
    for stage, (marker, face) in zip(stages, _looks(stages), strict=True):
        points = points_of(results, stage, sparsity, measure)
        if not points:
            continue
        at = np.array(list(points.values()))
        best = front(at)
        line = [i for i in np.argsort(at[:, 0]) if best[i]]
        style = "-" if face else "--"
        axes.plot(*at[line].T, color=GOOD, lw=1, ls=style, alpha=0.5, drawstyle="steps-post", zorder=1)
        for (pruning, place), on in zip(points.items(), best, strict=True):
            colour = "black" if pruning == prunings[0] else GOOD if on else "#8A8A8A" if not face else GREY
            look = {"edgecolor": "#444444", "lw": 0.4} if face else {"edgecolor": colour, "lw": 1.3}
            axes.scatter(
                *place, marker=marker, facecolor=colour if face else "white", s=34, zorder=3, clip_on=False, **look
            )
        order += [len(places) + i for i in (0, *line)]
        places += list(at)
        texts += [str(prunings.index(pruning) + 1) for pruning in points]
    number_points(axes, np.array(places), [*order, *range(len(places))], texts, size=10)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _looks(stages: list[Stage]) -> list[tuple[str, str]]:
    """The marker of each stage, and its face; hollow where not retrained."""
    markers = iter(_MARKERS)
    hollow = {PRUNED: "o", REESTIMATED: "s"}
    return [(next(markers), "#444444") if stage.retrained else (hollow[stage.name], "") for stage in stages]
