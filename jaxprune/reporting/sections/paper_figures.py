"""The figures of the paper, for any data set."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.numbers import percent, signed
from jaxprune.quantities import seed_means
from jaxprune.reporting.charts import keep_in_range, over_seeds, percent_axis
from jaxprune.reporting.group_charts import explain_marks, lines, measure_bars, paired, rows_of_panels
from jaxprune.reporting.group_display import MOST_LABELS, group_colours
from jaxprune.reporting.page import Figure, Section
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.roles import compressed, dense_metrics, headline
from jaxprune.reporting.style import GREY, WIDTH, label_offset
from jaxprune.reporting.theory_values import (
    correlation_words,
    correlations,
    has,
    measured,
    not_converged,
    overflowed,
    shares,
    split_sizes,
    theory_of,
    unfinished_groups,
)
from jaxprune.results import Results
from jaxprune.text import name_some


def sizes(results: Results) -> Section:
    """Group share and accuracy beside the gradient norm."""
    norm = theory_of(results).gradient_norm
    accuracy = dense_metrics(results, headline(results).split).accuracy
    seeds = " Lines are intervals over seeds." if len(results.seeds) >= MINIMUM_SEEDS else ""
    figure = Figure(
        "theory-sizes",
        partial(_draw_sizes, drawn(results)),
        "Left, the paper’s Figure 2: share of the examples beside share of the gradient norms. Right, its Figure 3: "
        f"accuracy of the dense network beside the share of the gradient norms.{seeds}",
        "Bars of group share, accuracy and gradient norm for each group",
    )
    sentences = (
        correlation_words(results, "group size", split_sizes(results), "‖g‖", norm),
        correlation_words(results, "dense accuracy", accuracy, "‖g‖", norm),
    )
    return Section("Group size, accuracy and gradient norm", (*sentences, figure))


def _draw_sizes(results: Results) -> Drawing:
    split, gradient = headline(results).split, shares(theory_of(results).gradient_norm)
    figure, panels = rows_of_panels(results, 2)
    paired(results, panels[0], {"share of the examples": shares(split_sizes(results)), "share of ‖g‖": gradient})
    accuracy = dense_metrics(results, split).accuracy
    paired(results, panels[1], {f"accuracy, {split} split": accuracy, "share of ‖g‖": gradient})
    panels[0].set_title("size and gradient norm")
    panels[1].set_title("accuracy and gradient norm")
    return figure


def measures(results: Results) -> Section:
    """Gradient norm, curvature, margin and accuracy, as the paper draws them."""
    theory = theory_of(results)
    figure = Figure(
        "theory-causes",
        partial(_draw_measures, drawn(results)),
        "The unpruned network, as in the paper’s Figures 5, 12 and 13: gradient norm, largest Hessian eigenvalue, "
        "distance to the decision boundary (mean margin) and accuracy of each group.",
        "Bars of gradient norm, eigenvalue, margin and accuracy for each group",
    )
    return Section(
        "Gradients, the boundary and curvature",
        (
            correlation_words(results, "the margin p₁ − p₂", theory.margin, "λ(H)", theory.eigenvalue),
            "Each measure but accuracy and margin is divided by its sum over the groups, as in the paper.",
            figure,
        ),
    )


def _draw_measures(results: Results) -> Drawing:
    theory = theory_of(results)
    columns = {
        "share of ‖g‖": ("share", shares(theory.gradient_norm)),
        "share of λ(H)": ("signed_share", shares(theory.eigenvalue)),
        "margin p₁ − p₂": ("margin", theory.margin),
        "accuracy": ("accuracy", dense_metrics(results, headline(results).split).accuracy),
    }
    return measure_bars(results, columns)


def correlation(results: Results) -> Section:
    """Gradient norm against the largest eigenvalue."""
    theory = theory_of(results)
    norm, eigenvalue = shares(theory.gradient_norm), shares(theory.eigenvalue)
    figure = Figure(
        "theory-correlation",
        partial(_draw_correlation, drawn(results)),
        "The paper’s Figure 6: share of the gradient norms against share of the largest eigenvalues. A small point for "
        "each seed, a large one for their mean.",
        "Scatter of gradient norm against top eigenvalue, groups labelled",
    )
    sentence = correlation_words(results, "the shares of ‖g‖", norm, "the shares of λ(H)", eigenvalue)
    return Section("Gradient norm and curvature", (sentence, figure))


def _draw_correlation(results: Results) -> Drawing | None:
    theory = theory_of(results)
    x, y = shares(theory.gradient_norm), shares(theory.eigenvalue)
    across, up, unfinished = seed_means(x), seed_means(y), unfinished_groups(results)
    if not np.isfinite(across + up).any():
        return None
    figure = Drawing((WIDTH, 3.6))
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
        axes.set_title(f"Pearson {signed(pearson, 2)}, Spearman {signed(spearman, 2)}")
    axes.margins(x=0.16)
    axes.set_xlabel(f"share of ‖g‖, {theory.split} split")
    axes.set_ylabel("share of λ(H)")
    return figure


def pruned(results: Results) -> Section | None:
    """Gradients and curvature of the pruned networks."""
    if not has(results, "pruned"):
        return None
    theory = theory_of(results)
    values, converged = (measured(results, "pruned", name) for name in ("value", "converged"))
    norm, eigenvalue = seed_means(measured(results, "pruned", "gradient_norm"))[-1], seed_means(values)[-1]
    rose = int(np.sum(norm > seed_means(theory.gradient_norm)))
    fell = int(np.sum(eigenvalue < seed_means(theory.eigenvalue)))
    groups = int(np.sum(np.isfinite(norm) & np.isfinite(eigenvalue)))
    sentences = [
        f"From the dense network to {percent(theory.sparsities[-1])} pruned, ‖g‖ rises for {rose} of {groups} groups "
        f"and λ(H) falls for {fell}. Theorem 1 speaks of the dense network only."
    ]
    if unfinished := int(np.sum(not_converged(results, values, converged))):
        total = int(np.sum(np.isfinite(values)))
        sentences.append(f"{unfinished} of {total} eigenvalues have not converged: λ may be larger.")
    if names := overflowed(results, values):
        sentences.append(f"λ of the pruned networks is not finite for {name_some(names)}: they overflowed.")
    figure = Figure(
        "theory-pruned",
        partial(_draw_pruned, drawn(results)),
        "The paper’s Figure 4: accuracy, gradient norm and largest eigenvalue of the pruned networks, not retrained.",
        "Lines of accuracy, gradient norm and eigenvalue over sparsity for each group",
    )
    return Section("How pruning moves gradients and curvature", (*sentences, figure))


def _draw_pruned(results: Results) -> Drawing:
    theory, split = theory_of(results), headline(results).split
    pruned = [compressed(results, float(s), split).metrics for s in theory.sparsities]
    values, converged = (measured(results, "pruned", name) for name in ("value", "converged"))
    columns = {
        f"accuracy, {split} split": ("accuracy", [m.accuracy for m in (dense_metrics(results, split), *pruned)]),
        f"‖g‖, {theory.split} split": (
            "gradient_norm", [theory.gradient_norm, *measured(results, "pruned", "gradient_norm")]
        ),
        "λ(H)": ("eigenvalue", [theory.eigenvalue, *values]),
    }  # fmt: skip
    figure = Drawing((WIDTH, 3.3))
    panels = figure.subplots(1, len(columns))
    unfinished = np.stack([unfinished_groups(results), *np.any(not_converged(results, values, converged), 1)])
    for axes, (title, (quantity, along)) in zip(panels, columns.items(), strict=True):
        mean = over_seeds(results, np.stack(along), quantity, axis=1).mean
        lines(results, axes, mean, unfinished if "λ" in title else None)
        keep_in_range(axes, "y", quantity)
        if quantity == "accuracy":
            percent_axis(axes.yaxis)
        axes.set_xticks(range(len(along)), ["0", *(percent(s).removesuffix(" %") for s in theory.sparsities)])
        axes.set_xlabel("% pruned")
        axes.set_title(title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    explain_marks(figure, unfinished)
    return figure
