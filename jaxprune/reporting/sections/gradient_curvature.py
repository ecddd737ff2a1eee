"""Gradient norm against the largest eigenvalue: the paper's Figure 6."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.numbers import signed
from jaxprune.quantities import seed_means
from jaxprune.reporting.group_charts import explain_marks
from jaxprune.reporting.group_display import MOST_LABELS, group_colours
from jaxprune.reporting.page import Figure, Section
from jaxprune.reporting.shown import drawn
from jaxprune.reporting.style import GREY, WIDTH, label_offset
from jaxprune.reporting.theory_values import correlation_words, correlations, shares, theory_of, unfinished_groups
from jaxprune.results import Results


def gradient_curvature(results: Results) -> Section:
    """Gradient norm against the largest eigenvalue."""
    theory = theory_of(results)
    norm, eigenvalue = shares(theory.gradient_norm), shares(theory.eigenvalue)
    figure = Figure(
        "theory-correlation",
        partial(_draw, drawn(results)),
        "The paper’s Figure 6: share of the gradient norms against share of the largest eigenvalues. A small point for "
        "each seed, a large one for their mean.",
        "Scatter of gradient norm against top eigenvalue, groups labelled",
    )
    sentence = correlation_words(results, "the shares of ‖g‖", norm, "the shares of λ(H)", eigenvalue)
    return Section("Do steep groups bend more?", (sentence, figure))


def _draw(results: Results) -> Drawing | None:
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
