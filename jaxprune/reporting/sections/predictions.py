"""Who will be hurt: predictions from the dense network."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.numbers import NONE, percent, plain
from jaxprune.quantities import cell, seed_means
from jaxprune.reporting.charts import keep_in_range
from jaxprune.reporting.group_charts import sparsity_axis
from jaxprune.reporting.group_display import is_many
from jaxprune.reporting.page import Figure, Folded, Section, Table
from jaxprune.reporting.predictors import PREDICTORS, predictor_scores, predictor_test, predictors, tested_correlation
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.pruning_name import unit_name
from jaxprune.reporting.style import PALETTE, WIDTH
from jaxprune.reporting.theory_values import headline_index, theory_of
from jaxprune.results import Results
from jaxprune.text import name_some

_SCORES = {"spearman": "correlation", "kendall": "correlation", "regret": "regret"}  # -> quantity
_PANELS = {
    "spearman": "rank correlation with the harm (Spearman) ↑",
    "regret": "regret of the worst group named, nats ↓",
}


def correlation_table(results: Results) -> Table | None:
    """The rank correlation of each predictor with the harm at every sparsity."""
    if len(results.group_names) < 3:
        return None
    sparsities = theory_of(results).sparsities
    tests = [predictor_test(results, s) for s in range(len(sparsities))]
    return Table(
        ("predictor", *map(percent, sparsities)),
        tuple((name, *(tested_correlation(t, k) for t in tests)) for k, name in enumerate(PREDICTORS.values())),
        "Spearman correlation over the groups between each predictor, from the dense network alone, and the harm R(a) "
        "that pruning without retraining then did (by loss), mean over seeds; p is adjusted for all predictors at that "
        "sparsity.",
    )


def scores(results: Results) -> Section:
    """Scores of the predictors over all sparsities."""
    s = headline_index(results)
    test, rows = predictor_test(results, s), []
    for k, (name, score) in enumerate(predictor_scores(results).items()):
        means = (cell(results, seed_means(getattr(score, part)), quantity) for part, quantity in _SCORES.items())
        hits = f"{plain(np.nansum(score.hit))} of {np.isfinite(score.hit).sum()}"
        rows.append((PREDICTORS[name], *means, hits, tested_correlation(test, k)))
    at = f"Spearman at {percent(theory_of(results).sparsities[s])} (adjusted p)"
    figure = Figure(
        "theory-scores",
        partial(_draw, drawn(results)),
        "Rank correlation of each predictor with the harm R(a) (by loss) over the groups, and what is lost by trusting "
        "its choice of the group hurt most, at every sparsity; means over seeds.",
        "Lines of Spearman correlation and of regret over sparsity for each predictor",
    )
    table = Table(
        ("predictor", "Spearman", "Kendall", "regret (nats)", "worst group named", at),
        tuple(rows),
        "Means over sparsities, and over seeds with their intervals: these tell how the networks differ, not what "
        "other groups would show. The last column tests the order of the groups by permuting them, adjusted for all "
        "predictors.",
    )
    return Section("Who will be hurt? Predictions from the dense network", (figure, table))


def orders(results: Results) -> Section:
    """Predicted and observed orders of the groups at each sparsity."""
    theory, values, scored = theory_of(results), predictors(results), predictor_scores(results)
    rows = []
    for s in np.argsort(theory.sparsities):
        level = percent(float(theory.sparsities[s]))
        rows.append((level, "observed harm R(a)", *_order(results, theory.observed[s]), NONE, NONE))
        for name, value in values.items():
            last = (cell(results, getattr(scored[name], part)[s], _SCORES[part]) for part in ("kendall", "regret"))
            rows.append((level, PREDICTORS[name], *_order(results, value[s]), *last))
    table = Table(
        ("pruned", "predictor", "first", "in seeds", "the whole order", "Kendall", "regret (nats)"),
        tuple(rows),
        "The groups from most to least harm R(a), by loss, as observed and as predicted, by means over seeds; in how "
        "many seeds the group named first is first; Kendall’s rank correlation and the regret of the group named, with "
        "intervals over seeds. This describes these networks; the table above has the tests.",
        words=(0, 1, 2, 4),
    )
    summary = "At each sparsity, the order of the groups as predicted and as observed"
    return Section("Whom each predictor named", (Folded(summary, (table,)),))


def _order(results: Results, values: np.ndarray) -> tuple[str, str, str]:
    """The order of the groups by values [R, G], with ties.

    Returns:
      The groups with the largest mean, in how many seeds one of them is first, and all from the largest.
    """
    means = seed_means(values)
    levels = np.unique(means[np.isfinite(means)])[::-1]
    if not levels.size:
        return NONE, NONE, NONE
    if np.isfinite(means).sum() > 1 and len(levels) == 1:
        return NONE, NONE, "all alike"
    tied = [np.flatnonzero(means == level) for level in levels]
    known = np.isfinite(values)
    largest = known & (values == np.where(known, values, -np.inf).max(1, keepdims=True))
    often = f"{int(np.sum(largest[:, tied[0]].any(1)))} of {int(known.any(1).sum())}"
    names = [[results.group_names[g] for g in groups] for groups in tied]
    most = 10 if is_many(results) else len(levels)
    order = name_some([name_some(group, separator=" = ") for group in names], most, separator=" > ")
    return name_some(names[0], separator=" or "), often, order


def _draw(results: Results) -> Drawing | None:
    found = predictor_scores(results)
    # Fewer than three groups have no correlation: a panel for it would be empty.
    parts = [part for part in _PANELS if any(np.isfinite(getattr(score, part)).any() for score in found.values())]
    if not parts:
        return None
    figure = Drawing((WIDTH, 3.6))
    panels = figure.subplots(1, len(parts), squeeze=False)[0]
    x = range(len(theory_of(results).sparsities))
    for axes, part in zip(panels, parts, strict=True):
        for (name, score), colour in zip(found.items(), PALETTE, strict=False):
            mean = seed_means(np.asarray(getattr(score, part)).T)
            axes.plot(x, mean, "o-", ms=4, lw=1.4, color=colour, label=PREDICTORS[name], clip_on=False)
        sparsity_axis(axes, theory_of(results).sparsities, unit_name(results))
        axes.set_title(_PANELS[part])
        if part == "spearman":
            axes.set_ylim(-1, 1)
            axes.axhline(0, color="#666666", lw=0.8)
        else:
            keep_in_range(axes, "y", "regret")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
