"""Metrics of groups from single people, against plain loops in float64 and closed forms."""

import math

import numpy as np
import pytest

from jaxprune.auditing import Outcomes, metrics_of_people, sampling_error_of_people

G = 4


@pytest.fixture
def outcomes() -> tuple[Outcomes, Outcomes, np.ndarray]:
    """A dense and a pruned network of two seeds on 60 people; group 3 is empty, group 2 has one person."""
    rng = np.random.default_rng(5)
    group = np.r_[np.zeros(40, int), np.ones(19, int), [2]][rng.permutation(60)]

    def one() -> Outcomes:
        loss = rng.gamma(1, size=(2, 60)).astype(np.float32)
        return Outcomes(loss=loss, wrong=rng.random((2, 60)) < 0.3, label=np.zeros((2, 60), np.uint8))

    return one(), one(), group


def test_metrics_are_means_over_the_people_of_each_group(outcomes) -> None:
    found, _, group = outcomes
    metrics = metrics_of_people(found.loss, found.wrong, group, G)
    for r in range(2):
        for a in range(3):
            members = [i for i in range(60) if group[i] == a]
            assert metrics.size[r, a] == len(members)
            loss = math.fsum(float(found.loss[r, i]) for i in members) / len(members)
            assert metrics.loss[r, a] == pytest.approx(loss, rel=1e-14)
            assert metrics.accuracy[r, a] == sum(not found.wrong[r, i] for i in members) / len(members)
        assert metrics.overall_loss[r] == pytest.approx(math.fsum(map(float, found.loss[r])) / 60, rel=1e-14)
        assert metrics.overall_accuracy[r] == sum(not wrong for wrong in found.wrong[r]) / 60
    assert metrics.size[0, 3] == 0
    assert np.isnan(metrics.loss[:, 3]).all()
    assert np.isnan(metrics.accuracy[:, 3]).all()


def test_people_are_counted_exactly_where_float32_would_not() -> None:
    """2^24 + 1 people of one group, all right but one: float32 has no number between 2^24 and 2^24 + 2."""
    n = 2**24 + 1
    wrong = np.zeros((1, n), bool)
    wrong[0, 0] = True
    metrics = metrics_of_people(np.full((1, n), 0.1, np.float32), wrong, np.zeros(n, np.int8), 1)
    assert metrics.size[0, 0] == n
    assert metrics.accuracy[0, 0] == 2**24 / n
    assert metrics.loss[0, 0] == pytest.approx(float(np.float32(0.1)), rel=1e-9)


def test_sampling_error_is_the_standard_error_of_the_mean_change(outcomes) -> None:
    before, after, group = outcomes
    error = sampling_error_of_people(before, after, group, G)
    for leaf, values in (("loss", error.excessive_loss), ("wrong", error.accuracy_drop)):
        for r in range(2):
            change = getattr(after, leaf)[r].astype(float) - getattr(before, leaf)[r].astype(float)
            for a in range(2):
                mine = change[group == a]
                assert values[r, a] == pytest.approx(np.std(mine, ddof=1) / math.sqrt(len(mine)), rel=1e-12)
        assert np.isnan(values[:, 2:]).all(), "one person and nobody have no standard error"


def test_small_standard_errors_keep_their_digits() -> None:
    """Changes of 5 ± 1e-6 in equal numbers: the standard error is 1e-6 / √(n - 1)."""
    n = 1000
    signs = np.tile([1.0, -1.0], n // 2)
    before = Outcomes(loss=np.zeros((1, n)), wrong=np.zeros((1, n)), label=np.zeros((1, n)))
    after = before._replace(loss=(5 + 1e-6 * signs)[None])
    error = sampling_error_of_people(before, after, np.zeros(n, int), 1).excessive_loss
    np.testing.assert_allclose(error, 1e-6 / math.sqrt(n - 1), rtol=1e-6)


def test_an_infinite_loss_stays_with_its_group() -> None:
    loss = np.array([[1.0, np.inf, 2.0]])
    wrong = np.zeros((1, 3))
    metrics = metrics_of_people(loss, wrong, np.array([0, 1, 0]), 2)
    np.testing.assert_array_equal(metrics.loss, [[1.5, np.inf]])
