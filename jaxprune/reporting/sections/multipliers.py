"""How the multipliers of the groups moved during constrained training."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from jaxprune.quantities import Source, multiplier_kind
from jaxprune.reporting.charts import draw_trajectories, keep_in_range, over_seeds
from jaxprune.reporting.methods import candidate_text, spread_note
from jaxprune.reporting.page import Figure, Section
from jaxprune.reporting.roles import constrained_trainings, headline
from jaxprune.reporting.shown import drawn
from jaxprune.reporting.style import PALETTE, WIDTH
from jaxprune.results import Results

_COLUMNS = 4  # panels side by side


class Path(NamedTuple):
    """The multipliers of one training.

    Attributes:
      title: Of its panel.
      note: Below the title.
      values: [R, points, G], or [R, points, 2G] with a second multiplier for each group.
    """

    title: str
    note: str
    values: np.ndarray


def multipliers(results: Results) -> Section | None:
    """A panel for each training at the answer's sparsity that has multipliers or group weights."""
    trainings = constrained_trainings(results, headline(results, results.baseline).sparsity)
    paths = [
        Path(title, candidate_text(network.values), network.multipliers)
        for title, network in trainings.items()
        if network.multipliers is not None
    ]
    if not paths:
        return None
    smallest = np.sort(np.argsort(results.group_sizes["train"])[: len(PALETTE)])
    colours = {int(group): PALETTE[i] for i, group in enumerate(smallest)}
    caption = (
        "The weight of each group’s constraint (for group DRO: the weight of its loss), means over seeds"
        f"{spread_note(results, ' with their intervals', ' and, thin, each seed')}. Each panel has its own scale."
        f"{' The seven smallest groups are drawn.' if len(colours) < len(results.group_names) else ''}"
    )
    figure = Figure(
        "trajectories",
        lambda: draw_multipliers(results, paths, drawn(results).group_names, colours),
        caption,
        "Multipliers of each group over the retraining, by method",
    )
    return Section("How the multipliers moved", (figure,))


def draw_multipliers(
    source: Source, paths: Sequence[Path], groups: Sequence[str], colours: Mapping[int, str]
) -> Drawing:
    """A panel for each training.

    Args:
      source: Whose settings tell the coverage of the intervals.
      paths: One for each panel.
      groups: [G] names.
      colours: Group -> colour, for the groups that are drawn.
    """
    columns = min(_COLUMNS, len(paths))
    lines = -(-len(paths) // columns)
    figure = Drawing((WIDTH, 0.6 + 2.0 * lines))
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, path in zip(panels, paths, strict=False):
        quantity = multiplier_kind(path.values)
        values = over_seeds(source, path.values, quantity)
        x, count = np.linspace(0, 100, len(values.mean)), values.mean.shape[1]
        for group, colour in colours.items():
            # A second multiplier of a group, of the eigenvalue, follows those of all groups.
            for column, style in zip(range(group, count, len(groups)), ("-", "--"), strict=False):
                draw_trajectories(axes, x, values.at(column), colour)
                label = groups[group] if path is paths[0] and column == group else None
                axes.plot(x, values.mean[:, column], style, color=colour, lw=1.4, label=label)
        note = f"{path.note}; dashed: of λ(H)" if count > len(groups) else path.note
        axes.set_title(f"{path.title}\n", fontsize=9)
        axes.annotate(note, (0, 1.02), xycoords="axes fraction", fontsize=7.5, color="#555555")
        keep_in_range(axes, "y", quantity)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    for axes in panels[len(paths) :]:
        axes.set_visible(False)
    figure.supxlabel("share of the training done, %", fontsize=9, color="#444444")
    figure.legend(loc="outside upper center", ncols=min(6, len(colours)))
    return figure
