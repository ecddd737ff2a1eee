"""The verdicts of the chapter on the theory: its statements, the bound, and the predictors."""

from typing import Any

import numpy as np

from jaxprune.reporting.laboratory_values import FACTOR, Section, group_means, measured, predictor_scores
from jaxprune.reporting.results import Results
from jaxprune.reporting.theory_findings import PREDICTORS, theory_of
from jaxprune.theory import Eigenvalue, Taylor, uninformative_from
from jaxprune.theory.statements import Statement, corollary1, theorem1


def _counts(name: str, left: np.ndarray, right: np.ndarray, holds: np.ndarray, assumed: np.ndarray) -> tuple[str, ...]:
    known = np.isfinite(left) & np.isfinite(right)
    hold, given = (np.broadcast_to(a, left.shape)[known].astype(bool) for a in (holds, assumed))
    positive = known & (left > 0)
    ratio = f"{np.median(right[positive] / left[positive]):.3g}" if positive.any() else "–"
    wrong = int(np.sum(given & ~hold))
    verdict = f"in {int(given.sum())} it has to" if given.any() else "in none it has to"
    failed = f", and in {wrong} of them it does NOT" if wrong else ", and does" if given.any() else ""
    return name, f"{int(hold.sum())} of {hold.size}", ratio, verdict + failed


_TITLES = {
    "Proposition 2": "Proposition 2, corrected",
    "multiclass": "Theorem 2, corrected, any number of labels",
    "logit": "Theorem 2, corrected, two labels",
    "printed": "Theorem 2 as printed",
    "Proposition 1, norms": "Proposition 1, |D_a|‖g_a‖ = |D_b|‖g_b‖",
    "Proposition 1, directions": "Proposition 1, cos(g_a, g_b) = −1",
    "Theorem 1": "Theorem 1, without remainder",
    "Theorem 1, term of first order": "Theorem 1, term gᵀΔ ≤ ‖g‖‖Δ‖",
    "Theorem 1, term of second order": "Theorem 1, term ½ΔᵀHΔ ≤ ½λ(H)‖Δ‖²",
}


def _row(statement: Statement) -> tuple[str, ...]:
    parts = (np.asarray(getattr(statement, name)) for name in ("left", "right", "holds", "assumed"))
    return _counts(str(_TITLES.get(statement.name, statement.name)), *parts)


def _along_pruning(results: Results) -> list[Statement]:
    """Theorem 1 and its terms, and Corollary 1 where there are several sparsities."""
    theory, laboratory = theory_of(results), results.laboratory or {}
    eigenvalue = Eigenvalue(theory.eigenvalue, theory.residual, theory.converged == 1, theory.matvecs)
    terms = Taylor(theory.first_order, theory.second_order, theory.observed)
    found = [*theorem1(theory.gradient_norm, eigenvalue, theory.distance[..., None], terms)]
    if len(theory.sparsities) > 1:
        order = np.argsort(theory.sparsities)
        # Masks that were not looked at are not known to be nested.
        nested = (
            measured(results, "pruned", "nested") == 1 if "pruned" in laboratory else np.zeros(len(order) - 1, bool)
        )
        found.append(corollary1(theory.bound[order], theory.eigenvalue, nested))
    return found


def statements(results: Results) -> Section:
    """In how many cases each statement holds, and where it has to."""
    laboratory = results.laboratory or {}
    rows = [_row(statement) for statement in _along_pruning(results)]
    for measure in ("cosines", "outputs"):
        checked: dict[str, Any] = laboratory.get(measure, {}).get("statements", {})
        for name in checked:
            parts = [measured(results, measure, "statements", name, n) for n in ("left", "right", "holds", "assumed")]
            rows.append(_counts(_TITLES.get(name, name), *parts))
    return Section(
        "The statements of the theory, checked",
        ("A statement that held in these cases is not confirmed by them; its assumptions tell where it has to.",),
        headings=("statement", "holds in", "median ratio of the sides", "by its assumptions"),
        rows=tuple(rows),
        note="Cases are seeds, groups (pairs of them in Proposition 1, examples in Proposition 3) and, for Theorem 1, "
        "sparsities.",
    )


def tightness(results: Results) -> Section:
    """Where the bound of Theorem 1 stops telling anything."""
    theory = theory_of(results)
    order = np.argsort(theory.sparsities)
    found = uninformative_from(
        theory.sparsities[order], group_means(theory.bound[order]), group_means(theory.observed[order]), FACTOR
    )
    rows = tuple(
        (name, "informative up to the highest" if np.isnan(s) else f"from {s:.0%} on")
        for name, s in zip(results.group_names, found, strict=True)
    )
    return Section(
        "Where the bound stops being informative",
        (),
        "theory-ratio",
        f"Bound over observed harm, means over seeds. In the grey band, between 1 and {FACTOR:.0f}, the bound is "
        "informative; below it the bound is broken. Where pruning did not hurt a group there is no ratio.",
        "Ratio of bound and observed harm over sparsity for each group",
        ("group", f"bound broken, or more than {FACTOR:.0f} times the harm, or no harm"),
        rows,
    )


def scores(results: Results) -> Section:
    """How the predictors did."""
    scored = predictor_scores(results)
    rows = tuple(
        (
            PREDICTORS[name],
            *(
                _mean(getattr(found, part), sign)
                for part, sign in (("spearman", True), ("kendall", True), ("regret", False))
            ),
            f"{np.nansum(found.hit):.0f} of {np.isfinite(found.hit).sum()}",
        )
        for name, found in scored.items()
    )
    return Section(
        "Who will be hurt? Predictions from the dense network",
        (),
        "theory-scores",
        "Rank correlation of each predictor with the harm over the groups, and what is lost by trusting its choice of "
        "the group hurt most, at every sparsity; means over seeds.",
        "Lines of Spearman correlation and of regret over sparsity for each predictor",
        ("predictor", "Spearman", "Kendall", "regret (nats)", "worst group named"),
        rows,
        "Means over sparsities and seeds.",
    )


def _mean(values: np.ndarray, sign: bool) -> str:
    known = np.asarray(values)[np.isfinite(values)]
    return "–" if not known.size else f"{known.mean():{'+' if sign else ''}.2f}"
