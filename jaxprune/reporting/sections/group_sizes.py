"""Group size and accuracy beside the gradient norm: the paper's Figures 2 and 3."""

from functools import partial

from matplotlib.figure import Figure as Drawing

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.reporting.group_charts import paired, rows_of_panels
from jaxprune.reporting.page import Figure, Section
from jaxprune.reporting.roles import dense_metrics, headline
from jaxprune.reporting.shown import drawn
from jaxprune.reporting.theory_values import correlation_words, shares, split_sizes, theory_of
from jaxprune.results import Results


def group_sizes(results: Results) -> Section:
    """Group share and accuracy beside the gradient norm."""
    norm = theory_of(results).gradient_norm
    accuracy = dense_metrics(results, headline(results).split).accuracy
    seeds = " Lines are intervals over seeds." if len(results.seeds) >= MINIMUM_SEEDS else ""
    figure = Figure(
        "theory-sizes",
        partial(_draw, drawn(results)),
        "Left, the paper’s Figure 2: share of the examples beside share of the gradient norms. Right, its Figure 3: "
        f"accuracy of the dense network beside the share of the gradient norms.{seeds}",
        "Bars of group share, accuracy and gradient norm for each group",
    )
    sentences = (
        correlation_words(results, "group size", split_sizes(results), "‖g‖", norm),
        correlation_words(results, "dense accuracy", accuracy, "‖g‖", norm),
    )
    return Section("Group size, accuracy and gradient norm", (*sentences, figure))


def _draw(results: Results) -> Drawing:
    split, gradient = headline(results).split, shares(theory_of(results).gradient_norm)
    figure, panels = rows_of_panels(results, 2)
    paired(results, panels[0], {"share of the examples": shares(split_sizes(results)), "share of ‖g‖": gradient})
    accuracy = dense_metrics(results, split).accuracy
    paired(results, panels[1], {f"accuracy, {split} split": accuracy, "share of ‖g‖": gradient})
    panels[0].set_title("size and gradient norm")
    panels[1].set_title("accuracy and gradient norm")
    return figure
