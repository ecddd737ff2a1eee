"""Losses against scipy, and means that leave out what has no weight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from jaxprune.losses import cross_entropy, weighted_mean


def test_cross_entropy_is_logsumexp_minus_the_logit_of_the_label():
    rng = np.random.default_rng(0)
    logits, y = rng.normal(scale=3, size=(20, 5)).astype(np.float32), rng.integers(0, 5, 20)
    expected = logsumexp(logits.astype(float), axis=1) - logits[np.arange(20), y]
    losses = cross_entropy(logits, y)
    assert losses.shape == (20,)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-6)


def test_cross_entropy_is_finite_for_extreme_logits():
    logits = np.array([[1e4, 0, -1e4], [1e4, 0, -1e4], [88.8, 88.8, 88.8], [-200, -200, 0]], np.float32)
    y = np.array([0, 2, 1, 0])
    # The loss is a difference of numbers as large as the logits, in float32.
    np.testing.assert_allclose(cross_entropy(logits, y), [0, 2e4, np.log(3), 200], rtol=1e-6, atol=2e-5)


def test_the_gradient_of_cross_entropy_is_the_error(x64):
    rng = np.random.default_rng(1)
    logits, y = rng.normal(size=(6, 3)), rng.integers(0, 3, 6)
    gradient = jax.grad(lambda z: jnp.sum(cross_entropy(z, y)))(logits)
    np.testing.assert_allclose(gradient, softmax(logits, 1) - np.eye(3)[y], atol=1e-14)


def test_cross_entropy_counts_in_nats():
    p = np.array([[0.25, 0.75], [0.9, 0.1]])
    np.testing.assert_allclose(cross_entropy(np.log(p), np.array([0, 0])), [np.log(4), np.log(1 / 0.9)], rtol=1e-6)
    np.testing.assert_allclose(cross_entropy(np.log(p), np.array([1, 1])), -log_softmax(np.log(p), 1)[:, 1], rtol=1e-6)


def test_weighted_mean_is_numpys_average():
    rng = np.random.default_rng(2)
    values, weight = rng.normal(size=9), rng.uniform(0, 3, 9)
    np.testing.assert_allclose(weighted_mean(values, weight), np.average(values, weights=weight), rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weighted_mean_leaves_out_what_has_no_weight(bad):
    assert weighted_mean(jnp.array([1.0, bad, 5.0]), jnp.array([1.0, 0, 3])) == 4


def test_weighted_mean_shows_what_is_not_finite_and_has_weight():
    assert jnp.isnan(weighted_mean(jnp.array([1.0, jnp.nan]), jnp.ones(2)))


def test_weighted_mean_of_nothing_is_zero_and_so_is_its_gradient():
    value, gradient = jax.value_and_grad(weighted_mean)(jnp.array([1.0, 2, 3]), jnp.zeros(3))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_weighted_mean_gradient():
    """The gradient of `weighted_mean` is the share of the weight."""
    gradient = jax.grad(weighted_mean)(jnp.array([1.0, jnp.nan, 3]), jnp.array([1.0, 0, 3]))
    np.testing.assert_allclose(gradient, [0.25, 0, 0.75])


def test_weights_below_one_in_sum_are_not_padding():
    """A total below 1 is a total like any other: only a total of 0 is replaced."""
    assert weighted_mean(jnp.array([2.0, 4.0]), jnp.array([0.125, 0.125])) == 3
