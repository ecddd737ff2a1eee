"""The choice among candidates on the validation split: closed cases."""

import numpy as np
import pytest
from comparisons import DENSE, LEVEL, LIFT, NAIVE, metrics

from jaxprune.results.choice import choose
from jaxprune.results.figures import figures_of

BASELINE = figures_of(metrics(NAIVE), metrics(DENSE))
CHEAP = NAIVE + np.array([0, 0, 0.01])


def chosen(*accuracies, measure="max_excess_accuracy_gap", max_cost=0.01) -> int:
    """The place that is chosen of networks with these group accuracies on the validation split."""
    candidates = [figures_of(metrics(accuracy), metrics(DENSE)) for accuracy in accuracies]
    return choose(candidates, BASELINE, measure=measure, max_cost=max_cost)


def test_the_best_by_the_measure_is_chosen() -> None:
    assert chosen(NAIVE, LIFT, CHEAP) == 1


@pytest.mark.parametrize("measure", ["worst_group_accuracy", "accuracy"])
def test_more_is_better_where_the_measure_says_so(measure) -> None:
    assert chosen(CHEAP, LIFT, NAIVE, measure=measure) == 1


@pytest.mark.parametrize("measure", ["excessive_loss_spread", "accuracy_spread", "excess_accuracy_gap_spread"])
def test_less_is_better_else(measure) -> None:
    assert chosen(CHEAP, NAIVE, LIFT, measure=measure) == 2


def test_a_candidate_that_costs_too_much_is_not_chosen() -> None:
    by = {"measure": "accuracy_spread"}
    assert chosen(LEVEL, CHEAP, **by) == 1
    assert chosen(LEVEL, CHEAP, max_cost=0.5, **by) == 0


def test_where_all_cost_too_much_the_most_accurate_is_chosen() -> None:
    assert chosen(LEVEL - 0.1, LEVEL, LEVEL - 0.2) == 1


def test_the_cost_is_that_of_the_mean_over_seeds() -> None:
    """A seed that costs 2 points beside three that cost nothing is half a point in the mean."""
    uneven = LIFT - 0.032 * np.array([[1], [0], [0], [0]]) - 0.012
    assert np.mean(figures_of(metrics(uneven), metrics(DENSE))["accuracy"] - BASELINE["accuracy"]) == pytest.approx(
        0.1 * 0.12 - 0.032 / 4 - 0.012
    )
    assert chosen(uneven, CHEAP, measure="accuracy_spread") == 0
    assert chosen(uneven, CHEAP, measure="accuracy_spread", max_cost=0.007) == 1


def test_the_first_of_equal_candidates_is_chosen() -> None:
    assert chosen(LIFT, LIFT) == 0
    assert chosen(LEVEL, LEVEL) == 0
