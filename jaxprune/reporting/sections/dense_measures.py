"""Gradients, curvature and the boundary at the dense network: the paper's Figures 5, 12 and 13."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.reporting.charts import draw_bars, keep_in_range, over_seeds, percent_axis
from jaxprune.reporting.group_charts import explain_marks, hatch, rows_of_panels
from jaxprune.reporting.group_display import group_colours, groups_to_draw
from jaxprune.reporting.page import Figure, Section
from jaxprune.reporting.roles import dense_metrics, headline
from jaxprune.reporting.shown import drawn
from jaxprune.reporting.theory_values import correlation_words, shares, theory_of, unfinished_groups
from jaxprune.results import Results


def dense_measures(results: Results) -> Section:
    """What the dense network tells of each group, as the paper draws it."""
    theory = theory_of(results)
    figure = Figure(
        "theory-causes",
        partial(_draw, drawn(results)),
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


def _draw(results: Results) -> Drawing:
    theory = theory_of(results)
    columns = {
        "share of ‖g‖": ("share", shares(theory.gradient_norm)),
        "share of λ(H)": ("signed_share", shares(theory.eigenvalue)),
        "margin p₁ − p₂": ("margin", theory.margin),
        "accuracy": ("accuracy", dense_metrics(results, headline(results).split).accuracy),
    }
    figure, panels = rows_of_panels(results, len(columns))
    groups, colours = groups_to_draw(results), group_colours(results)
    rows = np.arange(len(groups))
    for axes, (title, (quantity, values)) in zip(panels, columns.items(), strict=True):
        found = over_seeds(results, values, quantity).at(groups)
        axes.barh(rows, found.mean, color=[colours[g] for g in groups], height=0.66)
        if "λ" in title:
            hatch(axes, unfinished_groups(results)[groups])
        draw_bars(axes, "x", rows, found, "#222222", lw=1.1)
        keep_in_range(axes, "x", quantity)
        if quantity != "margin":
            percent_axis(axes.xaxis, 4)
        axes.set_title(title)
    explain_marks(figure, unfinished_groups(results)[groups], bars=True)
    return figure
