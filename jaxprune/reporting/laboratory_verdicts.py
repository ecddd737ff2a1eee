"""The verdicts of the chapter on the theory: its statements, the bound, and the predictors."""

import numpy as np

from jaxprune.reporting import findings
from jaxprune.reporting.laboratory_values import FACTOR, Section, measured, predictor_scores, theory_of
from jaxprune.reporting.results import Results
from jaxprune.theory import uninformative_from


def _counts(name: str, left: np.ndarray, right: np.ndarray, holds: np.ndarray, assumed: np.ndarray) -> tuple[str, ...]:
    known = np.isfinite(left) & np.isfinite(right)
    hold, given = (np.broadcast_to(a, left.shape)[known].astype(bool) for a in (holds, assumed))
    positive = known & (left > 0)
    ratio = f"{np.median(right[positive] / left[positive]):.3g}" if positive.any() else "–"
    wrong = int(np.sum(given & ~hold))
    verdict = f"in {int(given.sum())} it has to" if given.any() else "in none it has to"
    failed = f", and in {wrong} of them it does NOT" if wrong else ", and does" if given.any() else ""
    return name, f"{int(hold.sum())} of {hold.size}", ratio, verdict + failed


def statements(results: Results) -> Section:
    """In how many cases each statement holds, and where it has to."""
    theory, laboratory = theory_of(results), results.laboratory or {}
    remainder = theory.observed - theory.first_order - theory.second_order
    distance, converged = theory.distance[..., None], np.broadcast_to(theory.converged == 1, theory.bound.shape)
    # Lanczos approaches λ from below, by less than its residual.
    above = theory.bound + np.abs(theory.bound) * 1e-3
    sides = (
        ("gᵀΔ ≤ ‖g‖‖Δ‖", theory.first_order, theory.gradient_norm * distance, np.ones_like(converged)),
        ("½ΔᵀHΔ ≤ ½λ(H)‖Δ‖²", theory.second_order, 0.5 * theory.eigenvalue * distance**2, converged),
    )
    rows = [
        _counts("Theorem 1, without remainder", theory.observed, theory.bound, theory.observed <= above,
                (remainder <= 0) & converged),
    ]  # fmt: skip
    for name, left, right, given in sides:
        rounding = 1e-3 * np.abs(right) + 1e-6
        rows.append(_counts(f"Theorem 1, term {name}", left, right, left <= right + rounding, given))
    if len(theory.sparsities) > 1:
        order = np.argsort(theory.sparsities)
        bound = theory.bound[order]
        given = np.broadcast_to(theory.eigenvalue >= 0, bound[1:].shape)
        if "pruned" in laboratory:
            given = given & (measured(results, "pruned", "nested")[:, None, None] == 1)
        rows.append(_counts("Corollary 1, corrected", bound[:-1], bound[1:], bound[:-1] <= bound[1:], given))
    if "cosines" in laboratory:
        parts = [measured(results, "cosines", n) for n in ("larger", "smaller", "holds", "assumed")]
        rows.append(_counts("Proposition 1", *parts))
    if "outputs" in laboratory:
        names = {
            "multiclass": "Theorem 2, corrected, any number of labels",
            "logit": "Theorem 2, corrected, two labels",
            "printed": "Theorem 2 as printed",
        }
        for name in laboratory["outputs"]["statements"]:
            parts = [measured(results, "outputs", "statements", name, n) for n in ("left", "right", "holds", "assumed")]
            rows.append(_counts(names.get(name, f"{name}, corrected"), *parts))
    return Section(
        "The statements of the theory, checked",
        ("A statement that held in these cases is not confirmed by them; its assumptions tell where it has to.",),
        headings=("statement", "holds in", "median ratio of the sides", "by its assumptions"),
        rows=tuple(rows),
        note="Cases are seeds, groups (pairs of them in Proposition 1) and, for Theorem 1, sparsities.",
    )


def tightness(results: Results) -> Section:
    """Where the bound of Theorem 1 stops telling anything."""
    theory = theory_of(results)
    order = np.argsort(theory.sparsities)
    found = uninformative_from(
        theory.sparsities[order], theory.bound[order].mean(1), theory.observed[order].mean(1), FACTOR
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
            findings.PREDICTORS[name],
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
