"""Times of functions in turns, by a clock of the test's own."""

import math

import numpy as np
import pytest
from scipy import stats

from jaxprune import costs
from jaxprune.errors import UserError


class Machine:
    """A clock that moves only while a function runs, `slow` times as far for all functions."""

    def __init__(self):
        self.now, self.slow, self.order = 0.0, 1.0, []

    def clock(self):
        return self.now

    def function(self, name, seconds):
        def run():
            self.order.append(name)
            self.now += self.slow * seconds
            return np.zeros(1)

        return run


def timed(machine, functions, **options):
    return costs.time_in_turns(functions, clock=machine.clock, **options)


def test_times_and_ratios_are_those_of_the_functions():
    machine = Machine()
    found = timed(machine, {"dense": machine.function("d", 0.02), "compact": machine.function("c", 0.005)}, rounds=10)
    assert list(found) == ["dense", "compact"]
    assert found["dense"].seconds == pytest.approx((0.02, 0.02, 0.02))
    assert found["compact"].seconds == pytest.approx((0.005, 0.005, 0.005))
    assert found["compact"].ratio == pytest.approx((0.25, 0.25, 0.25))
    assert found["dense"].ratio == (1, 1, 1)
    assert {timing.rounds for timing in found.values()} == {10}


def test_a_machine_that_slows_down_leaves_the_ratio():
    """The times of both are then spread over a wide interval, and their ratio over none."""
    machine = Machine()

    def slower():
        machine.slow *= 1.1
        return machine.function("d", 0.01)()

    found = timed(machine, {"dense": slower, "masked": machine.function("m", 0.01)}, rounds=12, seconds=100)
    assert found["dense"].seconds.high > 1.5 * found["dense"].seconds.low
    assert found["masked"].ratio.high < 1.001 * 1.1
    assert found["masked"].ratio.low > 0.9 * 0.999


def test_the_order_turns_round():
    machine = Machine()
    timed(machine, {"a": machine.function("a", 1.0), "b": machine.function("b", 1.0)}, rounds=4, seconds=100)
    assert "".join(machine.order) == "aabb" + "ab" + "ba" + "ab" + "ba"


def test_short_functions_are_called_more_often():
    machine = Machine()
    functions = {"long": machine.function("l", 0.01), "short": machine.function("s", 0.0001)}
    found = timed(machine, functions, rounds=3, shortest=0.001)
    assert (found["long"].calls, found["short"].calls) == (1, 10)
    assert found["short"].seconds.value == pytest.approx(0.0001)


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, 1), (0.5, 1), (7.5, 3), (8, 4), (1000, 20)])
def test_the_time_is_bounded(seconds, expected):
    machine = Machine()
    found = timed(
        machine, {"a": machine.function("a", 1.0), "b": machine.function("b", 1.0)}, rounds=20, seconds=seconds
    )
    assert found["a"].rounds == expected
    warm_ups = 2 if seconds > 1 else 1
    assert machine.now == 2 * warm_ups + 2 * expected
    assert np.isfinite(found["a"].seconds.low) == (expected >= costs.MINIMUM_ROUNDS)


@pytest.mark.parametrize(("n", "j"), [(6, 1), (8, 1), (9, 2), (20, 6), (100, 40)])
def test_the_interval_of_a_median(n, j):
    """j as in tables of the sign test (such as Conover's), by the coverage that it must have."""
    low, high = costs.median_interval(np.arange(1, n + 1))[1:]
    assert (low, high) == (j, n + 1 - j)
    assert 1 - 2 * stats.binom.cdf(j - 1, n, 0.5) >= 0.95 > 1 - 2 * stats.binom.cdf(j, n, 0.5)


def test_the_interval_covers_the_median_of_skewed_values():
    rng = np.random.default_rng(1)
    intervals = [costs.median_interval(rng.exponential(size=15)) for _ in range(2000)]
    covered = np.mean([one.low <= math.log(2) <= one.high for one in intervals])
    assert 0.955 < covered < 0.975  # exactly 0.9648 with n = 15


def test_few_values_have_no_interval():
    assert np.isnan(costs.median_interval([1, 2, 3, 4, 5])[1:]).all()
    assert costs.median_interval([3.0]).value == 3


def test_bad_input():
    with pytest.raises(UserError, match="at least one"):
        costs.median_interval([])
    with pytest.raises(UserError, match="at least one"):
        costs.time_in_turns({})
