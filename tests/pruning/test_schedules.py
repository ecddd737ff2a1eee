"""Schedules of sparsity against closed forms, and rewinding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune import pruning
from jaxprune.errors import UserError


def test_cubic_is_the_formula_of_zhu_and_gupta():
    schedule = pruning.cubic(0.9, begin=10, end=110, initial=0.2)
    for step in (10, 11, 37, 60, 109, 110):
        expected = 0.9 + (0.2 - 0.9) * (1 - (step - 10) / 100) ** 3
        np.testing.assert_allclose(schedule(step), expected, rtol=1e-6)
    assert float(schedule(0)) == pytest.approx(0.2)
    assert float(schedule(10_000)) == pytest.approx(0.9)
    line = pruning.cubic(0.8, end=4, power=1)
    np.testing.assert_allclose([line(step) for step in range(6)], [0, 0.2, 0.4, 0.6, 0.8, 0.8], rtol=1e-6)


def test_the_golden_values_of_jaxpruner_are_ours_one_step_earlier():
    """Its rule for 100 to 200 counts the step that is being taken as done."""
    ours = pruning.cubic(0.9, begin=99, end=199)
    golden = {99: 0, 100: 0.026731, 109: 0.2439, 110: 0.265528, 150: 0.794116, 190: 0.899344, 199: 0.9, 300: 0.9}
    for step, sparsity in golden.items():
        assert float(ours(step)) == pytest.approx(sparsity, abs=1e-6)
    assert float(pruning.cubic(0.9, begin=100, end=200)(100)) == 0


@pytest.mark.parametrize(("begin", "end", "every"), [(0, 10, 5), (3, 10, 4), (0, 10, 3), (7, 7, 2), (0, 5, 100)])
def test_masks_are_updated_at_begin_then_every_so_often_and_at_the_end(begin, end, every):
    schedule = pruning.cubic(0.7, begin=begin, end=end, every=every)
    found = [step for step in range(end + 20) if bool(schedule.due(step))]
    assert found == sorted({*range(begin, end, every), end})
    traced = jax.jit(jax.vmap(schedule.due))(jnp.arange(end + 20))
    assert np.flatnonzero(traced).tolist() == found
    assert np.float32(schedule(end)) == np.float32(0.7)


def test_iterative_schedule_keeps_the_same_share_each_time():
    schedule = pruning.iterative(0.875, begin=2, end=8, every=3)
    assert [step for step in range(10) if bool(schedule.due(step))] == [2, 5, 8]
    np.testing.assert_allclose([schedule(step) for step in (0, 2, 4, 5, 8, 9)], [0, 0.5, 0.5, 0.75, 0.875, 0.875])
    np.testing.assert_allclose([schedule(step) for step in (2, 5, 8)], pruning.iterative_levels(0.875, 3))
    ragged = pruning.iterative(0.9, end=10, every=4)  # 0, 4, 8, 10
    np.testing.assert_allclose([ragged(s) for s in (0, 4, 8, 10)], pruning.iterative_levels(0.9, 4), rtol=1e-6)


def test_at_once_prunes_at_one_step():
    schedule = pruning.at_once(0.5, step=3)
    assert [float(schedule(step)) for step in (0, 2, 3, 9)] == [0, 0, 0.5, 0.5]
    assert [step for step in range(9) if bool(schedule.due(step))] == [3]


def test_any_optax_schedule_is_a_schedule_of_sparsity():
    schedule = pruning.gradual(optax.linear_schedule(0.0, 0.9, 10), begin=0, end=10, every=5)
    assert schedule.target == 0.9  # not the float32 beside it
    assert float(schedule(5)) == pytest.approx(0.45)
    made = []
    jax.jit(lambda: made.append(pruning.gradual(optax.linear_schedule(0.0, 0.9, 10), end=10)))()
    assert made[0].target == 0.9


def test_mistakes_are_one_line_that_says_what_to_do():
    for make, words in (
        (lambda: pruning.cubic(1.0, end=5), "target: 1.0 is outside"),
        (lambda: pruning.cubic(0.5, end=5, initial=-1), "initial: -1 is outside"),
        (lambda: pruning.cubic(0.5, begin=6, end=5), "end: the last update, at step 5, is before the first"),
        (lambda: pruning.cubic(0.5, begin=-1, end=5), "begin: -1 is negative"),
        (lambda: pruning.iterative(0.5, end=5, every=0), "every: 0 is not a number of steps"),
        (lambda: pruning.check_schedule(pruning.cubic(0.5, end=100), 100), "training has 100 steps"),
        (lambda: pruning.iterative_levels(0.5, 0), "rounds: 0"),
        (lambda: pruning.iterative_levels(1.5, 2), "target: 1.5"),
    ):
        with pytest.raises(UserError, match=words) as error:
            make()
        assert "\n" not in str(error.value)
    pruning.check_schedule(pruning.cubic(0.5, end=99), 100)


def test_rewinding_gives_the_kept_weights_and_the_rates_of_an_earlier_step():
    early = {"w": jnp.array([1.0, -2.0, jnp.nan])}
    rewound = pruning.rewind(early, {"w": jnp.array([True, True, False])})
    assert rewound["w"].tolist() == [1.0, -2.0, 0.0]
    rate = optax.cosine_decay_schedule(0.1, 50)
    later = pruning.from_step(rate, 20)
    np.testing.assert_allclose([later(step) for step in range(5)], [rate(step + 20) for step in range(5)])
    assert float(pruning.from_step(0.3, 7)(2)) == 0.3
    assert pruning.iterative_levels(0.9, 1) == (0.9,)
    levels = pruning.iterative_levels(0.99, 7)
    np.testing.assert_allclose(np.diff(np.log1p(-np.array([0, *levels]))), np.log(0.01) / 7, rtol=1e-9)
    assert levels[-1] == 0.99
