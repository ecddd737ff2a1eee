"""The table of quantities: whatever the seeds are, intervals and their texts stay within the range."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from scipy import stats

from jaxprune.quantities import (
    QUANTITIES,
    Cell,
    cell,
    difference_interval,
    few_seeds,
    multiplier_kind,
    quantity_interval,
)
from jaxprune.reporting.charts import over_seeds


@dataclass
class Settings:
    """Results with nothing but their coverage."""

    settings: dict[str, Any] = field(default_factory=lambda: {"audit": {"confidence": 0.95}})


SOURCE = Settings()
BOUNDED = sorted(name for name, q in QUANTITIES.items() if np.isfinite([q.lower, q.upper]).any())


def extremes(name: str) -> list[np.ndarray]:
    """Five seeds on the ends of the range of a quantity, in every mixture; 3 stands for an end that there is not."""
    lower, upper = np.clip((QUANTITIES[name].lower, QUANTITIES[name].upper), -3, 3)
    return [np.array([upper] * k + [lower] * (5 - k)) for k in range(6)]


@pytest.mark.parametrize("name", QUANTITIES)
def test_intervals_stay_within_the_range(name) -> None:
    form = QUANTITIES[name]
    for values in extremes(name):
        interval = quantity_interval(SOURCE, values, name)
        assert form.lower <= interval.low <= interval.mean <= interval.high <= form.upper


@pytest.mark.parametrize("name", BOUNDED)
def test_texts_of_cut_intervals_name_the_end_of_the_range(name) -> None:
    form = QUANTITIES[name]
    for values in extremes(name)[1:-1]:
        spread = cell(SOURCE, values, name).spread
        low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
        for end, cut in ((form.lower, low < form.lower), (form.upper, high > form.upper)):
            if cut:
                assert f"{form.scale * end:g}" in spread.strip("()").split(" to ")


@pytest.mark.parametrize("name", QUANTITIES)
def test_differences_stay_as_far_apart_as_the_range_allows(name) -> None:
    form = QUANTITIES[name]
    for values in extremes(name):
        interval = difference_interval(SOURCE, values, values[::-1], name)
        assert form.lower - form.upper <= interval.low <= interval.high <= form.upper - form.lower


def test_cells_of_accuracies() -> None:
    values = np.array([0.84, 0.85, 0.83, 0.84])
    half = 100 * stats.t.ppf(0.975, 3) * stats.sem(values)
    assert cell(SOURCE, values, "accuracy") == Cell("84.0", f"±{half:.1f}")
    values = np.array([0.99, 1, 0.96, 0.998])
    low = 100 * stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))[0]
    assert str(cell(SOURCE, values, "accuracy")) == f"{100 * values.mean():.1f} ({low:.1f} to 100)"
    assert cell(SOURCE, np.array([0.9999, 0.9998, np.nan]), "accuracy") == Cell("99.98", "", "99.99, 99.98")
    assert cell(SOURCE, np.ones(5, np.float32), "accuracy") == Cell("100.0", "±0.0")
    assert cell(SOURCE, np.array([0.5]), "accuracy") == Cell("50.0")
    assert cell(SOURCE, np.full(5, np.nan), "accuracy") == Cell("–")


def test_multipliers_have_a_range_where_they_are_of_one_sign() -> None:
    rising = np.array([[[0.0, 0.1]], [[0.2, 0.0]]])
    assert (multiplier_kind(rising), multiplier_kind(-rising)) == ("multiplier", "signed_multiplier")


@pytest.mark.parametrize(("count", "apart"), [(1, False), (2, True), (3, True), (4, False)])
def test_each_seed_is_drawn_where_there_are_several_without_an_interval(count, apart) -> None:
    drawn = over_seeds(SOURCE, np.linspace(0, 1, 2 * count).reshape(1, count, 2), "accuracy", axis=1)
    assert drawn.seeds.shape == (count, 1, 2)
    assert drawn.drawn_apart == apart
    assert np.isfinite(drawn.low).all() == (few_seeds(count) == "")
