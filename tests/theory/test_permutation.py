"""The permutation test of predictors, against brute force and scipy."""

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from jaxprune.theory import correlation_interval, permutation_test


def brute_force(predictors, observed):
    """Every order of the groups, every correlation by scipy, mean over seeds."""

    def correlations(harm):
        return [np.mean([stats.spearmanr(a, b).statistic for a, b in zip(p, harm, strict=True)]) for p in predictors]

    there = np.array(correlations(observed))
    each = np.array([correlations(observed[:, list(order)]) for order in permutations(range(observed.shape[1]))])
    own = [(each[:, k] >= there[k] - 1e-9).mean() for k in range(len(there))]
    return there, own, [(each.max(1) >= r - 1e-9).mean() for r in there], each.max(1)


def test_all_orders_of_four_groups_by_brute_force():
    rng = np.random.default_rng(0)
    predictors, observed = rng.normal(size=(3, 2, 4)), rng.normal(size=(2, 4))
    predictors[0, 0, 1] = predictors[0, 0, 2]  # a tie
    found = permutation_test(predictors, observed)
    correlation, own, adjusted, largest = brute_force(predictors, observed)
    np.testing.assert_allclose(found.correlation, correlation, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.p, own, rtol=1e-9)
    np.testing.assert_allclose(found.adjusted_p, adjusted, rtol=1e-9)
    assert np.mean(largest >= found.chance - 1e-9) >= 0.05
    assert np.mean(largest > found.chance + 1e-9) < 0.05
    assert (found.groups, found.judged) == (4, 3)


def test_one_perfect_predictor_of_five_groups_has_one_order_of_120():
    found = permutation_test(np.arange(5.0)[None, None], np.exp(np.arange(5.0))[None])
    np.testing.assert_allclose([found.correlation[0], found.p[0], found.adjusted_p[0]], [1, 1 / 120, 1 / 120])
    assert found.chance == pytest.approx(0.8), "8 of the 120 orders reach it, but only 5 reach 0.9"


def test_many_groups_are_drawn_as_scipy_would():
    """p of one predictor is near that of all 10! orders, which scipy approximates by t."""
    rng = np.random.default_rng(2)
    predictor, observed = rng.normal(size=12), rng.normal(size=12)
    predictor += observed
    found = permutation_test(predictor[None, None], observed[None])
    p = stats.spearmanr(predictor, observed, alternative="greater").pvalue
    assert found.p[0] == pytest.approx(p, abs=4 * np.sqrt(p / 5000) + 0.003)
    assert found.p[0] >= 1 / 5001


def test_predictors_without_an_order_and_groups_without_examples_are_left_out():
    rng = np.random.default_rng(3)
    predictors, observed = rng.normal(size=(3, 2, 6)), rng.normal(size=(2, 6))
    expected = permutation_test(predictors[:2, :, :5], observed[:, :5])
    predictors[2], observed[0, 5], predictors[0, 0, 5] = 1.0, np.nan, np.nan
    found = permutation_test(predictors, observed)
    np.testing.assert_allclose(found.adjusted_p, [*expected.adjusted_p, np.nan])
    assert (found.groups, found.judged) == (5, 2)
    none = permutation_test(predictors[..., :2], observed[:, :2])
    assert np.isnan(none.adjusted_p).all()
    assert none.judged == 0
    with pytest.raises(ValueError, match=r"must be \[K, R, G\]"):
        permutation_test(predictors, observed[0])


def test_predictions_by_chance_are_claimed_once_in_twenty():
    """7 predictors of 5 groups and 3 seeds, all noise, 400 times; 3 standard errors are allowed."""
    rng = np.random.default_rng(4)
    claims = [permutation_test(*noise(rng)).adjusted_p.min() < 0.05 for _ in range(400)]
    assert np.mean(claims) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def noise(rng):
    """Predictors and harm of groups that have nothing to do with each other, alike in all seeds."""
    predictors = rng.normal(size=(7, 1, 5)) + 0.2 * rng.normal(size=(7, 3, 5))
    return predictors, rng.normal(size=(1, 5)) + 0.2 * rng.normal(size=(3, 5))


def test_intervals_of_correlations_need_ten_groups():
    low, high = correlation_interval(0.5, 20)
    half = 1.959964 * np.sqrt(1.125 / 17)
    np.testing.assert_allclose([np.arctanh(low), np.arctanh(high)], np.add(np.arctanh(0.5), [-half, half]), rtol=1e-6)
    assert np.isnan(correlation_interval(0.5, 9)).all()
    assert np.isnan(correlation_interval(1.0, 20)).all()
