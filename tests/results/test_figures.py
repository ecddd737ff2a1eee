"""Figures over all groups, against their closed forms and numpy."""

import warnings

import numpy as np
import pytest
from comparisons import DENSE, NAIVE, SIZES, compared_results, metrics
from made_results import made_results, with_further

from jaxprune.auditing import GroupMetrics
from jaxprune.results.figures import counted, figures, figures_of


def test_figures_of_losses_and_accuracies_follow_their_formulas() -> None:
    made = made_results(harm=(0.1, 0.2, 0.5), noise=0.0)
    found = figures(made, made.network("pruned", 0.9), "test")
    expected = {
        "loss": 0.3 + 0.8 / 3,
        "accuracy": 0.9 - 0.3 * 0.8 / 3,
        "worst_group_accuracy": 0.9 - 0.15,
        "best_group_accuracy": 0.9 - 0.03,
        "accuracy_spread": 0.3 * 0.4,
        "loss_gap": 0.5 - 0.8 / 3,
        "excessive_loss_spread": 0.4,
        "max_excessive_loss": 0.5,
        "max_excess_accuracy_gap": 0.3 * (0.5 - 0.8 / 3),
        "excess_accuracy_gap_spread": 0.3 * 0.4,
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], np.full(5, value), atol=1e-12, err_msg=name)


def test_figures_of_groups_of_unlike_sizes_weigh_by_examples() -> None:
    made = compared_results([])
    found = figures(made, made.network("naive", 0.9), "test")
    drop = np.array(DENSE) - NAIVE
    psi = drop - (drop @ SIZES / 1000)[:, None]
    np.testing.assert_allclose(found["accuracy"], NAIVE @ SIZES / 1000)
    np.testing.assert_allclose(found["max_excess_accuracy_gap"], psi.max(1))
    np.testing.assert_allclose(found["excess_accuracy_gap_spread"], np.ptp(psi, axis=1))
    np.testing.assert_allclose(found["accuracy_spread"], np.ptp(NAIVE, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["worst_group_accuracy"], NAIVE.min(1))
    np.testing.assert_allclose(found["excessive_loss_spread"], np.ptp(drop, axis=1))
    np.testing.assert_allclose(found["loss_gap"], np.abs(NAIVE - (NAIVE @ SIZES / 1000)[:, None]).max(1))


def test_a_group_without_examples_has_no_part_in_a_figure() -> None:
    view = with_further(made_results()).by("sex<>")
    found = figures(view, view.network("pruned", 0.9), "test")
    audit = view.audit(view.network("pruned", 0.9), "test")
    np.testing.assert_allclose(found["max_excessive_loss"], audit.impact.excessive_loss[:, :2].max(1))
    np.testing.assert_allclose(found["accuracy_spread"], np.ptp(audit.metrics.accuracy[:, :2], axis=1))


def test_accuracies_are_those_of_whole_people_and_others_stay() -> None:
    people = np.rint(NAIVE * SIZES)
    stored = GroupMetrics(*(np.asarray(leaf, np.float32) for leaf in metrics(people / SIZES)))
    exact = counted(stored)
    np.testing.assert_array_equal(exact.accuracy, people / SIZES)
    np.testing.assert_array_equal(exact.overall_accuracy, people.sum(1) / SIZES.sum())
    assert exact.accuracy.dtype == exact.loss.dtype == np.float64
    np.testing.assert_array_equal(counted(metrics(NAIVE)).accuracy, NAIVE, err_msg="not whole people")


@pytest.mark.parametrize("groups", [(2,), (0, 1, 2)])
def test_infinite_losses_leave_the_accuracies_and_give_no_warning(groups) -> None:
    loss = 1 - NAIVE
    loss[:, list(groups)] = np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = figures_of(metrics(NAIVE, loss=loss), metrics(DENSE))
    finite = figures_of(metrics(NAIVE), metrics(DENSE))
    for name in finite:
        if "loss" in name:
            assert not np.isfinite(found[name]).any()
        else:
            np.testing.assert_array_equal(found[name], finite[name])
