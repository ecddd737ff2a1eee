"""Normalisation that leaves padding out, depthwise convolution, pooling and dropout, against lax, flax and numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax import lax

from jaxprune import losses, models, training
from jaxprune.models.layers import DepthwiseConv, Dropout, average_pool_to, make_norm, max_pool
from jaxprune.types import Batch


def images(n=4, size=(6, 5), channels=3, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, *size, channels)), jnp.float32)


def test_padding_does_not_enter_the_moments_of_a_batch():
    x, weight = images(6), jnp.array([1, 1, 0, 1, 0, 0], jnp.float32)
    padded, alone = (make_norm("batch", 3, rngs=nnx.Rngs(0)) for _ in range(2))
    kept = x[weight > 0]
    np.testing.assert_allclose(padded(x, weight)[weight > 0], alone(kept, None), rtol=1e-5, atol=1e-6)
    for moment, by_hand in (("mean", kept.mean((0, 1, 2))), ("var", kept.var((0, 1, 2)))):
        np.testing.assert_allclose(getattr(padded, moment)[...], getattr(alone, moment)[...], rtol=1e-5, atol=1e-6)
        start = 0.0 if moment == "mean" else 1.0
        np.testing.assert_allclose(getattr(padded, moment)[...], 0.9 * start + 0.1 * by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_training_step_is_the_same_whatever_the_padding(norm):
    network, params, stats = models.from_nnx(Small(norm, nnx.Rngs(0)))
    tx = optax.sgd(0.1)
    step = jax.jit(training.make_step(network, losses.cross_entropy, tx))
    x, y = images(5), jnp.array([0, 1, 1, 0, 1])
    plain = Batch(x, y, y, jnp.ones(5))
    doubled = Batch(*(jnp.concatenate([a, 7 * a + 1 if a.dtype == jnp.float32 else a]) for a in plain))
    doubled = doubled._replace(weight=jnp.concatenate([jnp.ones(5), jnp.zeros(5)]))
    results = [step(training.init_state(params, tx, stats), batch)[0] for batch in (plain, doubled)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results)
    if norm == "batch":
        assert not np.allclose(results[0].stats["norm"]["mean"], stats["norm"]["mean"]), "the moments must have moved"


class Small(nnx.Module):
    def __init__(self, norm, rngs):
        self.norm = make_norm(norm, 3, rngs=rngs)
        self.last = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x, weight=None):
        return self.last(jnp.tanh(self.norm(x, weight)).mean((1, 2)))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_depthwise_convolution_is_the_grouped_one_of_lax(stride):
    layer, x = DepthwiseConv(3, stride=stride, rngs=nnx.Rngs(0)), images()
    expected = lax.conv_general_dilated(
        x,
        layer.kernel[...],
        (stride, stride),
        [(1, 1)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("window", "stride", "padding", "size"), [(3, 2, 1, (7, 6)), (3, 2, 1, (8, 8)), (3, 1, 1, (4, 5))]
)
def test_overlapping_maxima_are_those_of_lax(window, stride, padding, size):
    x = images(size=size)
    shape, steps = (1, window, window, 1), (1, stride, stride, 1)
    around = ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0))
    expected = lax.reduce_window(x, -jnp.inf, lax.max, shape, steps, around)
    np.testing.assert_array_equal(max_pool(x, window, stride=stride, padding=padding), expected)


@pytest.mark.parametrize(("size", "to"), [((14, 14), 7), ((9, 5), 7), ((3, 3), 7), ((6, 5), 1)])
def test_average_pooling_covers_any_image_evenly(size, to):
    x = np.asarray(images(size=size))
    expected = np.zeros((len(x), to, to, 3))
    for i in range(to):
        for j in range(to):
            rows, columns = (slice(k * n // to, -(-(k + 1) * n // to)) for k, n in zip((i, j), size, strict=True))
            expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(average_pool_to(x, to), expected, rtol=1e-5, atol=1e-6)


def test_dropout_keeps_the_mean_and_draws_anew_each_time():
    layer = Dropout(0.25, rngs=nnx.Rngs(0))
    x = jnp.ones((400, 50))
    first, second = layer(x), layer(x)
    assert set(np.unique(first)) == {0.0, np.float32(1 / 0.75)}
    assert not np.array_equal(first, second)
    # 20,000 draws: the standard error of the mean is sqrt(p / (1 - p) / n); five of them
    assert first.mean() == pytest.approx(1, abs=5 * np.sqrt(0.25 / 0.75 / x.size))
    layer.eval()
    np.testing.assert_array_equal(layer(x), x)


def test_the_state_of_dropout_is_plain_numbers_that_any_checkpoint_takes():
    options = {"width": 1 / 32, "dropout": 0.5}
    network = models.build("vgg19", np.zeros((32, 32, 1), np.float32), 2, **options)
    _, stats = jax.eval_shape(network.init, jax.random.key(0))
    assert stats["dropout"]["state"].dtype == jnp.uint32
