"""Values and texts of compared methods at the sparsity of the answer."""

from collections.abc import Iterable, Mapping

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.numbers import PERCENT_LANDMARKS, listing, signed
from jaxprune.quantities import QUANTITIES
from jaxprune.results import Network, Results
from jaxprune.results.comparison import MEASURES, Comparison


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
    """[R] the difference of a measure from plain fine-tuning, seed by seed, as it is stored."""
    return values_of(comparison, method, measure, split) - values_of(comparison, comparison.baseline, measure, split)


def level_text(comparison: Comparison, method: str, measure: str) -> str:
    """The mean of a measure on the test split with its unit, such as "14.7 points"."""
    form = QUANTITIES[measure]
    return f"{form.text(np.mean(values_of(comparison, method, measure)))} {form.unit}"


def change_text(change: float, measure: str, digits: int | None = None) -> str:
    """A change in points or nats with its sign, such as "+0.5"; of a measure's usual decimals unless given."""
    points = MEASURES[measure].scale == 100
    return signed(float(change), digits or (1 if points else 3), landmarks=PERCENT_LANDMARKS if points else ())


def titles_of(comparison: Comparison, methods: Iterable[str]) -> str:
    """The titles of methods in quotes, such as "“a”, “b” and “c”"."""
    return listing([f"“{comparison.results.title(method)}”" for method in methods])


def candidate_text(values: Mapping[str, float]) -> str:
    """The hyperparameters of a candidate, such as "dual rate 0.1, tolerance 0"."""
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())


def spread_note(results: Results, interval: str, seeds: str) -> str:
    """The part of a caption on what shows the spread over seeds; empty with one seed."""
    count = len(results.seeds)
    return interval if count >= MINIMUM_SEEDS else seeds if count > 1 else ""
