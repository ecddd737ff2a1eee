"""Recurrent networks: scans over time with parameters outside, and over layers with parameters inside."""

import jax
import jax.numpy as jnp
from jax import lax

from foreign.registry import affine, dense, plain


def _lstm(params, x, width):
    def step(carry, now):
        h, cell = carry
        gates = now @ params["input"] + h @ params["recurrent"] + params["bias"]
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(f + 1) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return (h, cell), h

    zeros = jnp.zeros((x.shape[0], width), x.dtype)
    return lax.scan(step, (zeros, zeros), x.swapaxes(0, 1))


@plain(
    x=(4, 6, 5),
    shapes={"lstm": {"input": (5, 44), "recurrent": (11, 44), "bias": (44,)}, "out": affine(11, 3)},
    couplings={11: 1},
)
def lstm(params, x):
    (h, _), _ = _lstm(params["lstm"], x, 11)
    return dense(params["out"], h)


@plain(
    x=(4, 6, 5),
    shapes={
        "forward": {"input": (5, 44), "recurrent": (11, 44), "bias": (44,)},
        "backward": {"input": (5, 52), "recurrent": (13, 52), "bias": (52,)},
        "out": affine(24, 3),
    },
    couplings={11: 1, 13: 1},
)
def two_directions(params, x):
    """The past and the future of every step, side by side."""
    forward = _lstm(params["forward"], x, 11)[1]
    backward = _lstm(params["backward"], x[:, ::-1], 13)[1][::-1]
    return dense(params["out"], jnp.concatenate([forward, backward], -1).mean(0))


@plain(
    x=(13, 6, 5),  # as many examples as units
    shapes={"gru": {"input": affine(5, 39), "recurrent": affine(13, 39)}, "out": affine(13, 3)},
    couplings={13: 1},
)
def gru(params, x):
    def step(h, now):
        inputs, states = dense(params["gru"]["input"], now), dense(params["gru"]["recurrent"], h)
        reset = jax.nn.sigmoid(inputs[:, :13] + states[:, :13])
        update = jax.nn.sigmoid(inputs[:, 13:26] + states[:, 13:26])
        candidate = jnp.tanh(inputs[:, 26:] + reset * states[:, 26:])
        return (1 - update) * candidate + update * h, None

    h, _ = lax.scan(step, jnp.zeros((13, 13), x.dtype), x.swapaxes(0, 1))
    return dense(params["out"], h)


@plain(
    x=(4, 6, 5),
    shapes={"initial": (11,), "input": affine(5, 11), "recurrent": (11, 11), "out": affine(11, 3)},
    couplings={11: 1},
)
def learned_initial_state(params, x):
    def step(h, now):
        h = jnp.tanh(dense(params["input"], now) + h @ params["recurrent"])
        return h, h

    start = jnp.broadcast_to(params["initial"], (4, 11))
    _, states = lax.scan(step, start, x.swapaxes(0, 1))
    return dense(params["out"], (states * states).mean(0))


@plain(
    x=(4, 6, 5),
    shapes={"input": affine(5, 11), "recurrent": (11, 11), "out": affine(11, 3)},
    couplings={},
    pinned=(("recurrent", 0), ("recurrent", 1), ("out/kernel", 0)),
)
def initial_state_of_ones(params, x):
    """The state starts at 1 in the channels that would be cut, and is normalised over them: nothing can be cut."""

    def step(h, now):
        h = h * lax.rsqrt((h * h).mean(-1, keepdims=True))
        return jnp.tanh(dense(params["input"], now) + h @ params["recurrent"]), None

    h, _ = lax.scan(step, jnp.ones((4, 11), x.dtype), x.swapaxes(0, 1))
    return dense(params["out"], h)


@plain(
    x=(4, 5),
    shapes={
        "stem": affine(5, 11),
        "layers": {"up": {"kernel": (3, 11, 13), "bias": (3, 13)}, "down": {"kernel": (3, 13, 11), "bias": (3, 11)}},
        "out": affine(11, 4),
    },
    couplings={11: 1, 13: 1},
    pinned=(("layers/up/kernel", 0),),
)
def scanned_layers(params, x):
    """Residual blocks with stacked parameters, each computed again for the derivative."""

    @jax.checkpoint
    def block(h, layer):
        return h + dense(layer["down"], jax.nn.gelu(dense(layer["up"], h))), None

    h, _ = lax.scan(block, dense(params["stem"], x), params["layers"])
    return dense(params["out"], h)


@plain(
    x=(4, 8, 5),
    shapes={"stem": affine(5, 11), "decay": (11,), "skip": (11,), "out": affine(11, 3)},
    couplings={11: 1},
)
def linear_recurrence(params, x):
    """h_t = a h_(t-1) + u_t by an associative scan over time (a state space model), and a running sum over time."""
    u = dense(params["stem"], x)
    decay = jnp.broadcast_to(jax.nn.sigmoid(params["decay"]), u.shape)

    def join(left, right):
        return left[0] * right[0], right[0] * left[1] + right[1]

    _, h = lax.associative_scan(join, (decay, u), axis=1)
    return dense(params["out"], (h + params["skip"] * jnp.cumsum(u, 1) / 8)[:, -1])


_OVER_TIME = {"first": affine(5, 11), "second": affine(5, 11), "out": affine(11, 3)}


@plain(x=(4, 6, 5), shapes=_OVER_TIME, couplings={11: 1})
def sorted_pairs(params, x):
    """The values of one layer in the order of those of another, channel by channel: both are one coupling."""
    keys, values = dense(params["first"], x), dense(params["second"], x)
    keys, values = lax.sort_key_val(keys, values, dimension=1)
    return dense(params["out"], keys[:, 0] * values[:, 1])


@plain(x=(4, 6, 5), shapes=_OVER_TIME, couplings={11: 1})
def order_over_time(params, x):
    """The values of one layer at the times at which those of another rise."""
    order = jnp.argsort(dense(params["first"], x), axis=1)
    values = jnp.take_along_axis(dense(params["second"], x), order, axis=1)
    return dense(params["out"], values[:, 2])


@plain(x=(4, 6, 5), shapes=_OVER_TIME, couplings={11: 1})
def latest_of_two(params, x):
    """Elementwise choices and the largest over time."""
    first, second = dense(params["first"], x), dense(params["second"], x)
    h = jnp.where(first > second, first * second, jnp.clip(second, -0.5, 2))
    return dense(params["out"], h.max(1) + jnp.cumsum(first, 1)[:, -1] - jnp.minimum(first, 0).prod(1))
