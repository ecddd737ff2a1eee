"""Normalisations, some of which can be cut through exactly and some of which cannot."""

import jax
import jax.numpy as jnp
from jax import lax

from foreign.registry import affine, dense, norm, plain

_TWO_LAYERS = {"first": affine(5, 11), "second": affine(11, 13), "out": affine(13, 3)}
_PINNED = (("first/kernel", 1), ("second/kernel", 0))


def _behind(params, h):
    return dense(params["out"], jax.nn.relu(dense(params["second"], h)))


@plain(x=(7, 5), shapes=_TWO_LAYERS | {"norm": norm(11)}, couplings={13: 1}, pinned=(*_PINNED, ("norm/scale", 0)))
def two_pass_layer_norm(params, x):
    """The mean of (h - mean)^2: zeros minus the mean are not zero."""
    h = dense(params["first"], x)
    centred = h - h.mean(-1, keepdims=True)
    h = centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return _behind(params, h * params["norm"]["scale"] + params["norm"]["bias"])


@plain(x=(7, 5), shapes=_TWO_LAYERS | {"norm": norm(11)}, couplings={11: 1, 13: 1})
def one_pass_layer_norm(params, x):
    """The mean of h^2 less the mean squared, with the divisor of the whole width."""
    h = dense(params["first"], x)
    mean = h.mean(-1, keepdims=True)
    variance = (h * h).mean(-1, keepdims=True) - mean * mean
    h = (h - mean) * lax.rsqrt(jnp.maximum(variance, 0) + 1e-5)
    return _behind(params, h * params["norm"]["scale"] + params["norm"]["bias"])


@plain(x=(7, 5), shapes=_TWO_LAYERS | {"scale": (11,)}, couplings={11: 1, 13: 1})
def root_mean_square_norm(params, x):
    h = dense(params["first"], x)
    return _behind(params, h * lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-5) * params["scale"])


@plain(x=(7, 5), shapes=_TWO_LAYERS | {"norm": norm(11)}, couplings={11: 1, 13: 1})
def statistics_of_the_batch(params, x):
    """Two passes over the examples: a channel that is cut is 0 in all of them, and so is its mean."""
    h = dense(params["first"], x)
    h = (h - h.mean(0)) * lax.rsqrt(h.var(0) + 1e-5)
    return _behind(params, jax.nn.relu(h * params["norm"]["scale"] + params["norm"]["bias"]))


@plain(x=(7, 5), shapes=_TWO_LAYERS, couplings={13: 1}, pinned=_PINNED)
def softmax_over_features(params, x):
    return _behind(params, 11 * jax.nn.softmax(dense(params["first"], x)))


@plain(x=(7, 5), shapes=_TWO_LAYERS, couplings={13: 1}, pinned=_PINNED)
def exponential_sum_over_features(params, x):
    """No maximum is taken, and exp(0) = 1 is still in the sum."""
    h = jnp.exp(jnp.tanh(dense(params["first"], x)))
    return _behind(params, h / h.sum(-1, keepdims=True))


@plain(x=(7, 5), shapes=_TWO_LAYERS, couplings={13: 1}, pinned=_PINNED)
def mean_of_nonnegative_features(params, x):
    """A channel that is cut is counted as one that is not negative."""
    h = dense(params["first"], x)
    count = (h >= 0).astype(h.dtype).sum(-1, keepdims=True)
    return _behind(params, h * jax.nn.relu(h).sum(-1, keepdims=True) / (1 + count))


@plain(x=(7, 5), shapes=_TWO_LAYERS, couplings={13: 1}, pinned=_PINNED)
def mean_of_constants(params, x):
    """How many features there are is counted by a sum of ones made like them."""
    h = dense(params["first"], x)
    ones = 0 * h + 1
    return _behind(params, h / ones.sum(-1, keepdims=True))


@plain(x=(7, 5), shapes=_TWO_LAYERS, couplings={13: 1}, pinned=_PINNED)
def logarithm_of_features(params, x):
    """The logarithm of 0 is not finite, and times a weight of 0 it is not a number."""
    h = dense(params["first"], x)
    return _behind(params, jnp.log(h * h))


@plain(x=(7, 5), shapes=_TWO_LAYERS, couplings={13: 1}, pinned=_PINNED)
def signs_by_division(params, x):
    """0 / 0 is not a number, though the numerator is 0."""
    h = dense(params["first"], x)
    return _behind(params, h / jnp.abs(h))


@plain(x=(7, 5), shapes=_TWO_LAYERS, couplings={13: 1}, pinned=_PINNED)
def inverse_of_features(params, x):
    h = dense(params["first"], x)
    return _behind(params, h * h**-2)


@plain(x=(7, 5), shapes=_TWO_LAYERS | {"offset": (1,)}, couplings={13: 1}, pinned=_PINNED)
def sum_with_an_offset(params, x):
    """A bias that all channels share, and that is not cut, reaches the sum of squares."""
    h = dense(params["first"], x) + params["offset"]
    return _behind(params, h * lax.rsqrt((h * h).sum(-1, keepdims=True) + 1e-5))


@plain(x=(7, 5), shapes=_TWO_LAYERS, couplings={11: 1, 13: 1})
def sum_of_powers(params, x):
    """|h|^3 is 0 at 0."""
    h = dense(params["first"], x)
    return _behind(params, h / (1 + (jnp.abs(h) ** 3).sum(-1, keepdims=True)))


@plain(x=(7, 5), shapes=_TWO_LAYERS, couplings={13: 1}, pinned=_PINNED)
def sum_of_zeroth_powers(params, x):
    """0^0 = 1 is counted."""
    h = dense(params["first"], x)
    powers = jnp.power(jnp.abs(h), jnp.zeros((), h.dtype))
    return _behind(params, h / powers.sum(-1, keepdims=True))
