"""Values and texts of compared methods at the sparsity of the answer."""

from collections.abc import Iterable, Mapping

import numpy as np

from jaxprune.numbers import PERCENT_LANDMARKS, listing, signed
from jaxprune.quantities import QUANTITIES, amount
from jaxprune.results import Network
from jaxprune.results.comparison import Comparison
from jaxprune.types import Array


def reported_trials(comparison: Comparison) -> dict[str, Network]:
    """The chosen trial of each method; methods that diverged are left out."""
    at = comparison.headline
    return {method: comparison.chosen[method, at] for method in comparison.methods if (method, at) in comparison.chosen}


def rivals(comparison: Comparison) -> list[str]:
    """The methods compared with plain fine-tuning."""
    return [method for method in reported_trials(comparison) if method != comparison.baseline]


def values_of(comparison: Comparison, method: str, measure: str, split: str = "test") -> np.ndarray:
    """[R] a measure of a method, as it is stored."""
    return comparison.figures(comparison.chosen[method, comparison.headline], split)[measure]


def changes_of(comparison: Comparison, method: str, measure: str, split: str = "test") -> np.ndarray:
    """[R] difference of a measure from plain fine-tuning, by seed."""
    return values_of(comparison, method, measure, split) - values_of(comparison, comparison.baseline, measure, split)


def level_text(comparison: Comparison, method: str, measure: str) -> str:
    """A measure's mean on the test split: "14.7 points"."""
    return amount(np.mean(values_of(comparison, method, measure)), measure)


def change_text(change: float | Array, measure: str, digits: int | None = None) -> str:
    """A change in points or nats with its sign, such as "+0.5".

    It has the usual decimals of the measure unless `digits` are given.
    """
    landmarks = PERCENT_LANDMARKS if change_unit(measure) == "points" else ()
    return signed(float(change), digits or (1 if landmarks else 3), landmarks=landmarks)


def change_unit(measure: str) -> str:
    """The unit of a change of a measure."""
    return "points" if QUANTITIES[measure].scale == 100 else "nats"


def titles_of(comparison: Comparison, methods: Iterable[str]) -> str:
    """The titles of methods in quotes, such as "“a”, “b” and “c”"."""
    return listing([f"“{comparison.results.title(method)}”" for method in methods])


def candidate_text(values: Mapping[str, float]) -> str:
    """The hyperparameters of a candidate, such as "dual rate 0.1, tolerance 0"."""
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())
