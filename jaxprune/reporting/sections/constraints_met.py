"""Largest violation of each constraint on every split."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.numbers import NONE, plural
from jaxprune.quantities import QUANTITIES, spread_words
from jaxprune.reporting.charts import draw_bars, over_seeds
from jaxprune.reporting.methods import reported_trials
from jaxprune.reporting.page import Figure, Section, Table
from jaxprune.reporting.style import BAD, GREY, WIDTH
from jaxprune.results import SPLITS, Network, Results
from jaxprune.results.comparison import Comparison, compared

_MARKS = {"train": ("o", "white"), "validation": ("D", GREY), "test": ("o", BAD)}


def section(results: Results) -> Section | None:
    """The largest violation of each constraint on every split."""
    comparison = compared(results)
    if not largest_violations(comparison):
        return None
    spread = spread_words(len(results.seeds), ", with the interval on test", ", small points the seeds on test")
    caption = (
        f"The largest violation over the groups, mean over seeds{spread}. The parameters are fitted to the training "
        "split. The multipliers of methods that measure the violation on held-out people are moved by one half of the "
        "validation split; “validation” is the other half."
    )
    alternative = "Largest violation of each constraint on the training, validation and test split"
    return Section(
        "Do constraints hold on new people?",
        (
            generalisation(comparison),
            "A violation has the unit of its constraint: nats for losses, a share of 1 for accuracies (CEAG and equal "
            "drop). A constraint on losses equalises losses; the decisions that people get are the accuracies in the "
            "tables above.",
            Figure("generalisation", partial(draw_violations, comparison), caption, alternative),
            _table(comparison),
        ),
        anchor="constraints",
    )


def largest_violations(comparison: Comparison) -> dict[str, Mapping[str, np.ndarray]]:
    """Method -> split -> [R] largest violation over the groups.

    An equality is violated on either side.
    """
    return {
        method: {
            split: np.max(values if comparison.is_inequality(method) else np.abs(values), -1)
            for split, values in _violations(comparison, network).items()
        }
        for method, network in reported_trials(comparison).items()
        if network.inequality is not None
    }


def _violations(comparison: Comparison, network: Network) -> dict[str, np.ndarray]:
    """Split -> [R, G] the violation of a network's own constraint."""
    audits = {split: comparison.results.audit(network, split) for split in SPLITS if split in comparison.results.splits}
    return {split: audit.violation for split, audit in audits.items() if audit.violation is not None}


def generalisation(comparison: Comparison) -> str | None:
    """Describe how often inequalities met in training hold on test data."""
    inequalities = [v for method, v in largest_violations(comparison).items() if comparison.is_inequality(method)]
    if not inequalities:
        return None
    train, test = (np.concatenate([violation[split] for violation in inequalities]) for split in ("train", "test"))
    excess = test[(train <= 0) & (test > 0)]
    count = int(np.sum(train <= 0))
    cases = f"{plural(count, 'case')} (method, seed) where an inequality is met on the whole training split"
    if not count:
        return "In no seed is an inequality constraint met on the whole training split."
    if not len(excess):
        return f"In all of the {cases}, it is met on the test split."
    by = QUANTITIES["absolute_violation"].text(np.median(excess))
    return f"Of {cases}, it is violated on the test split in {len(excess)}, by {by} in the median."


def _form(comparison: Comparison, method: str) -> str:
    return "violation" if comparison.is_inequality(method) else "absolute_violation"


def _table(comparison: Comparison) -> Table:
    rows = []
    for method, violations in largest_violations(comparison).items():
        inequality, form = comparison.is_inequality(method), QUANTITIES[_form(comparison, method)]
        means = [form.text(comparison.interval(values).mean) for values in violations.values()]
        met = [f"{np.sum(violations[split] <= 0)} of {len(violations[split])}" for split in ("train", "test")]
        kind = "inequality" if inequality else "equality"
        rows.append((comparison.results.title(method), kind, *means, *(met if inequality else (NONE, NONE))))
    headings = ("method", "constraint", "train", "validation", "test", "met on train", "met on test")
    return Table(headings, tuple(rows), words=(0, 1))


def draw_violations(comparison: Comparison) -> Drawing:
    """A row for each constrained method, with a mark for each split."""
    violations = largest_violations(comparison)
    # Accuracies and losses have different units, so rows are not compared with each other.
    figure = Drawing((WIDTH, 1.5 + 0.34 * len(violations)))
    axes = figure.subplots()
    for row, (method, by_split) in enumerate(violations.items()):
        drawn = {s: over_seeds(comparison.results, v, _form(comparison, method)) for s, v in by_split.items()}
        axes.plot([drawn["train"].mean, drawn["test"].mean], [row, row], color="#BBBBBB", lw=1.2, zorder=1)
        draw_bars(axes, "x", row, drawn["test"], BAD, lw=1.2, alpha=0.6, zorder=2)
        for split, (marker, colour) in _MARKS.items():
            look = {"marker": marker, "c": colour, "edgecolor": "#444444", "lw": 0.8, "s": 32, "zorder": 3}
            axes.scatter(drawn[split].mean, row, label=None if row else split, **look)
    axes.axvline(0, color="#444444", lw=0.9)
    names = [f"{comparison.results.title(m)} ({'≤ 0' if comparison.is_inequality(m) else '= 0'})" for m in violations]
    axes.set_yticks(range(len(violations)), names)
    axes.set_ylim(len(violations) - 0.4, -0.6)
    axes.set_xlabel(
        "largest violation over the groups (nats, or share of 1 for CEAG and equal drop); 0 meets the constraint"
    )
    figure.legend(loc="outside upper center", ncols=3)
    return figure
