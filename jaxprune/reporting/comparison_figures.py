"""The figures of a comparison: each is a function of the results."""

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxprune.auditing import Interval
from jaxprune.reporting.charts import OverSeeds, draw_bars, draw_trajectories, keep_in_range, over_seeds, with_seeds
from jaxprune.reporting.comparison import BASELINE, MEASURES, Comparison
from jaxprune.reporting.comparison_verdicts import Outcome
from jaxprune.reporting.quantities import QUANTITIES, difference_interval, multiplier_kind
from jaxprune.reporting.style import GREY, PALETTE, save_figure

_WIDTH = 9.2  # inches
_GOOD, _BAD, _NONE = "#0072B2", "#D55E00", "#8A8A8A"


def changes(comparison: Comparison) -> Figure | None:
    """Every method's difference from plain fine-tuning, on test and on train, by measure."""
    sparsity = comparison.headline
    methods = [m for m in comparison.methods[1:] if (m, sparsity) in comparison.chosen]
    if not methods:
        return None
    measures = (
        "accuracy",
        "worst_group_accuracy",
        "accuracy_spread",
        "max_excess_accuracy_gap",
        "excessive_loss_spread",
    )
    figure = Figure((_WIDTH, 1.5 + 0.27 * len(methods)))
    panels = figure.subplots(1, len(measures), sharey=True)
    rows = np.arange(len(methods))
    for axes, measure in zip(panels, measures, strict=True):
        words, more, scale = MEASURES[measure]
        naive, train_naive = (_figures(comparison, BASELINE, split, measure) for split in ("test", "train"))
        mine = [_figures(comparison, m, "test", measure) for m in methods]
        train = [np.mean(_figures(comparison, m, "train", measure) - train_naive) for m in methods]
        intervals = [difference_interval(comparison, values, naive, measure) for values in mine]
        test = with_seeds(Interval(*np.transpose(intervals)), np.transpose(mine) - naive[:, None])
        colours = [_verdict(comparison, method, measure) for method in methods]
        axes.axvline(0, color="#444444", lw=0.9)
        drawn = OverSeeds(*(scale * part for part in test))
        draw_bars(axes, "x", rows, drawn, colours, lw=1.6)
        axes.scatter(drawn.mean, rows, color=colours, s=24, zorder=3)
        axes.scatter(np.multiply(scale, train), rows, facecolor="white", edgecolor="#555555", s=16, lw=0.8, zorder=2)
        name = words.replace(", %", ", points")
        axes.set_title(f"{name.replace(', ', chr(10))} {'→ better' if more else '← better'}", fontsize=8.5)
        axes.set_xlabel(f"naive: {QUANTITIES[measure].text(np.mean(naive))}", fontsize=8.5)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(rows, [comparison.titles[m] for m in methods])
    panels[0].set_ylim(len(methods) - 0.4, -0.6)
    marks = [
        Line2D([], [], color=colour, marker="o", ms=5, lw=1.6, label=label)
        for colour, label in (
            (_GOOD, "test, clearly better"),
            (_BAD, "test, clearly worse"),
            (_NONE, "test, not clear"),
        )
    ]
    marks.append(Line2D([], [], color="#555555", marker="o", mfc="white", ms=4, lw=0, label="train"))
    figure.legend(handles=marks, loc="outside upper center", ncols=4)
    return figure


def pareto(comparison: Comparison) -> Figure | None:
    """Accuracy against unfairness on the test split, with the methods that no other beats at both."""
    sparsity = comparison.headline
    methods = [m for m in comparison.methods if (m, sparsity) in comparison.chosen]
    measures = ("max_excess_accuracy_gap", "accuracy_spread")
    figure = Figure((_WIDTH, 4.4))
    panels = figure.subplots(1, len(measures), sharey=True)
    for axes, measure in zip(panels, measures, strict=True):
        points = np.array(
            [
                [
                    100 * np.mean(comparison.figures(comparison.chosen[m, sparsity], "test")[name])
                    for name in (measure, "accuracy")
                ]
                for m in methods
            ]
        )
        best = front(points)
        order = [i for i in np.argsort(points[:, 0]) if best[i]]
        axes.plot(points[order, 0], points[order, 1], color=_GOOD, lw=1, alpha=0.5, drawstyle="steps-post", zorder=1)
        colours = [_GOOD if on else GREY for on in best]
        axes.scatter(points[:, 0], points[:, 1], c=colours, s=30, zorder=3, edgecolor="#444444", lw=0.4, clip_on=False)
        naive = methods.index(BASELINE)
        axes.scatter(*points[naive], marker="D", color="black", s=34, zorder=4, clip_on=False)
        _number(axes, points, [naive, *order, *range(len(methods))])
        axes.set_xlabel(f"{MEASURES[measure][0]}, test split (← fairer)")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        keep_in_range(axes, "x", measure, scale=100)
    keep_in_range(panels[0], "y", "accuracy", scale=100)
    panels[0].set_ylabel("accuracy, test split, % (higher is better)")
    names = [f"{i} {comparison.titles[m]}" for i, m in enumerate(methods)]
    handles = [Line2D([], [], lw=0, label=name) for name in names]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=0, handletextpad=0, fontsize=8.5)
    return figure


def generalisation(comparison: Comparison) -> Figure | None:
    """The largest violation of each constraint on train, validation and test."""
    found = {
        m: trial
        for m in comparison.inequality
        if (trial := comparison.chosen.get((m, comparison.headline))) is not None and trial.violation
    }
    if not found:
        return None
    # Accuracy and loss are different units, and are judged apart.
    figure = Figure((_WIDTH, 1.5 + 0.34 * len(found)))
    axes = figure.subplots()
    marks = {"train": ("o", "white"), "validation": ("D", GREY), "test": ("o", _BAD)}
    for row, (method, trial) in enumerate(found.items()):
        inequality = comparison.inequality[method]
        values = {
            s: over_seeds(
                comparison,
                np.max(v if inequality else np.abs(v), -1),
                "violation" if inequality else "absolute_violation",
            )
            for s, v in trial.violation.items()
        }
        axes.plot([values["train"].mean, values["test"].mean], [row, row], color="#BBBBBB", lw=1.2, zorder=1)
        draw_bars(axes, "x", row, values["test"], _BAD, lw=1.2, alpha=0.6, zorder=2)
        for split, (marker, colour) in marks.items():
            label = split if row == 0 else None
            axes.scatter(
                values[split].mean,
                row,
                marker=marker,
                c=colour,
                edgecolor="#444444",
                lw=0.8,
                s=32,
                zorder=3,
                label=label,
            )
    axes.axvline(0, color="#444444", lw=0.9)
    names = [f"{comparison.titles[m]} ({'≤ 0' if comparison.inequality[m] else '= 0'})" for m in found]
    axes.set_yticks(range(len(found)), names)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlabel(
        "largest violation over the groups (nats, or accuracy as a share of 1 for CEAG and equal drop); 0 meets it"
    )
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def trajectories(comparison: Comparison) -> Figure | None:
    """How the multipliers, or the weights of group DRO, moved in the chosen trainings."""
    there = [
        m for m in comparison.methods
        if (t := comparison.chosen.get((m, comparison.headline))) is not None and t.multipliers is not None
    ]  # fmt: skip
    if not there:
        return None
    columns = min(4, len(there))
    lines = -(-len(there) // columns)
    figure = Figure((_WIDTH, 0.6 + 2.0 * lines))
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    shown = _groups_shown(comparison)
    for axes, method in zip(panels, there, strict=False):
        trial = comparison.chosen[method, comparison.headline]
        assert trial.multipliers is not None
        quantity = multiplier_kind(trial.multipliers)
        drawn = over_seeds(comparison, trial.multipliers, quantity)
        x, count = np.linspace(0, 100, len(drawn.mean)), drawn.mean.shape[1]
        groups, twice = len(comparison.group_names), count > len(comparison.group_names)
        for g, colour in shown.items():
            for line, style in zip(range(g, count, groups), ("-", "--"), strict=False):
                draw_trajectories(axes, x, drawn.at(line), colour)
                label = comparison.group_names[g] if method == there[0] and line == g else None
                axes.plot(x, drawn.mean[:, line], style, color=colour, lw=1.4, label=label)
        chosen = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in trial.values.items())
        chosen += "; dashed: of λ(H)" if twice else ""
        axes.set_title(f"{comparison.titles[method]}\n", fontsize=9)
        axes.annotate(chosen, (0, 1.02), xycoords="axes fraction", fontsize=7.5, color="#555555")
        keep_in_range(axes, "y", quantity)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    for axes in panels[len(there) :]:
        axes.set_visible(False)
    figure.supxlabel("share of the retraining done, %", fontsize=9, color="#444444")
    figure.legend(loc="outside upper center", ncols=min(6, len(shown)))
    return figure


COMPARISON_FIGURES: Mapping[str, Callable[[Comparison], Figure | None]] = {
    "changes": changes,
    "pareto": pareto,
    "generalisation": generalisation,
    "trajectories": trajectories,
}


def draw_comparison(name: str, comparison: Comparison, folder: Path) -> bool:
    """Draws a figure as SVG and PNG; False where the results do not have what it shows."""
    return save_figure(name, lambda: COMPARISON_FIGURES[name](comparison), folder)


def front(points: np.ndarray) -> np.ndarray:
    """[K] whether no other point is at most as unfair (column 0) and at least as accurate (column 1), one truly."""
    unfair, accurate = points.T
    beaten = (unfair[None] <= unfair[:, None]) & (accurate[None] >= accurate[:, None])
    truly = (unfair[None] < unfair[:, None]) | (accurate[None] > accurate[:, None])
    return ~(beaten & truly).any(1)


def _figures(comparison: Comparison, method: str, split: str, measure: str) -> np.ndarray:
    """[R] a measure of the chosen trial of a method at the headline sparsity."""
    return comparison.figures(comparison.chosen[method, comparison.headline], split)[measure]


def _verdict(comparison: Comparison, method: str, measure: str) -> str:
    """The colour of a change on the test split, by its p adjusted for all comparisons."""
    verdict = comparison.verdicts.get((comparison.headline, method, measure))
    colours = {Outcome.BETTER: _GOOD, Outcome.WORSE: _BAD, Outcome.CHANCE: _NONE}
    return colours[verdict.outcome if verdict else Outcome.CHANCE]


def _number(axes: Axes, points: np.ndarray, order: list[int]) -> None:
    """Writes each point's number beside it, where those that come first in `order` have left room."""
    spans = np.ptp(points, axis=0)
    scaled = points / np.where(spans > 0, spans, 1)
    taken: list[np.ndarray] = []
    for i in dict.fromkeys(order):
        for shift, place in (((5, 2), (0.035, 0.02)), ((-5, 2), (-0.035, 0.02)), ((5, -9), (0.035, -0.045))):
            at = scaled[i] + place
            if all(abs(at[0] - t[0]) > 0.05 or abs(at[1] - t[1]) > 0.05 for t in taken):
                side = "left" if shift[0] > 0 else "right"
                axes.annotate(str(i), points[i], xytext=shift, textcoords="offset points", fontsize=8, ha=side)
                taken.append(at)
                break


def _groups_shown(comparison: Comparison) -> dict[int, str]:
    """The groups that are drawn: all, or the smallest of the training split where there are more than colours."""
    sizes = np.array(comparison.group_sizes["train"])
    smallest = np.sort(np.argsort(sizes)[: len(PALETTE)])
    return {int(g): PALETTE[i] for i, g in enumerate(smallest)}
