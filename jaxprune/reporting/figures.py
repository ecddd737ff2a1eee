"""The figures of the report: each is a function of the results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxprune.reporting.answer_figure import answer_figure
from jaxprune.reporting.charts import (
    draw_band,
    draw_bars,
    draw_trajectories,
    keep_in_range,
    over_seeds,
    percent_axis,
    share_pruned,
)
from jaxprune.reporting.findings import headline, interval
from jaxprune.reporting.laboratory_values import shares
from jaxprune.reporting.many import MOST_LABELS, groups_to_draw
from jaxprune.reporting.numbers import percent
from jaxprune.reporting.panels import explain_marks, hatch
from jaxprune.reporting.quantities import multiplier_kind
from jaxprune.reporting.results import MODEL_NAMES, Results
from jaxprune.reporting.style import GREY, MODEL_COLOURS, group_colours, label_ends, save_figure
from jaxprune.reporting.tables import overall_figures
from jaxprune.reporting.theory_findings import unfinished_groups

_WIDTH = 9.2  # inches


def harm(results: Results) -> Figure:
    """Excessive loss of each group over the sparsity, before and after plain retraining."""
    split, _ = headline(results)
    shown = [model for model in ("pruned", "none") if model in results.models]
    figure = Figure((_WIDTH, 3.7))
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    colours = group_colours(results)
    ends = []
    for axes, model in zip(panels, shown, strict=True):
        x = range(len(results.sparsities) + 1)  # evenly spaced: what happens is at the high end
        values = np.stack(
            [np.zeros((len(results.seeds), len(results.group_names)))]
            + [results.audit(model, s, split).impact.excessive_loss for s in results.sparsities]
        )
        drawn = over_seeds(results, values, "excessive_loss", axis=1)
        mean = drawn.mean
        for g in sorted(range(len(colours)), key=lambda g: colours[g] != GREY):
            if colours[g] != GREY:
                draw_band(axes, x, drawn.at(g), colours[g])
            axes.plot(x, mean[:, g], color=colours[g], marker="o", ms=3.5, lw=1.8 if colours[g] != GREY else 1.1)
        axes.axhline(0, color="#666666", lw=0.8)
        axes.set_title("pruned, not retrained" if model == "pruned" else "then retrained (a scale of its own)")
        _sparsity_axis(axes, results)
        ends.append((x[-1], mean[-1]))
    panels[0].set_ylabel(f"excessive loss R(a), {split} split (nats)")
    for axes, (x, heights) in zip(panels, ends, strict=True):
        label_ends(axes, x, heights, _labels(results, colours), colours)
    return figure


def accuracy(results: Results) -> Figure:
    """Accuracy of each group, dense and at every sparsity, before and after plain retraining."""
    split, _ = headline(results)
    shown = [model for model in ("pruned", "none") if model in results.models]
    groups = groups_to_draw(results)
    figure = Figure((_WIDTH, 1.3 + 0.36 * len(groups)))
    panels = figure.subplots(1, len(shown), sharey=True, sharex=True, squeeze=False)[0]
    shades = mpl.colormaps["YlOrRd"](np.linspace(0.3, 1, len(results.sparsities)))
    dense = interval(results, results.metrics["dense", 0.0, split].accuracy).mean[groups]
    rows = np.arange(len(groups))
    for axes, model in zip(panels, shown, strict=True):
        means = [interval(results, results.metrics[model, s, split].accuracy).mean[groups] for s in results.sparsities]
        axes.hlines(rows, np.minimum(dense, np.min(means, 0)), np.maximum(dense, np.max(means, 0)), color=GREY, lw=1)
        for mean, s, shade in zip(means, results.sparsities, shades, strict=True):
            axes.scatter(
                mean,
                rows,
                color=shade,
                s=34,
                zorder=3,
                clip_on=False,
                edgecolor="#555555",
                lw=0.4,
                label=share_pruned(s),
            )
        axes.scatter(dense, rows, color="#0072B2", marker="D", s=34, zorder=4, label="dense", clip_on=False)
        axes.set_title("pruned, not retrained" if model == "pruned" else "then retrained, no mitigation")
        axes.set_xlabel(f"accuracy, {split} split")
        percent_axis(axes.xaxis)
    keep_in_range(panels[0], "x", "accuracy")
    names, sizes = results.group_names, results.group_sizes[split]
    panels[0].set_yticks(rows, [f"{names[g]}\n(n = {sizes[g]:,})" for g in groups])
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[-1:] + handles[:-1], labels[-1:] + labels[:-1], loc="outside upper center", ncols=7)
    return figure


def mitigation(results: Results) -> Figure | None:
    """Overall accuracy, accuracy spread and ξ of the retrained models over the sparsity."""
    split, _ = headline(results)
    models = [model for model in results.models if model != "pruned"]
    if not models:
        return None
    figure = Figure((_WIDTH, 3.4))
    panels = figure.subplots(1, 3)
    measures = {
        "accuracy": "overall accuracy ↑",
        "accuracy_spread": "accuracy spread ↓",
        "excessive_loss_spread": "spread ξ of R, nats ↓",
    }
    positions = np.arange(len(results.sparsities))
    for axes, (measure, title) in zip(panels, measures.items(), strict=True):
        for i, model in enumerate(models):
            values = np.stack([overall_figures(results, model, s, split)[measure] for s in results.sparsities])
            drawn = over_seeds(results, values, measure, axis=1)
            at = positions + 0.16 * (i - (len(models) - 1) / 2)
            colour = MODEL_COLOURS[model]
            draw_bars(axes, "y", at, drawn, colour, lw=1.4, alpha=0.7)
            axes.plot(at, drawn.mean, "o", color=colour, ms=5, label=MODEL_NAMES[model], clip_on=False)
        keep_in_range(axes, "y", measure)
        axes.set_xticks(positions, [percent(s) for s in results.sparsities])
        axes.set_xlabel("share of weights pruned")
        axes.set_title(title, fontsize=9.5)
    percent_axis(panels[0].yaxis)
    percent_axis(panels[1].yaxis)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(models))
    return figure


def causes(results: Results) -> Figure | None:
    """Size, gradient norm, eigenvalue and boundary closeness of each group beside its harm, each summing to 1."""
    theory = results.theory
    if theory is None:
        return None
    sparsity = headline(results).sparsity
    s = int(np.argmin(np.abs(theory.sparsities - sparsity)))
    sizes = np.array(results.group_sizes[theory.split], float)
    columns = {
        "share of examples": np.broadcast_to(sizes, theory.gradient_norm.shape),
        "gradient norm ‖g‖": theory.gradient_norm,
        "top eigenvalue λ(H)": theory.eigenvalue,
        "closeness 1 − ‖p‖²": theory.closeness,
        f"harm R at {percent(sparsity)}": theory.observed[s],
    }
    groups = groups_to_draw(results)
    rows = np.arange(len(groups))
    figure = Figure((_WIDTH, 1.2 + 0.34 * len(rows)))
    panels = figure.subplots(1, len(columns), sharey=True)
    colours = [group_colours(results)[g] for g in groups]
    for axes, (title, values) in zip(panels, columns.items(), strict=True):
        quantity = "share" if np.all(values[np.isfinite(values)] >= 0) else "signed_share"
        share = over_seeds(results, shares(values), quantity).at(groups)
        axes.barh(rows, share.mean, color=colours, height=0.68)
        if "λ" in title:
            hatch(axes, unfinished_groups(results)[groups])
        if title != "share of examples":
            draw_bars(axes, "x", rows, share, "#222222", lw=1.1)
        keep_in_range(axes, "x", quantity)
        axes.set_title(title, fontsize=9)
        axes.grid(axis="y", visible=False)
        percent_axis(axes.xaxis, 3)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(rows, [results.group_names[g] for g in groups])
    panels[0].invert_yaxis()
    panels[len(panels) // 2].set_xlabel(f"share of the sum over groups, {theory.split} split", color="#444444")
    explain_marks(figure, unfinished_groups(results)[groups], bars=True)
    return figure


def bound(results: Results) -> Figure | None:
    """The bound of Theorem 1 and the second-order value against the observed harm, per group and sparsity."""
    theory = results.theory
    if theory is None:
        return None
    taylor = theory.first_order + theory.second_order
    observed = interval(results, theory.observed, axis=1).mean
    positive = observed > 0
    if not positive.any():
        return None  # pruning hurt no group: nothing has a place on a logarithmic axis
    figure = Figure((_WIDTH, 4.0))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    shades = mpl.colormaps["YlOrRd"](np.linspace(0.3, 1, len(theory.sparsities)))
    unfinished = unfinished_groups(results)
    for axes, values, hollow, title in (
        (panels[0], theory.bound, unfinished, "bound of Theorem 1, without remainder"),
        (panels[1], taylor, np.zeros_like(unfinished), "exact second-order value gᵀΔ + ½ΔᵀHΔ"),
    ):
        mean = interval(results, values, axis=1).mean
        for i, s in enumerate(theory.sparsities):
            shown = positive[i] & (mean[i] > 0)
            label = share_pruned(s)
            full, empty = shown & ~hollow, shown & hollow
            look: Any = {"color": shades[i], "edgecolor": "#555555", "lw": 0.4, "s": 34}
            axes.scatter(observed[i][full], mean[i][full], label=label, **look)
            look |= {"color": "white", "edgecolor": shades[i], "lw": 1.4}
            axes.scatter(observed[i][empty], mean[i][empty], **look)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(title)
        axes.set_xlabel(f"observed excessive loss R(a), {theory.split} split (nats)")
    low, high = panels[0].get_xlim()
    for axes in panels:
        axes.plot([low, high], [low, high], color="#666666", lw=1, ls="--", zorder=1)
        axes.set_xlim(low, high)
        axes.annotate("equal", (high, high), xytext=(-4, -12), textcoords="offset points", ha="right", color="#666666")
    panels[0].set_ylabel("nats")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=8)
    explain_marks(figure, unfinished)
    return figure


def multipliers(results: Results) -> Figure | None:
    """How the multiplier of each group moved during the constrained trainings."""
    _, sparsity = headline(results)
    wanted = {
        ("fair_dense", 0.0): "dense training",
        ("fair_after", sparsity): f"retraining at {percent(sparsity)}: fair after",
        ("fair_both", sparsity): f"retraining at {percent(sparsity)}: fair both",
    }
    shown = [key for key in wanted if key in results.multipliers]
    if not shown:
        return None
    figure = Figure((_WIDTH, 3.2))
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    colours = group_colours(results)
    for axes, key in zip(panels, shown, strict=True):
        values = results.multipliers[key]
        quantity = multiplier_kind(values)
        drawn = over_seeds(results, values, quantity)
        x = np.linspace(0, 1, len(drawn.mean))
        for g, colour in enumerate(colours):
            if colour != GREY:
                draw_trajectories(axes, x, drawn.at(g), colour)
            label = results.group_names[g] if colour != GREY else None if GREY in colours[:g] else "others"
            axes.plot(x, drawn.mean[:, g], color=colour, lw=1.6 if colour != GREY else 1.0, label=label)
        keep_in_range(axes, "y", quantity)
        axes.set_title(wanted[key], fontsize=9.5)
        axes.set_xlabel("share of the training done")
        percent_axis(axes.xaxis)
    panels[0].set_ylabel("multiplier λ after the step")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


FIGURES: Mapping[str, Callable[[Results], Figure | None]] = {
    "answer": answer_figure,
    "harm": harm,
    "accuracy": accuracy,
    "mitigation": mitigation,
    "causes": causes,
    "bound": bound,
    "multipliers": multipliers,
}


def draw(name: str, results: Results, folder: Path) -> bool:
    """Draws a figure as SVG and PNG; False where the results do not have what it shows."""
    return save_figure(name, lambda: FIGURES[name](results), folder)


def _labels(results: Results, colours: Sequence[str]) -> list[str]:
    """The names at the ends of the lines; of many lines, those of the coloured ones."""
    names = results.group_names
    return [name if len(names) <= MOST_LABELS or c != GREY else "" for name, c in zip(names, colours, strict=True)]


def _sparsity_axis(axes: Axes, results: Results) -> None:
    axes.set_xlabel("share of weights pruned")
    axes.set_xticks(range(len(results.sparsities) + 1), ["dense", *map(percent, results.sparsities)])
