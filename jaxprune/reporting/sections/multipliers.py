"""Multipliers of the groups during the constrained trainings."""

import textwrap
from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.numbers import share_pruned
from jaxprune.quantities import multiplier_kind, spread_words
from jaxprune.reporting.charts import draw_trajectories, keep_in_range, over_seeds, percent_axis
from jaxprune.reporting.group_display import legend_labels
from jaxprune.reporting.methods import candidate_text
from jaxprune.reporting.page import Figure, Section
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.roles import constrained_trainings, headline
from jaxprune.reporting.style import GREY, WIDTH
from jaxprune.results import Network, Results

_COLUMNS = 4  # panels side by side
_IN_LEGEND = 6  # groups side by side


def section(results: Results) -> Section | None:
    """The multipliers of every constrained training at the headline sparsity."""
    if not _trainings(results):
        return None
    sparsity = headline(results, results.baseline).sparsity
    spread = spread_words(len(results.seeds), " with their intervals", " and, thin, each seed")
    figure = Figure(
        "multipliers",
        partial(_draw, drawn(results)),
        "The multiplier of each group’s constraint (for group DRO: the weight of its loss) as it is after each step "
        f"at {share_pruned(sparsity)}, means over seeds{spread}. Each panel has its own scale. A multiplier that keeps "
        "rising belongs to a constraint that is not met.",
        "Multiplier of each group over the constrained trainings",
    )
    return Section("How the multipliers moved", (figure,))


def _trainings(results: Results) -> dict[str, Network]:
    return constrained_trainings(results, headline(results, results.baseline).sparsity)


def _draw(results: Results) -> Drawing:
    trainings, labels, groups = _trainings(results), legend_labels(results), len(results.group_names)
    columns = min(_COLUMNS, len(trainings))
    lines = -(-len(trainings) // columns)
    figure = Drawing((WIDTH, 1.2 + 2.0 * lines))
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (title, network) in zip(panels, trainings.items(), strict=False):
        assert network.multipliers is not None
        quantity = multiplier_kind(network.multipliers)
        values = over_seeds(results, network.multipliers, quantity)
        x, count = np.linspace(0, 1, len(values.mean)), values.mean.shape[1]
        for group, (label, colour) in enumerate(labels):
            grey = colour == GREY
            # A second multiplier of a group, of the eigenvalue, follows those of all groups.
            for column, style in zip(range(group, count, groups), ("-", "--"), strict=False):
                if not grey:
                    draw_trajectories(axes, x, values.at(column), colour)
                look = {"color": colour, "lw": 1.0 if grey else 1.5, "label": label if style == "-" else None}
                axes.plot(x, values.mean[:, column], style, **look)
        note = "; ".join(filter(None, (candidate_text(network.values), "dashed: of λ(H)" if count > groups else "")))
        note = textwrap.fill(note, 124 // columns)
        axes.set_title(title + "\n" * (note.count("\n") + bool(note)), fontsize=9)
        axes.annotate(note, (0, 1.02), xycoords="axes fraction", fontsize=7.5, color="#555555")
        keep_in_range(axes, "y", quantity)
        percent_axis(axes.xaxis, 3)
        axes.tick_params(labelsize=8)
    for axes in panels[len(trainings) :]:
        axes.set_visible(False)
    figure.supxlabel("share of the training done", fontsize=9, color="#444444")
    figure.supylabel("multiplier after the step", fontsize=9, color="#444444")
    handles, names = panels[0].get_legend_handles_labels()
    rows = -(-len(names) // _IN_LEGEND)
    figure.legend(handles, names, loc="outside upper center", ncols=-(-len(names) // rows))
    return figure
