"""What the theory's numbers say of the harm, in sentences computed from them, and which of them are to be trusted."""

import numpy as np

from jaxprune.auditing.multiplicity import LEVEL
from jaxprune.reporting.findings import headline
from jaxprune.reporting.numbers import listing, p_value, percent, plural
from jaxprune.reporting.results import Results, TheoryResults
from jaxprune.text import name_some
from jaxprune.theory import PredictorTest, correlation_interval, permutation_test

# Predictor -> what people read; each is large where harm is expected.
PREDICTORS = {
    "gradient_norm": "gradient norm ‖g‖",
    "eigenvalue": "largest eigenvalue λ(H)",
    "bound": "bound of Theorem 1",
    "first_order": "first-order term gᵀΔ",
    "taylor": "second-order value gᵀΔ + ½ΔᵀHΔ",
    "closeness": "closeness to the boundary",
    "smallness": "small size of the group",
}


def theory_of(results: Results) -> TheoryResults:
    """The theory's results, which are there."""
    assert results.theory is not None
    return results.theory


def present(results: Results) -> np.ndarray:
    """[G] bool, the groups that have examples on the theory's split: only the others may lack numbers."""
    return np.array(results.group_sizes[theory_of(results).split]) > 0


def not_converged(results: Results, values: np.ndarray, converged: np.ndarray) -> np.ndarray:
    """Whether an eigenvalue that is there has not met its tolerance, [..., G]; one that is not finite is not there."""
    return np.asarray((np.asarray(converged) != 1) & np.isfinite(values) & present(results))


def unfinished_groups(results: Results) -> np.ndarray:
    """[G] bool, the groups whose λ at the dense network did not meet its tolerance in some seed."""
    theory = theory_of(results)
    return np.any(not_converged(results, theory.eigenvalue, theory.converged), 0)


def overflowed(results: Results, values: np.ndarray) -> list[str]:
    """The groups with examples for which some of the values [..., G] are not finite."""
    failed = ~np.isfinite(values) & present(results)
    return [name for g, name in enumerate(results.group_names) if failed[..., g].any()]


def predictors(results: Results) -> dict[str, np.ndarray]:
    """Predictor -> [S, R, G] its value for every group, from the dense network alone."""
    theory = theory_of(results)
    shape = theory.observed.shape
    sizes = np.array(results.group_sizes[theory.split])
    values = {
        "gradient_norm": theory.gradient_norm,
        "eigenvalue": theory.eigenvalue,
        "bound": theory.bound,
        "first_order": theory.first_order,
        "taylor": theory.first_order + theory.second_order,
        "closeness": theory.closeness,
        "smallness": -sizes,
    }
    return {name: np.broadcast_to(value, shape) for name, value in values.items()}


def why(results: Results) -> list[str]:
    """What the theory says of the harm, one sentence each."""
    if results.theory is None:
        return []
    sentences = []
    if most := results.settings.get("theory", {}).get("examples"):
        sentences.append(
            f"All of this is measured on {most:,} examples of each group at most, chosen evenly over the labels, "
            f"the same ones for every seed; the {results.theory.split} split may have more."
        )
    return [*sentences, _prediction(results), _cover(results.theory), _miss(results)]


def predictor_test(results: Results, sparsity_index: int, observed: np.ndarray | None = None) -> PredictorTest:
    """All predictors tested together at one sparsity.

    Args:
      results: With the theory.
      sparsity_index: Place of the sparsity among the theory's.
      observed: [R, G] what is to be predicted; R(a) on the theory's split if not given.

    Returns:
      The test; its predictors are in the order of `PREDICTORS`.
    """
    values = np.stack([value[sparsity_index] for value in predictors(results).values()])
    return permutation_test(values, theory_of(results).observed[sparsity_index] if observed is None else observed)


def _prediction(results: Results) -> str:
    """Whether any predictor ranks the groups better than chance, by loss and by accuracy."""
    theory, sparsity = theory_of(results), headline(results).sparsity
    s = int(np.argmin(np.abs(theory.sparsities - sparsity)))
    test = predictor_test(results, s)
    if not test.judged:
        reason = "with finite numbers " if len(results.group_names) >= 3 else ""
        return f"There are too few groups {reason}(fewer than three) for rank correlations."
    sentence = f"At {percent(sparsity)} on the {theory.split} split: {ranking_words(test, 'harm (R(a), by loss)')}"
    key = ("pruned", float(theory.sparsities[s]), theory.split)
    if key not in results.metrics:
        return sentence
    by_accuracy = predictor_test(results, s, np.asarray(results.audit(*key).impact.accuracy_drop))
    if not by_accuracy.judged:
        return sentence
    return f"{sentence} {ranking_words(by_accuracy, 'the drop in accuracy')}"


def ranking_words(test: PredictorTest, harm: str) -> str:
    """Which predictors rank the groups by a harm better than chance, or that none does."""
    names = list(PREDICTORS.values())
    best = int(np.nanargmax(test.correlation))
    number = f"{test.correlation[best]:.2f}{_over_groups(test, best)}"
    chance = (
        f"With {test.groups} groups and {plural(test.judged, 'predictor')}, chance alone reaches {test.chance:.2f} in "
        "one of twenty."
    )
    clear = [names[k] for k in np.flatnonzero(test.adjusted_p < LEVEL)]
    if clear:
        others = [name for name in clear if name != names[best]]
        also = f" The same is true of {listing([f'the {name}' for name in others])}." if others else ""
        return (
            f"The {names[best]} predicts the order of the groups by {harm}: its rank correlation is {number}, "
            f"{p_value(test.adjusted_p[best])} after adjusting for {plural(test.judged, 'predictor')}.{also} {chance}"
        )
    return (
        f"None of the {plural(test.judged, 'predictor')} ranks the groups by {harm} better than chance would: the "
        f"best, the {names[best]}, reaches a rank correlation of {number}. {chance}"
    )


def _over_groups(test: PredictorTest, predictor: int) -> str:
    """The interval of a correlation over groups, where there are enough of them."""
    low, high = correlation_interval(float(test.correlation[predictor]), test.groups)
    return "" if np.isnan(low) else f" ({low:.2f} to {high:.2f} over groups)"


def _cover(theory: TheoryResults) -> str:
    """In how many cases the bound covers the harm, how loose it is, and why it fails where it does."""
    known = np.isfinite(theory.observed) & np.isfinite(theory.bound)
    if not known.any():
        return "The bound of Theorem 1 cannot be compared with the harm: in no case are both finite."
    holds = known & (theory.observed <= theory.bound)
    hurt = known & (theory.observed > 0)
    median = np.median(theory.bound[hurt] / theory.observed[hurt]) if hurt.any() else None
    loose = "" if median is None else f", and is {median:,.0f} times as large in the median case where pruning hurt"
    return (
        f"The bound of Theorem 1 without its remainder covers the observed excessive loss in {int(holds.sum())} of "
        f"{int(known.sum())} cases (sparsity, seed, group){loose}.{_reason(theory, known & ~holds)}"
    )


def _reason(theory: TheoryResults, fails: np.ndarray) -> str:
    """Why the bound fails in these cases, [S, R, G]: only what was measured there is named."""
    if not fails.any():
        return ""
    unfinished = fails & (theory.converged != 1)
    remainder = theory.observed - theory.first_order - theory.second_order
    third = fails & ~unfinished & (remainder > 0)
    total = int(fails.sum())
    if third.sum() == total:
        return " Where it fails, the third-order remainder that the theorem leaves open is why."
    reasons = {
        "λ(H) has not converged, so that the bound may be too small": unfinished,
        "the third-order remainder that the theorem leaves open is why": third,
        "neither the remainder nor an unconverged λ(H) tells why": fails & ~unfinished & ~third,
    }
    said = [f"in {int(cases.sum())} {words}" for words, cases in reasons.items() if cases.any()]
    return f" Of the {total} where it fails, {'; '.join(said)}."


def _miss(results: Results) -> str:
    """How far the second-order value is from the harm at the headline's sparsity."""
    theory, sparsity = theory_of(results), headline(results).sparsity
    s = int(np.argmin(np.abs(theory.sparsities - sparsity)))
    error = np.abs(theory.first_order + theory.second_order - theory.observed)[s]
    error = error[np.isfinite(error)]
    at = percent(float(theory.sparsities[s]))
    if not error.size:
        return f"The second-order value gᵀΔ + ½ΔᵀHΔ, or the harm, is finite in no case at {at}."
    return (
        f"At {at}, the exact second-order value gᵀΔ + ½ΔᵀHΔ misses the observed harm by "
        f"{np.median(error):.3f} nats (median over seeds and groups): it is an explanation only where that is small."
    )


def warnings(results: Results) -> list[str]:
    """What is wrong with the networks themselves, also for the terminal."""
    names = [] if results.theory is None else overflowed(results, results.theory.eigenvalue)
    if not names:
        return []
    return [f"λ is not finite for {name_some(names)}: the network overflowed; lower train.learning_rate"]


def caveats(results: Results) -> list[str]:
    """What a careful reader must know of the theory's numbers."""
    theory = results.theory
    if theory is None:
        return []
    notes = []
    if empty := [n for n, there in zip(results.group_names, present(results), strict=True) if not there]:
        notes.append(f"No examples on the {theory.split} split, so no gradients and no curvature: {name_some(empty)}.")
    notes += [warning + "." for warning in warnings(results)]
    missed = not_converged(results, theory.eigenvalue, theory.converged)
    if missed.any():
        notes.append(
            f"{int(missed.sum())} of {len(results.seeds) * int(present(results).sum())} eigenvalues did not reach "
            "their tolerance and are marked; raise theory.max_iterations."
        )
    if np.any(theory.eigenvalue < 0):
        notes.append("Some largest eigenvalue is negative: the bound then need not grow with the sparsity.")
    share = theory.overall_gradient_norm / np.where(present(results), theory.gradient_norm, -np.inf).max(-1)
    if np.isfinite(share).any():
        notes.append(
            f"The dense networks are not exactly stationary: the gradient of the whole loss is "
            f"{percent(np.median(share[np.isfinite(share)]), 2)} of the largest group gradient (median over seeds). "
            "Proposition 1 of the paper assumes that it is zero."
        )
    return notes
