"""The sections of the theory's chapter on predictions: how the predictors did, and whom each of them named."""

import numpy as np

from jaxprune.reporting.cells import NONE, text
from jaxprune.reporting.laboratory_values import Section, group_means, headline_index, predictor_scores
from jaxprune.reporting.many import is_many
from jaxprune.reporting.numbers import percent
from jaxprune.reporting.results import Results
from jaxprune.reporting.theory_findings import PREDICTORS, predictor_test, predictors, theory_of
from jaxprune.reporting.theory_tables import tested_correlation
from jaxprune.text import name_some
from jaxprune.theory import PredictorScores


def scores(results: Results) -> Section:
    """How the predictors did over all sparsities."""
    theory, s = theory_of(results), headline_index(results)
    test = predictor_test(results, s)
    rows = tuple(
        (
            PREDICTORS[name],
            *(text(results, _over_sparsities(found, part), form) for part, form in _PARTS.items()),
            f"{np.nansum(found.hit):.3g} of {np.isfinite(found.hit).sum()}",
            tested_correlation(test, k),
        )
        for k, (name, found) in enumerate(predictor_scores(results).items())
    )
    return Section(
        "Who will be hurt? Predictions from the dense network",
        (),
        "theory-scores",
        "Rank correlation of each predictor with the harm R(a) (by loss) over the groups, and what is lost by "
        "trusting its choice of the group hurt most, at every sparsity; means over seeds.",
        "Lines of Spearman correlation and of regret over sparsity for each predictor",
        (
            "predictor",
            "Spearman",
            "Kendall",
            "regret (nats)",
            "worst group named",
            f"Spearman at {percent(theory.sparsities[s])} (adjusted p)",
        ),
        rows,
        "Means over sparsities, and over seeds with their intervals: these tell how the networks differ, not what "
        "other groups would show. The last column tests the order of the groups by permuting them, adjusted for all "
        "predictors.",
    )


_PARTS = {"spearman": "+.2f", "kendall": "+.2f", "regret": ".3f"}  # of the scores -> how they are written


def _over_sparsities(found: PredictorScores, part: str) -> np.ndarray:
    """[R] means over the sparsities at which it could be judged."""
    return group_means(np.asarray(getattr(found, part)))


def orders(results: Results) -> Section:
    """At each sparsity the order that each predictor gives the groups, beside the one that was observed."""
    theory, values, scored = theory_of(results), predictors(results), predictor_scores(results)
    rows = []
    for s in np.argsort(theory.sparsities):
        level = percent(float(theory.sparsities[s]))
        rows.append((level, "observed harm R(a)", *_order(results, theory.observed[s]), NONE, NONE))
        for name, value in values.items():
            kendall, regret = (text(results, getattr(scored[name], part)[s], _PARTS[part]) for part in _LAST)
            rows.append((level, PREDICTORS[name], *_order(results, value[s]), kendall, regret))
    return Section(
        "Whom each predictor named",
        headings=("pruned", "predictor", "first", "in seeds", "the whole order", "Kendall", "regret (nats)"),
        rows=tuple(rows),
        note="The groups from most to least harm R(a), by loss, as observed and as predicted, by means over seeds; in "
        "how many seeds the group named first is first; Kendall’s rank correlation and the regret of the group named, "
        "with intervals over seeds. A description: the tests are in the table above.",
        summary="At each sparsity, the order of the groups as predicted and as observed",
        words=(0, 1, 2, 4),
    )


_LAST = ("kendall", "regret")


def _order(results: Results, values: np.ndarray) -> tuple[str, str, str]:
    """The order that values [R, G] give the groups, groups alike by name and not by place.

    Returns:
      The groups with the largest mean, in how many seeds one of them is first, and all from the largest.
    """
    means = group_means(values)
    levels = np.unique(means[np.isfinite(means)])[::-1]
    if not levels.size:
        return NONE, NONE, NONE
    if np.isfinite(means).sum() > 1 and len(levels) == 1:
        return NONE, NONE, "all alike"
    alike = [np.flatnonzero(means == level) for level in levels]
    known = np.isfinite(values)
    largest = known & (values == np.where(known, values, -np.inf).max(1, keepdims=True))
    often = f"{int(np.sum(largest[:, alike[0]].any(1)))} of {int(known.any(1).sum())}"
    names = [[results.group_names[g] for g in groups] for groups in alike]
    most = 10 if is_many(results) else len(levels)
    order = name_some([name_some(group, separator=" = ") for group in names], most, separator=" > ")
    return name_some(names[0], separator=" or "), often, order
