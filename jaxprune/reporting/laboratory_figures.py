"""The figures of the theory's chapter: those of the paper for any data set, and further ones."""

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from jaxprune.reporting.findings import PREDICTORS, headline, interval
from jaxprune.reporting.laboratory_values import (
    FACTOR,
    correlations,
    group_means,
    headline_index,
    measured,
    predictor_scores,
    shares,
    theory_of,
)
from jaxprune.reporting.results import Results
from jaxprune.reporting.style import GREY, PALETTE, group_colours, label_offset, save_figure

_WIDTH = 9.2  # inches
_MOST_CELLS = 12  # groups on a side of a matrix whose numbers can be read
_LETTERS = 90  # that fit side by side below an axis


def sizes(results: Results) -> Figure:
    """Figures 2 and 3 of the paper: group share, and accuracy, beside the share of the gradient norms."""
    theory = theory_of(results)
    size = np.broadcast_to(np.array(results.group_sizes[theory.split], float), theory.gradient_norm.shape)
    split = headline(results).split
    figure, panels = _rows_of_panels(results, 2)
    gradient = shares(theory.gradient_norm)
    _paired(results, panels[0], {"share of the examples": shares(size), "share of ‖g‖": gradient})
    accuracy = results.metrics["dense", 0.0, split].accuracy
    _paired(results, panels[1], {f"accuracy, {split} split": accuracy, "share of ‖g‖": gradient})
    panels[0].set_title("size and gradient norm")
    panels[1].set_title("accuracy and gradient norm")
    return figure


def causes(results: Results) -> Figure:
    """Figures 5, 12 and 13: gradient norm, eigenvalue, margin and accuracy of each group, unpruned."""
    theory = theory_of(results)
    columns = {
        "share of ‖g‖": shares(theory.gradient_norm),
        "share of λ(H)": shares(theory.eigenvalue),
        "margin p₁ − p₂": theory.margin,
        "accuracy": results.metrics["dense", 0.0, headline(results).split].accuracy,
    }
    figure, panels = _rows_of_panels(results, len(columns))
    rows = np.arange(len(results.group_names))
    for axes, (title, values) in zip(panels, columns.items(), strict=True):
        mean, low, high = interval(results, values)
        axes.barh(rows, mean, color=group_colours(results), height=0.66)
        axes.hlines(rows, np.maximum(low, 0) if np.all(mean >= 0) else low, high, color="#222222", lw=1.1)
        axes.set_title(title)
    return figure


def correlation(results: Results) -> Figure:
    """Figure 6: gradient norm against the largest eigenvalue."""
    theory = theory_of(results)
    x, y = shares(theory.gradient_norm), shares(theory.eigenvalue)
    figure = Figure((_WIDTH, 3.6))
    axes = figure.subplots()
    for g, (name, colour) in enumerate(zip(results.group_names, group_colours(results), strict=True)):
        axes.scatter(x[:, g], y[:, g], s=12, color=colour, alpha=0.5, lw=0)
        axes.scatter(x[:, g].mean(), y[:, g].mean(), s=64, color=colour, edgecolor="white", zorder=3)
        place = x[:, g].mean(), y[:, g].mean()
        axes.annotate(name, place, xytext=label_offset(x.mean(0), y.mean(0), g), textcoords="offset points", fontsize=9)
    pearson, spearman = correlations(group_means(x), group_means(y))
    if np.isfinite(pearson):
        axes.set_title(f"Pearson {pearson:+.2f}, Spearman {spearman:+.2f}")
    axes.margins(x=0.16)
    axes.set_xlabel(f"share of ‖g‖, {theory.split} split")
    axes.set_ylabel("share of λ(H)")
    return figure


def pruned(results: Results) -> Figure | None:
    """Figure 4: accuracy, gradient norm and eigenvalue of the pruned networks over the sparsity."""
    if "pruned" not in (results.laboratory or {}):
        return None
    theory, split = theory_of(results), headline(results).split
    accuracy = [results.metrics[model, s, split].accuracy for model, s in [("dense", 0.0), *_cut(results)]]
    columns = {
        f"accuracy, {split} split": np.stack(accuracy),
        f"‖g‖, {theory.split} split": np.stack([theory.gradient_norm, *measured(results, "pruned", "gradient_norm")]),
        "λ(H)": np.stack([theory.eigenvalue, *measured(results, "pruned", "value")]),
    }
    figure = Figure((_WIDTH, 3.3))
    panels = figure.subplots(1, 3)
    for axes, (title, values) in zip(panels, columns.items(), strict=True):
        _lines(results, axes, interval(results, values, axis=1).mean)
        axes.set_xticks(range(len(values)), ["0", *(f"{100 * s:.4g}" for s in theory.sparsities)])
        axes.set_xlabel("% pruned")
        axes.set_title(title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def cosines(results: Results) -> Figure | None:
    """The cosines between the gradients of every two groups."""
    if "cosines" not in (results.laboratory or {}):
        return None
    values, names = measured(results, "cosines", "cosines").mean(0), results.group_names
    if np.isfinite(values).sum() <= len(names):
        return None
    figure = Figure((_WIDTH, 1.4 + 0.36 * len(names)), layout=ConstrainedLayoutEngine(w_pad=0.12))
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
    figure = Figure((_WIDTH, 3.4))
    axes = figure.subplots()
    for values, colour in zip(height, group_colours(results), strict=True):
        axes.plot(grid, values, color=colour, lw=1.4 if colour != GREY else 0.9)
    axes.set_yscale("log")
    axes.set_ylim(height.max() * 1e-6, height.max() * 2)
    axes.set_xscale("symlog", linthresh=float(measured(results, "density", "width")) * 3)
    axes.set_xlabel(f"eigenvalue of the group’s Hessian, {theory_of(results).split} split")
    axes.set_ylabel("density")
    handles = [Line2D([], [], color=c, lw=2) for c in group_colours(results)]
    figure.legend(handles, results.group_names, loc="outside upper center", ncols=5)
    return figure


def attribution(results: Results) -> Figure | None:
    """R(a) at the headline sparsity, split over the layers."""
    if "attribution" not in (results.laboratory or {}):
        return None
    s = headline_index(results)
    path = measured(results, "attribution", "path")[s].mean(0)
    observed = measured(results, "attribution", "observed")[s].mean(0)
    leaves = (results.laboratory or {})["attribution"]["leaves"]
    large = np.nanmax(np.abs(path), 0) > 0
    names = [n for n, shown in zip(leaves, large, strict=True) if shown]
    parts = path[:, large]
    rows = np.arange(len(results.group_names))
    shades = PALETTE[:-1] if len(names) < len(PALETTE) else mpl.colormaps["viridis"](np.linspace(0, 0.95, len(names)))
    figure = Figure((_WIDTH, 1.5 + 0.36 * len(rows)))
    axes = figure.subplots()
    up, down = np.zeros(len(rows)), np.zeros(len(rows))
    for layer, name in enumerate(names):
        part = np.nan_to_num(parts[:, layer])
        left = np.where(part >= 0, up, down)
        axes.barh(rows, part, left=left, height=0.62, color=shades[layer], label=name)
        up, down = up + np.maximum(part, 0), down + np.minimum(part, 0)
    axes.scatter(observed, rows, marker="D", s=26, color="white", edgecolor="#111111", zorder=4, label="R(a)")
    axes.axvline(0, color="#666666", lw=0.8)
    axes.set_yticks(rows, results.group_names)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"contribution to R(a) at {theory_of(results).sparsities[s]:.0%} pruned (nats)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


def ratio(results: Results) -> Figure | None:
    """The bound of Theorem 1 over the observed harm, over the sparsity."""
    theory = theory_of(results)
    observed, bound = theory.observed.mean(1), theory.bound.mean(1)
    values = np.where(observed > 0, bound / np.where(observed > 0, observed, 1), np.nan)
    if not np.isfinite(values).any():
        return None
    figure = Figure((_WIDTH, 3.4))
    axes = figure.subplots()
    axes.axhspan(1, FACTOR, color="#EFEFEF", zorder=0)
    axes.set_yscale("log")
    _lines(results, axes, values)
    _sparsities(results, axes)
    axes.set_ylabel("bound / observed R(a)")
    last = [next((v for v in reversed(column) if np.isfinite(v)), np.nan) for column in values.T]
    shown = [g for g, v in enumerate(last) if np.isfinite(v)]
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    axes.margins(x=0.05)
    return figure if shown else None


def scores(results: Results) -> Figure | None:
    """How well each predictor ranks the groups, and its regret, over the sparsity."""
    found = predictor_scores(results)
    figure = Figure((_WIDTH, 3.6))
    panels = figure.subplots(1, 2)
    x = range(len(theory_of(results).sparsities))
    for axes, part, title in (
        (panels[0], "spearman", "rank correlation with the harm (Spearman) ↑"),
        (panels[1], "regret", "regret of the worst group named, nats ↓"),
    ):
        for (name, score), colour in zip(found.items(), PALETTE, strict=False):
            values = getattr(score, part)
            known = np.isfinite(values).sum(1)
            mean = np.where(known > 0, np.nansum(values, 1) / np.maximum(known, 1), np.nan)
            axes.plot(x, mean, "o-", ms=4, lw=1.4, color=colour, label=PREDICTORS[name])
        _sparsities(results, axes)
        axes.set_title(title)
    panels[0].set_ylim(-1.08, 1.08)
    panels[0].axhline(0, color="#666666", lw=0.8)
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


def _rows_of_panels(results: Results, count: int) -> tuple[Figure, list[Axes]]:
    """Panels side by side with a row for each group."""
    names = results.group_names
    figure = Figure((_WIDTH, 1.3 + 0.4 * len(names)))
    panels = list(figure.subplots(1, count, sharey=True))
    panels[0].set_yticks(np.arange(len(names)), names)
    panels[0].invert_yaxis()
    for axes in panels:
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    return figure, panels


def _paired(results: Results, axes: Axes, columns: Mapping[str, np.ndarray]) -> None:
    """Two bars for each group."""
    rows = np.arange(len(results.group_names))
    for shift, colour, (label, values) in zip((-0.19, 0.19), (GREY, PALETTE[0]), columns.items(), strict=True):
        mean, low, high = interval(results, values)
        axes.barh(rows + shift, mean, height=0.36, color=colour, label=label)
        if np.nanmax(np.ptp(values, 0)) > 0:
            axes.hlines(rows + shift, np.maximum(low, 0), high, color="#222222", lw=1.0)  # a share is not negative
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8.5)


def _lines(results: Results, axes: Axes, values: np.ndarray) -> None:
    """A line for each group, [S, G]."""
    for g, (name, colour) in enumerate(zip(results.group_names, group_colours(results), strict=True)):
        axes.plot(values[:, g], "o-", ms=3.5, lw=1.6 if colour != GREY else 1.0, color=colour, label=name)


def _sparsities(results: Results, axes: Axes) -> None:
    places = theory_of(results).sparsities
    axes.set_xticks(range(len(places)), [f"{100 * s:.4g}%" for s in places])
    axes.set_xlabel("share of weights pruned")


def _cut(results: Results) -> list[tuple[str, float]]:
    return [("pruned", float(s)) for s in theory_of(results).sparsities]
