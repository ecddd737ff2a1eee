"""Changes of every measure by every method, as a figure.

Changes are against plain fine-tuning.
"""

from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxprune.auditing import Interval
from jaxprune.numbers import percent, plural, share_pruned
from jaxprune.quantities import QUANTITIES, difference_interval, spread_words
from jaxprune.reporting.charts import OverSeeds, draw_bars, with_seeds
from jaxprune.reporting.methods import changes_of, level_text, rivals, values_of
from jaxprune.reporting.page import Figure, Section
from jaxprune.reporting.style import BAD, GOOD, UNCLEAR, WIDTH
from jaxprune.results import Results
from jaxprune.results.comparison import MEASURES, Comparison, compared
from jaxprune.results.verdicts import Outcome

_MEASURES = ("accuracy", "worst_group_accuracy", "accuracy_spread", "max_excess_accuracy_gap", "excessive_loss_spread")
_MARKS = {
    Outcome.BETTER: (GOOD, "test, clearly better"),
    Outcome.WORSE: (BAD, "test, clearly worse"),
    Outcome.CHANCE: (UNCLEAR, "test, not clear"),
}


def section(results: Results) -> Section | None:
    """The difference of every method from plain fine-tuning."""
    comparison = compared(results)
    if not rivals(comparison):
        return None
    seeds, confidence = len(results.seeds), percent(results.settings["audit"]["confidence"])
    interval = f", with the {confidence} interval of that one paired difference"
    spread = spread_words(seeds, interval, ", small points the seeds")
    caption = (
        "The mean difference of each method from plain fine-tuning (“naive”) of the same dense networks over "
        f"{plural(seeds, 'seed')}, {share_pruned(comparison.headline)}. Filled: test split{spread}; hollow: training "
        "split. Colours follow the tests adjusted for all comparisons, so an interval clear of zero may be grey. Below "
        "each panel: the figure of naive fine-tuning on the test split."
    )
    alternative = "Difference of each method from plain fine-tuning in accuracy, worst group, spread, largest ψ and ξ"
    figure = Figure("changes", partial(draw_changes, comparison), caption, alternative)
    return Section("Each method against plain fine-tuning", (figure,))


def draw_changes(comparison: Comparison) -> Drawing:
    """A panel for each measure, with a row for each method."""
    methods = rivals(comparison)
    rows = np.arange(len(methods))
    figure = Drawing((WIDTH, 1.5 + 0.27 * len(methods)))
    panels = figure.subplots(1, len(_MEASURES), sharey=True)
    for axes, measure in zip(panels, _MEASURES, strict=True):
        more, scale = MEASURES[measure].more_is_better, QUANTITIES[measure].scale
        naive = values_of(comparison, comparison.baseline, measure)
        mine = [values_of(comparison, method, measure) for method in methods]
        train = [scale * np.mean(changes_of(comparison, method, measure, "train")) for method in methods]
        intervals = [difference_interval(comparison.results, values, naive, measure) for values in mine]
        test = with_seeds(Interval(*np.transpose(intervals)), np.transpose(mine) - naive[:, None])
        drawn = OverSeeds(*(scale * part for part in test))
        colours = [_MARKS[comparison.verdicts[comparison.headline, method, measure].outcome][0] for method in methods]
        axes.axvline(0, color="#444444", lw=0.9)
        draw_bars(axes, "x", rows, drawn, colours, lw=1.6)
        axes.scatter(drawn.mean, rows, color=colours, s=24, zorder=3)
        axes.scatter(train, rows, facecolor="white", edgecolor="#555555", s=16, lw=0.8, zorder=2)
        name = MEASURES[measure].title.replace(", %", ", points").replace(", ", "\n")
        axes.set_title(f"{name} {'→ better' if more else '← better'}", fontsize=8.5)
        axes.set_xlabel(f"naive: {level_text(comparison, comparison.baseline, measure)}", fontsize=8.5)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(rows, [comparison.results.title(method) for method in methods])
    panels[0].set_ylim(len(methods) - 0.4, -0.6)
    marks = [Line2D([], [], color=colour, marker="o", ms=5, lw=1.6, label=label) for colour, label in _MARKS.values()]
    marks.append(Line2D([], [], color="#555555", marker="o", mfc="white", ms=4, lw=0, label="train"))
    figure.legend(handles=marks, loc="outside upper center", ncols=4)
    return figure
