"""Programs whose channels look as if they were 0, or the same, when they are pruned, and are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxprune import pruning

X, IDS = np.ones((4, 5), np.float32), np.array([0, 1, 7, 2])
PARAMS = {"up": np.ones((5, 8), np.float32), "down": np.ones((8, 2), np.float32)}


def filled(params, ids):
    return params["up"].at[ids].get(mode="fill", fill_value=1.0).sum(-1, keepdims=True)


def bounded_by_products(params, x):
    bounds = jnp.cumprod(jnp.full((1, 8, 3), -2.0), axis=2)  # -2, 4, -8
    return jnp.maximum((x @ params["up"])[:, :, None], bounds).sum((1, 2))[:, None]


def bounded_by_wrapped(params, x):
    bounds = jnp.full((4, 8), -1, jnp.int8).astype(jnp.uint8).astype(jnp.int32)  # 255
    return jnp.maximum((x @ params["up"]).astype(jnp.int32), bounds).sum(-1, keepdims=True).astype(jnp.float32)


def random_features(params, x):
    return jnp.cos(x @ jax.random.normal(jax.random.key(1), (5, 8))) @ params["down"]


def multiplied_by_noise(params, x):
    return (x @ params["up"] * jax.random.normal(jax.random.key(1), (8,))) @ params["down"]


@pytest.mark.parametrize("apply", [bounded_by_products, bounded_by_wrapped, random_features, multiplied_by_noise])
def test_what_is_not_known_is_kept_whole(apply):
    assert not len(pruning.couplings(apply, PARAMS, sample=X))


def test_what_is_taken_from_outside_of_an_array_is_not_0():
    assert not len(pruning.couplings(filled, PARAMS, sample=IDS))


def test_what_is_taken_from_outside_may_be_0():
    def apply(params, ids):
        return params["up"].at[ids].get(mode="fill", fill_value=0.0).sum(-1, keepdims=True)

    assert [coupling.name for coupling in pruning.couplings(apply, PARAMS, sample=IDS)] == ["up[1]"]


def test_noise_of_whole_channels_alone_lets_them_be_cut():
    def apply(params, x):
        noise = jax.random.normal(jax.random.key(1), (4, 1))
        return jnp.tanh(x @ params["up"] * noise) @ params["down"]

    assert [coupling.name for coupling in pruning.couplings(apply, PARAMS, sample=X)] == ["up[1]"]


def test_bits_of_another_width_are_kept_whole():
    def apply(params, x):
        halves = lax.bitcast_convert_type(x @ params["up"], jnp.int16)
        return lax.bitcast_convert_type(halves, jnp.float32) @ params["down"]

    assert not len(pruning.couplings(apply, PARAMS, sample=X))


def test_zeros_of_bfloat16_are_known():
    def apply(params, x):
        return jnp.maximum((x @ params["up"]).astype(jnp.bfloat16), 0).sum(-1, keepdims=True)

    assert [coupling.name for coupling in pruning.couplings(apply, PARAMS, sample=X)] == ["up[1]"]


def test_a_random_key_may_be_held_by_the_function():
    key = jax.random.key(3)

    def apply(params, x):
        return (x @ params["up"] + jax.random.normal(key, (4, 1))) @ params["down"]

    assert [coupling.name for coupling in pruning.couplings(apply, PARAMS, sample=X)] == ["up[1]"]


def test_second_derivatives_that_mix_channels_keep_them_whole():
    @jax.custom_jvp
    def inner(h):
        return jnp.tanh(h)

    @jax.custom_jvp
    def outer(h):
        return h * h

    inner.defjvp(lambda primals, tangents: (inner(*primals), tangents[0] * jnp.exp(primals[0]).sum(-1, keepdims=True)))
    outer.defjvp(lambda primals, tangents: (outer(*primals), tangents[0] * inner(primals[0])))
    assert not len(pruning.couplings(lambda params, x: outer(x @ params["up"]) @ params["down"], PARAMS, sample=X))
