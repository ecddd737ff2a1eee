"""The bound of Theorem 1 beside the observed harm."""

from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.numbers import NONE, count, percent, share_pruned, significant
from jaxprune.quantities import cell, seed_means
from jaxprune.reporting.charts import label_powers
from jaxprune.reporting.group_charts import explain_marks, lines, sparsity_axis
from jaxprune.reporting.page import Figure, Folded, Section, Table, rules
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.pruning_name import unit_name
from jaxprune.reporting.style import WIDTH
from jaxprune.reporting.theory_values import convergence, theory_of, unfinished_groups
from jaxprune.results import Results
from jaxprune.theory import uninformative_from

_MOST_ROWS = 12  # of a table that is shown at first
_FACTOR = 10.0  # a bound more than this many times what it bounds is called uninformative


def bound_figure(results: Results) -> Figure:
    """The bound and its exact terms against the harm."""
    return Figure(
        "bound",
        partial(_draw, drawn(results)),
        "Left: R(a) ≤ ‖g‖‖Δ‖ + ½λ‖Δ‖², the two terms of Theorem 1. Right: the exact terms that the bound is made from. "
        "A point for each group and sparsity, means over seeds; on the dashed line both sides are equal. Groups that "
        "pruning did not hurt (R ≤ 0) have no place on a logarithmic axis.",
        "Bound of Theorem 1 and second-order value against the observed excessive loss",
    )


def bound_table(results: Results) -> Folded:
    """The bound for every group and sparsity."""
    theory, rows = theory_of(results), []
    for i, sparsity in enumerate(theory.sparsities):
        for g, name in enumerate(results.group_names):
            observed, bound = theory.observed[i, :, g], theory.bound[i, :, g]
            known = np.isfinite(observed) & np.isfinite(bound)
            rows.append(
                (
                    percent(sparsity),
                    name,
                    cell(results, observed, "excessive_loss"),
                    cell(results, theory.first_order[i, :, g], "first_order"),
                    cell(results, theory.second_order[i, :, g], "second_order"),
                    cell(results, bound, "bound"),
                    significant(bound.mean() / observed.mean()) if known.all() and observed.mean() > 0 else NONE,
                    f"{int(np.sum(known & (observed <= bound)))} of {int(known.sum())}",
                    convergence(results, theory.eigenvalue, theory.converged, g),
                )
            )
    table = Table(
        ("pruned", "group", "observed R", "gᵀΔ", "½ΔᵀHΔ", "bound", "bound / R", "holds in seeds", "λ converged"),
        tuple(rows),
        f"R(a) ≤ ‖g‖‖Δ‖ + ½λ‖Δ‖² on the {theory.split} split, and the exact terms that it bounds. Where λ has not "
        "converged the bound may be too small.",
        words=(0, 1),
        ruled=rules(rows),
    )
    return Folded("The bound of Theorem 1 for every group and sparsity", (table,), open=len(rows) <= _MOST_ROWS)


def tightness(results: Results) -> Section:
    """The sparsity at which the bound of Theorem 1 becomes uninformative."""
    theory = theory_of(results)
    order = np.argsort(theory.sparsities)
    bound, observed = seed_means(theory.bound[order]), seed_means(theory.observed[order])
    limits = uninformative_from(theory.sparsities[order], bound, observed, _FACTOR)
    rows = tuple(
        (name, "informative up to the highest" if np.isnan(s) else f"from {percent(s)} on")
        for name, s in zip(results.group_names, limits, strict=True)
    )
    figure = Figure(
        "theory-ratio",
        partial(_draw_ratio, drawn(results)),
        f"Bound over observed harm, means over seeds. In the grey band, between 1 and {count(_FACTOR)}, the bound is "
        "informative; below it the bound is broken. Where pruning did not hurt a group there is no ratio.",
        "Ratio of bound and observed harm over sparsity for each group",
    )
    headings = ("group", f"bound broken, or more than {count(_FACTOR)} times the harm, or no harm")
    return Section("Where the bound stops being informative", (figure, Table(headings, rows)))


def _draw(results: Results) -> Drawing | None:
    theory = theory_of(results)
    observed = seed_means(theory.observed)
    positive = observed > 0
    if not positive.any():
        return None  # pruning hurt no group: nothing has a place on a logarithmic axis
    figure = Drawing((WIDTH, 4.0))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    shades = mpl.colormaps["YlOrRd"](np.linspace(0.3, 1, len(theory.sparsities)))
    unfinished = unfinished_groups(results)
    for axes, values, hollow, title in (
        (panels[0], theory.bound, unfinished, "bound of Theorem 1, without remainder"),
        (
            panels[1],
            theory.first_order + theory.second_order,
            np.zeros_like(unfinished),
            "exact second-order value gᵀΔ + ½ΔᵀHΔ",
        ),
    ):
        mean = seed_means(values)
        for i, s in enumerate(theory.sparsities):
            shown = positive[i] & (mean[i] > 0)
            full, empty = shown & ~hollow, shown & hollow
            look: Any = {"color": shades[i], "edgecolor": "#555555", "lw": 0.4, "s": 34}
            axes.scatter(observed[i][full], mean[i][full], label=share_pruned(s), **look)
            look |= {"color": "white", "edgecolor": shades[i], "lw": 1.4}
            axes.scatter(observed[i][empty], mean[i][empty], **look)
        axes.set_xscale("log")
        axes.set_yscale("log")
        label_powers(axes.xaxis)
        label_powers(axes.yaxis)
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


def _draw_ratio(results: Results) -> Drawing | None:
    theory = theory_of(results)
    observed, bound = seed_means(theory.observed), seed_means(theory.bound)
    values = np.where(observed > 0, bound / np.where(observed > 0, observed, 1), np.nan)
    if not np.isfinite(values).any():
        return None
    figure = Drawing((WIDTH, 3.4))
    axes = figure.subplots()
    axes.axhspan(1, _FACTOR, color="#EFEFEF", zorder=0)
    axes.set_yscale("log")
    label_powers(axes.yaxis)
    marked = np.broadcast_to(unfinished_groups(results), values.shape)
    lines(results, axes, values, marked)
    explain_marks(figure, marked)
    sparsity_axis(axes, theory.sparsities, unit_name(results))
    axes.set_ylabel("bound / observed R(a)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    axes.margins(x=0.05)
    return figure
