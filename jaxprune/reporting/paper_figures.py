"""The figures of the paper, for any data set."""

import numpy as np
from matplotlib.figure import Figure

from jaxprune.reporting.charts import draw_bars, keep_in_range, over_seeds, percent_axis
from jaxprune.reporting.findings import headline
from jaxprune.reporting.laboratory_values import correlations, group_means, measured, shares
from jaxprune.reporting.many import MOST_LABELS, groups_to_draw
from jaxprune.reporting.numbers import percent
from jaxprune.reporting.panels import WIDTH, explain_marks, hatch, lines, paired, rows_of_panels
from jaxprune.reporting.results import Results
from jaxprune.reporting.style import GREY, group_colours, label_offset
from jaxprune.reporting.theory_findings import not_converged, theory_of, unfinished_groups


def sizes(results: Results) -> Figure:
    """Figures 2 and 3 of the paper: group share, and accuracy, beside the share of the gradient norms."""
    theory = theory_of(results)
    size = np.broadcast_to(np.array(results.group_sizes[theory.split], float), theory.gradient_norm.shape)
    split = headline(results).split
    figure, panels = rows_of_panels(results, 2)
    gradient = shares(theory.gradient_norm)
    paired(results, panels[0], {"share of the examples": shares(size), "share of ‖g‖": gradient})
    accuracy = results.metrics["dense", 0.0, split].accuracy
    paired(results, panels[1], {f"accuracy, {split} split": accuracy, "share of ‖g‖": gradient})
    panels[0].set_title("size and gradient norm")
    panels[1].set_title("accuracy and gradient norm")
    return figure


def causes(results: Results) -> Figure:
    """Figures 5, 12 and 13: gradient norm, eigenvalue, margin and accuracy of each group, unpruned."""
    theory = theory_of(results)
    columns = {
        "share of ‖g‖": ("share", shares(theory.gradient_norm)),
        "share of λ(H)": ("signed_share", shares(theory.eigenvalue)),
        "margin p₁ − p₂": ("margin", theory.margin),
        "accuracy": ("accuracy", results.metrics["dense", 0.0, headline(results).split].accuracy),
    }
    figure, panels = rows_of_panels(results, len(columns))
    groups, colours = groups_to_draw(results), group_colours(results)
    rows = np.arange(len(groups))
    for axes, (title, (quantity, values)) in zip(panels, columns.items(), strict=True):
        drawn = over_seeds(results, values, quantity).at(groups)
        axes.barh(rows, drawn.mean, color=[colours[g] for g in groups], height=0.66)
        if "λ" in title:
            hatch(axes, unfinished_groups(results)[groups])
        draw_bars(axes, "x", rows, drawn, "#222222", lw=1.1)
        keep_in_range(axes, "x", quantity)
        if quantity != "margin":
            percent_axis(axes.xaxis, 4)
        axes.set_title(title)
    explain_marks(figure, unfinished_groups(results)[groups], bars=True)
    return figure


def correlation(results: Results) -> Figure | None:
    """Figure 6: gradient norm against the largest eigenvalue."""
    theory = theory_of(results)
    x, y = shares(theory.gradient_norm), shares(theory.eigenvalue)
    across, up, unfinished = group_means(x), group_means(y), unfinished_groups(results)
    if not np.isfinite(across + up).any():
        return None
    figure = Figure((WIDTH, 3.6))
    axes = figure.subplots()
    for g, (name, colour) in enumerate(zip(results.group_names, group_colours(results), strict=True)):
        fill, edge = ("white", colour) if unfinished[g] else (colour, "white")
        axes.scatter(x[:, g], y[:, g], s=12, color=colour, alpha=0.5, lw=0)
        axes.scatter(across[g], up[g], s=64, color=fill, edgecolor=edge, lw=1.4, zorder=3)
        if np.isfinite([across[g], up[g]]).all() and (colour != GREY or len(results.group_names) <= MOST_LABELS):
            offset = label_offset(across, up, g)
            axes.annotate(name, (across[g], up[g]), xytext=offset, textcoords="offset points", fontsize=9)
    explain_marks(figure, unfinished)
    pearson, spearman = correlations(across, up)
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
    norms = np.stack([theory.gradient_norm, *measured(results, "pruned", "gradient_norm")])
    columns = {
        f"accuracy, {split} split": ("accuracy", np.stack(accuracy)),
        f"‖g‖, {theory.split} split": ("gradient_norm", norms),
        "λ(H)": ("eigenvalue", np.stack([theory.eigenvalue, *measured(results, "pruned", "value")])),
    }
    figure = Figure((WIDTH, 3.3))
    panels = figure.subplots(1, 3)
    found = (measured(results, "pruned", name) for name in ("value", "converged"))
    unfinished = np.stack([unfinished_groups(results), *np.any(not_converged(results, *found), 1)])
    for axes, (title, (quantity, values)) in zip(panels, columns.items(), strict=True):
        mean = over_seeds(results, values, quantity, axis=1).mean
        lines(results, axes, mean, unfinished if "λ" in title else None)
        keep_in_range(axes, "y", quantity)
        if quantity == "accuracy":
            percent_axis(axes.yaxis)
        axes.set_xticks(range(len(values)), ["0", *(percent(s).removesuffix(" %") for s in theory.sparsities)])
        axes.set_xlabel("% pruned")
        axes.set_title(title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    explain_marks(figure, unfinished)
    return figure


def _cut(results: Results) -> list[tuple[str, float]]:
    return [("pruned", float(s)) for s in theory_of(results).sparsities]
