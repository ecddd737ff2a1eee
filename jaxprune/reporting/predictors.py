"""Predictions of the harm from the dense network alone, and their tests."""

from typing import Any

import numpy as np

from jaxprune.auditing.multiplicity import LEVEL
from jaxprune.numbers import NONE, fixed, listing, p_value, plural, signed
from jaxprune.reporting.theory_values import split_sizes, theory_of
from jaxprune.results import Results
from jaxprune.theory import PredictorTest, correlation_interval, permutation_test, score_predictor

# Predictor -> its name on the page; each is large where harm is expected.
PREDICTORS = {
    "gradient_norm": "gradient norm ‖g‖",
    "eigenvalue": "largest eigenvalue λ(H)",
    "bound": "bound of Theorem 1",
    "first_order": "first-order term gᵀΔ",
    "taylor": "second-order value gᵀΔ + ½ΔᵀHΔ",
    "closeness": "closeness to the boundary",
    "smallness": "small size of the group",
}


def predictors(results: Results) -> dict[str, np.ndarray]:
    """Predictor -> [S, R, G] its value for every group."""
    theory = theory_of(results)
    values = {
        "gradient_norm": theory.gradient_norm,
        "eigenvalue": theory.eigenvalue,
        "bound": theory.bound,
        "first_order": theory.first_order,
        "taylor": theory.first_order + theory.second_order,
        "closeness": theory.closeness,
        "smallness": -split_sizes(results),
    }
    return {name: np.broadcast_to(value, theory.observed.shape) for name, value in values.items()}


def predictor_scores(results: Results) -> dict[str, Any]:
    """Predictor -> its scores, leaves [S, R]."""
    observed = theory_of(results).observed
    return {name: score_predictor(values, observed) for name, values in predictors(results).items()}


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


def tested_correlation(test: PredictorTest, predictor: int) -> str:
    """A rank correlation over the groups with its adjusted p."""
    correlation = float(test.correlation[predictor])
    return f"{signed(correlation, 2)} ({p_value(test.adjusted_p[predictor])})" if np.isfinite(correlation) else NONE


def ranking_words(test: PredictorTest, harm: str) -> str:
    """A sentence on the predictors that rank groups beyond chance."""
    names = list(PREDICTORS.values())
    best = int(np.nanargmax(test.correlation))
    number = f"{fixed(test.correlation[best], 2)}{_over_groups(test, best)}"
    chance = (
        f"With {test.groups} groups and {plural(test.judged, 'predictor')}, chance alone reaches "
        f"{fixed(test.chance, 2)} in one of twenty."
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
    """The interval of a correlation, with enough groups."""
    low, high = correlation_interval(float(test.correlation[predictor]), test.groups)
    return "" if np.isnan(low) else f" ({fixed(low, 2)} to {fixed(high, 2)} over groups)"
