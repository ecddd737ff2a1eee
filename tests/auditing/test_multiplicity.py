"""Tests and intervals adjusted for the number of comparisons, against their definitions."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from jaxprune.auditing.multiplicity import holm, paired_p_value, simultaneous_interval


def closed_testing(p):
    """Holm as a closed test: a member is adjusted to the largest Bonferroni p of all subsets that hold it."""
    known = [1.0 if np.isnan(value) else value for value in p]
    members = range(len(p))
    subsets = [s for size in range(1, len(p) + 1) for s in combinations(members, size)]
    largest = [max(min(1.0, len(s) * min(known[j] for j in s)) for s in subsets if i in s) for i in members]
    return [np.nan if np.isnan(value) else adjusted for value, adjusted in zip(p, largest, strict=True)]


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])
    assert holm([]).shape == (0,)


def test_holm_is_the_closed_test_and_members_without_a_test_count():
    rng = np.random.default_rng(0)
    for _ in range(20):
        p = rng.uniform(0, 0.2, 6)
        p[rng.uniform(size=6) < 0.3] = np.nan
        np.testing.assert_allclose(holm(p), closed_testing(p), rtol=1e-12)
    np.testing.assert_allclose(holm([np.nan, 0.01, np.nan]), [np.nan, 0.03, np.nan])


def test_paired_p_values_are_scipys_and_need_spread_and_seeds():
    rng = np.random.default_rng(1)
    mine, base = rng.normal(size=(2, 5))
    assert paired_p_value(mine - base) == pytest.approx(stats.ttest_rel(mine, base).pvalue)
    assert np.isnan(paired_p_value([1.0, 2.0, 4.0]))
    assert np.isnan(paired_p_value([0.3, 0.3 + 1e-12, 0.3, 0.3], resolution=1e-10))
    assert np.isnan(paired_p_value([1.0, 2.0, 4.0, np.nan]))


def test_simultaneous_intervals_are_students_at_a_smaller_level():
    values = np.random.default_rng(2).normal(size=(5, 3))
    mean, low, high = simultaneous_interval(values, comparisons=28)
    expected = stats.ttest_1samp(values, 0, axis=0).confidence_interval(1 - 0.05 / 28)
    np.testing.assert_allclose([low, high], expected, rtol=1e-9)
    np.testing.assert_allclose(mean, values.mean(0))
    assert np.isnan(simultaneous_interval(values[:3], comparisons=2).low).all()
    with pytest.raises(ValueError, match="comparisons = 0"):
        simultaneous_interval(values, comparisons=0)


def test_a_family_makes_a_false_claim_once_in_twenty():
    """20 correlated comparisons of 5 seeds without any effect, 4,000 times; the error is 3 standard errors."""
    rng, families, members = np.random.default_rng(3), 4000, 20
    values = rng.normal(size=(families, 5, members)) + rng.normal(size=(families, 5, 1))
    p = stats.ttest_1samp(values, 0, axis=1).pvalue
    claimed = np.mean([holm(row).min() < 0.05 for row in p])
    interval = simultaneous_interval(values, members, axis=1)
    missed = np.mean(((interval.low > 0) | (interval.high < 0)).any(1))
    allowed = 0.05 + 3 * np.sqrt(0.05 * 0.95 / families)
    assert 0.01 < claimed <= allowed
    assert 0.01 < missed <= allowed
    assert np.mean(p.min(1) < 0.05) > 0.3, "without an adjustment it is no such thing"
