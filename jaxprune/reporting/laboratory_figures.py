"""The figures of the theory's chapter: those of the paper for any data set, and further ones."""

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from jaxprune.reporting.charts import keep_in_range, share_pruned
from jaxprune.reporting.laboratory_values import (
    FACTOR,
    group_means,
    headline_index,
    measured,
    predictor_scores,
)
from jaxprune.reporting.many import groups_to_draw
from jaxprune.reporting.panels import WIDTH, explain_marks, legend_labels, lines, sparsity_axis
from jaxprune.reporting.paper_figures import causes, correlation, pruned, sizes
from jaxprune.reporting.results import Results
from jaxprune.reporting.style import GREY, PALETTE, group_colours, save_figure
from jaxprune.reporting.theory_findings import PREDICTORS, theory_of, unfinished_groups

_MOST_CELLS = 12  # groups on a side of a matrix whose numbers can be read
_LETTERS = 90  # that fit side by side below an axis


def cosines(results: Results) -> Figure | None:
    """The cosines between the gradients of every two groups."""
    if "cosines" not in (results.laboratory or {}):
        return None
    groups = groups_to_draw(results)
    names = [results.group_names[g] for g in groups]
    values = group_means(np.moveaxis(measured(results, "cosines", "cosines"), 0, 1))[np.ix_(groups, groups)]
    if np.isfinite(values).sum() <= len(names):
        return None
    figure = Figure((WIDTH, 1.4 + 0.36 * len(names)), layout=ConstrainedLayoutEngine(w_pad=0.12))
    axes = figure.subplots()
    shown = axes.imshow(
        np.where(np.eye(len(names), dtype=bool), np.nan, values), cmap="RdBu", vmin=-1, vmax=1, aspect="auto"
    )
    places = range(len(names))
    if len(names) <= _MOST_CELLS:
        for a in places:
            for b in places:
                if a != b and np.isfinite(values[a, b]):
                    light = abs(values[a, b]) > 0.6
                    axes.text(b, a, f"{values[a, b]:+.2f}", ha="center", va="center", fontsize=8,
                              color="white" if light else "#222222")  # fmt: skip
    crowded = sum(map(len, names)) > _LETTERS
    axes.set_xticks(places, names, **({"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if crowded else {}))
    axes.set_yticks(places, names)
    axes.grid(visible=False)
    figure.colorbar(shown, ax=axes, label="cosine of the gradients", pad=0.02)
    return figure


def density(results: Results) -> Figure | None:
    """The spectral density of each group's Hessian."""
    if "density" not in (results.laboratory or {}):
        return None
    grid, height = measured(results, "density", "grid"), measured(results, "density", "density")
    if not np.isfinite(height).any():
        return None
    figure = Figure((WIDTH, 3.4))
    axes = figure.subplots()
    for values, colour in zip(height, group_colours(results), strict=True):
        axes.plot(grid, values, color=colour, lw=1.4 if colour != GREY else 0.9)
    axes.set_yscale("log")
    axes.set_ylim(np.nanmax(height) * 1e-6, np.nanmax(height) * 2)
    axes.set_xscale("symlog", linthresh=float(measured(results, "density", "width")) * 3)
    axes.set_xlabel(f"eigenvalue of the group’s Hessian, {theory_of(results).split} split")
    axes.set_ylabel("density")
    handles = [Line2D([], [], color=colour, lw=2, label=label) for label, colour in legend_labels(results) if label]
    figure.legend(handles=handles, loc="outside upper center", ncols=5)
    return figure


def attribution(results: Results) -> Figure | None:
    """R(a) at the headline sparsity, split over the layers."""
    if "attribution" not in (results.laboratory or {}):
        return None
    s = headline_index(results)
    groups = groups_to_draw(results)
    observed = group_means(measured(results, "attribution", "observed")[s])[groups]
    path = group_means(np.moveaxis(measured(results, "attribution", "path")[s], 0, 1))[groups]
    leaves = (results.laboratory or {})["attribution"]["leaves"]
    large = np.any(np.abs(path) > 0, 0)
    if not np.isfinite(observed).any() or not large.any():
        return None
    names = [n for n, shown in zip(leaves, large, strict=True) if shown]
    parts = path[:, large]
    rows = np.arange(len(groups))
    shades = PALETTE[:-1] if len(names) < len(PALETTE) else mpl.colormaps["viridis"](np.linspace(0, 0.95, len(names)))
    figure = Figure((WIDTH, 1.5 + 0.36 * len(rows)))
    axes = figure.subplots()
    up, down = np.zeros(len(rows)), np.zeros(len(rows))
    for layer, name in enumerate(names):
        part = np.nan_to_num(parts[:, layer])
        left = np.where(part >= 0, up, down)
        axes.barh(rows, part, left=left, height=0.62, color=shades[layer], label=name)
        up, down = up + np.maximum(part, 0), down + np.minimum(part, 0)
    axes.scatter(observed, rows, marker="D", s=26, color="white", edgecolor="#111111", zorder=4, label="R(a)")
    axes.axvline(0, color="#666666", lw=0.8)
    axes.set_yticks(rows, [results.group_names[g] for g in groups])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"contribution to R(a) at {share_pruned(theory_of(results).sparsities[s])} (nats)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def ratio(results: Results) -> Figure | None:
    """The bound of Theorem 1 over the observed harm, over the sparsity."""
    theory = theory_of(results)
    observed, bound = group_means(theory.observed), group_means(theory.bound)
    values = np.where(observed > 0, bound / np.where(observed > 0, observed, 1), np.nan)
    if not np.isfinite(values).any():
        return None
    figure = Figure((WIDTH, 3.4))
    axes = figure.subplots()
    axes.axhspan(1, FACTOR, color="#EFEFEF", zorder=0)
    axes.set_yscale("log")
    marked = np.broadcast_to(unfinished_groups(results), values.shape)
    lines(results, axes, values, marked)
    explain_marks(figure, marked)
    sparsity_axis(results, axes)
    axes.set_ylabel("bound / observed R(a)")
    last = [next((v for v in reversed(column) if np.isfinite(v)), np.nan) for column in values.T]
    shown = [g for g, v in enumerate(last) if np.isfinite(v)]
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    axes.margins(x=0.05)
    return figure if shown else None


def scores(results: Results) -> Figure | None:
    """How well each predictor ranks the groups, and its regret, over the sparsity."""
    found = predictor_scores(results)
    parts = {
        "spearman": "rank correlation with the harm (Spearman) ↑",
        "regret": "regret of the worst group named, nats ↓",
    }
    # Fewer than three groups have no correlation: a panel for it would be empty.
    shown = [part for part in parts if any(np.isfinite(getattr(score, part)).any() for score in found.values())]
    if not shown:
        return None
    figure = Figure((WIDTH, 3.6))
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    x = range(len(theory_of(results).sparsities))
    for axes, part in zip(panels, shown, strict=True):
        for (name, score), colour in zip(found.items(), PALETTE, strict=False):
            values = getattr(score, part)
            known = np.isfinite(values).sum(1)
            mean = np.where(known > 0, np.nansum(values, 1) / np.maximum(known, 1), np.nan)
            axes.plot(x, mean, "o-", ms=4, lw=1.4, color=colour, label=PREDICTORS[name], clip_on=False)
        sparsity_axis(results, axes)
        axes.set_title(parts[part])
        if part == "spearman":
            axes.set_ylim(-1, 1)
            axes.axhline(0, color="#666666", lw=0.8)
        else:
            keep_in_range(axes, "y", "regret")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


FIGURES: Mapping[str, Callable[[Results], Figure | None]] = {
    "theory-sizes": sizes,
    "theory-causes": causes,
    "theory-correlation": correlation,
    "theory-pruned": pruned,
    "theory-cosines": cosines,
    "theory-density": density,
    "theory-attribution": attribution,
    "theory-ratio": ratio,
    "theory-scores": scores,
}


def draw_theory(results: Results, folder: Path) -> list[str]:
    """Draws the figures of the theory's chapter as SVG and PNG, where there is a chapter.

    Returns:
      The names of those that were drawn.
    """
    if results.theory is None or not results.laboratory:
        return []
    return [name for name, make in FIGURES.items() if save_figure(name, lambda make=make: make(results), folder)]
