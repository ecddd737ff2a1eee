"""Random networks of layers of many kinds: of a seed, and as a strategy of hypothesis."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax import lax

from jaxprune.networks import Network
from jaxprune.types import Array, Params, Stats

WIDTHS = (2, 3, 4, 5, 6, 7, 8, 11, 12)
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "square": jnp.square,
}
Step = Callable[[Params, Stats, Array], Array]  # of values [B, H, W, D] or [B, D]


@dataclass
class Builder:
    """Chooses layers and makes their parameters.

    Attributes:
      choose: Chooses one of several values.
      rng: For the values of parameters.
      names: One line for each layer, for messages.
    """

    choose: Callable[[Sequence[Any]], Any]
    rng: np.random.Generator
    params: dict[str, np.ndarray] = field(default_factory=dict)
    stats: dict[str, np.ndarray] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def matrix(self, *shape: int) -> str:
        """The name of a new kernel."""
        return self._add(self.params, self.rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[:-1]))))

    def vector(self, n: int) -> str:
        """The name of a new bias or scale, nowhere near 0."""
        return self._add(self.params, self.rng.uniform(0.3, 1.2, n) * self.rng.choice([-1, 1], n))

    def moment(self, n: int) -> str:
        """The name of new statistics, positive."""
        return self._add(self.stats, self.rng.uniform(0.4, 1.6, n))

    def _add(self, where: dict[str, np.ndarray], value: np.ndarray) -> str:
        name = f"p{len(self.params) + len(self.stats):02d}"
        where[name] = value.astype(np.float32)
        return name

    def among(self, *values: Any) -> Any:
        """One of the values."""
        return self.choose(values)

    def note(self, line: str) -> None:
        self.names.append(line)


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _dense(build: Builder, features_in: int, features: int) -> Step:
    """Works on images as a convolution of window 1."""
    kernel, bias = build.matrix(features_in, features), build.vector(features)
    return lambda params, stats, x: x @ params[kernel] + params[bias]


def _conv(
    build: Builder, features_in: int, features: int, *, window: int = 3, stride: int = 1, groups: int = 1
) -> Step:
    kernel, bias = build.matrix(window, window, features_in // groups, features), build.vector(features)

    def step(params: Params, stats: Stats, x: Array) -> Array:
        y = lax.conv_general_dilated(
            x,
            params[kernel],
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return y + params[bias]

    return step


def _linear(build: Builder, shape: tuple[int, ...], features: int) -> Step:
    return (_conv if len(shape) == 3 else _dense)(build, shape[-1], features)


# Layers: (build, shape without the batch) -> (step, new shape).


def linear(build: Builder, shape: tuple[int, ...]):
    features = build.among(*WIDTHS)
    build.note(f"linear {features}")
    return _linear(build, shape, features), (*shape[:-1], features)


def strided(build: Builder, shape: tuple[int, ...]):
    features = build.among(*WIDTHS)
    build.note(f"strided convolution {features}")
    height, width, d = shape
    return _conv(build, d, features, stride=2), (-(-height // 2), -(-width // 2), features)


def grouped(build: Builder, shape: tuple[int, ...]):
    groups = build.among(*_divisors(shape[-1]))
    features = groups * build.among(1, 2, 3, 5)
    build.note(f"convolution of {groups} groups, {features}")
    return _conv(build, shape[-1], features, groups=groups), (*shape[:-1], features)


def depthwise(build: Builder, shape: tuple[int, ...]):
    features = shape[-1] * build.among(1, 1, 2)
    build.note(f"depthwise {features}")
    return _conv(build, shape[-1], features, groups=shape[-1]), (*shape[:-1], features)


def activation(build: Builder, shape: tuple[int, ...]):
    name = build.among(*ACTIVATIONS)
    build.note(name)
    return lambda params, stats, x: ACTIVATIONS[name](x), shape


def batch_norm(build: Builder, shape: tuple[int, ...]):
    build.note("batch norm")
    scale, bias = build.vector(shape[-1]), build.vector(shape[-1])
    mean, variance = build.moment(shape[-1]), build.moment(shape[-1])

    def step(params: Params, stats: Stats, x: Array) -> Array:
        return (x - stats[mean]) * lax.rsqrt(stats[variance] + 1e-5) * params[scale] + params[bias]

    return step, shape


def group_norm(build: Builder, shape: tuple[int, ...]):
    groups, fast = build.among(*_divisors(shape[-1])), build.among(True, True, True, False)
    build.note(f"norm of {groups} groups, {'one pass' if fast else 'two passes'}")
    scale, bias = build.vector(shape[-1]), build.vector(shape[-1])

    def step(params: Params, stats: Stats, x: Array) -> Array:
        y = x.reshape(*x.shape[:-1], groups, -1)
        axes = (*range(1, y.ndim - 2), y.ndim - 1)
        mean = y.mean(axes, keepdims=True)
        variance = (y * y).mean(axes, keepdims=True) - mean * mean if fast else y.var(axes, keepdims=True)
        y = (y - mean) * lax.rsqrt(jnp.maximum(variance, 0) + 1e-3)
        return y.reshape(x.shape) * params[scale] + params[bias]

    return step, shape


def pool(build: Builder, shape: tuple[int, ...]):
    most = build.among(True, False)
    build.note("max pool" if most else "average pool")
    height, width, d = shape

    def step(params: Params, stats: Stats, x: Array) -> Array:
        window = (1, min(2, height), min(2, width), 1)
        if most:
            return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "SAME")
        return lax.reduce_window(x, 0.0, lax.add, window, window, "SAME") / 4

    return step, (-(-height // 2), -(-width // 2), d)


def residual(build: Builder, shape: tuple[int, ...]):
    inner = build.among(*WIDTHS)
    name = build.among(*ACTIVATIONS)
    build.note(f"residual block {inner} {name}")
    up, down = _linear(build, shape, inner), _linear(build, (*shape[:-1], inner), shape[-1])
    return lambda params, stats, x: x + down(params, stats, ACTIVATIONS[name](up(params, stats, x))), shape


def padded_shortcut(build: Builder, shape: tuple[int, ...]):
    low, high = build.among(0, 1, 3), build.among(0, 2, 3)
    build.note(f"shortcut with {low} and {high} zeros")
    block = _linear(build, shape, low + shape[-1] + high)

    def step(params: Params, stats: Stats, x: Array) -> Array:
        return jnp.pad(x, (*[(0, 0)] * (x.ndim - 1), (low, high))) + block(params, stats, x)

    return step, (*shape[:-1], low + shape[-1] + high)


def concatenation(build: Builder, shape: tuple[int, ...]):
    features = build.among(*WIDTHS)
    build.note(f"concatenation with {features}")
    block = _linear(build, shape, features)
    return lambda params, stats, x: jnp.concatenate([x, block(params, stats, x)], -1), (
        *shape[:-1],
        shape[-1] + features,
    )


def gate(build: Builder, shape: tuple[int, ...]):
    features = build.among(*WIDTHS)
    build.note(f"gate {features}")
    block = _linear(build, shape, 2 * features)

    def step(params: Params, stats: Stats, x: Array) -> Array:
        value, gate = jnp.split(block(params, stats, x), 2, -1)
        return value * jax.nn.sigmoid(gate)

    return step, (*shape[:-1], features)


def part(build: Builder, shape: tuple[int, ...]):
    first = build.choose(range(shape[-1]))
    last = build.choose(range(first + 1, shape[-1] + 1))
    build.note(f"channels {first} to {last}")
    return lambda params, stats, x: x[..., first:last], (*shape[:-1], last - first)


def shuffle(build: Builder, shape: tuple[int, ...]):
    groups = build.among(*_divisors(shape[-1]))
    build.note(f"shuffle of {groups} groups")

    def step(params: Params, stats: Stats, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)

    return step, shape


def blocks(build: Builder, shape: tuple[int, ...]):
    groups = build.among(*_divisors(shape[-1]))
    size, features = shape[-1] // groups, build.among(1, 2, 3, 5)
    build.note(f"{groups} blocks {size} to {features}")
    kernel, bias = build.matrix(groups, size, features), build.vector(groups * features)

    def step(params: Params, stats: Stats, x: Array) -> Array:
        y = jnp.einsum("...gi,gij->...gj", x.reshape(*x.shape[:-1], groups, size), params[kernel])
        return y.reshape(*x.shape[:-1], -1) + params[bias]

    return step, (*shape[:-1], groups * features)


def attention(build: Builder, shape: tuple[int, ...]):
    height, width, d = shape
    heads, size, value_size = build.among(1, 2, 3), build.among(2, 3, 5), build.among(2, 3, 7)
    build.note(f"attention, {heads} heads of {size} and {value_size}")
    query, key = _dense(build, d, heads * size), _dense(build, d, heads * size)
    value, project = _dense(build, d, heads * value_size), _dense(build, heads * value_size, d)

    def step(params: Params, stats: Stats, x: Array) -> Array:
        tokens = x.reshape(x.shape[0], height * width, d)
        q, k, v = (layer(params, stats, tokens).reshape(*tokens.shape[:2], heads, -1) for layer in (query, key, value))
        weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
        attended = jnp.einsum("bhts,bshe->bthe", weights, v).reshape(*tokens.shape[:2], -1)
        return (tokens + project(params, stats, attended)).reshape(x.shape)

    return step, shape


def excitation(build: Builder, shape: tuple[int, ...]):
    inner = build.among(*WIDTHS)
    build.note(f"squeeze and excite {inner}")
    squeeze, excite = _dense(build, shape[-1], inner), _dense(build, inner, shape[-1])

    def step(params: Params, stats: Stats, x: Array) -> Array:
        weights = excite(params, stats, jax.nn.relu(squeeze(params, stats, x.mean((1, 2)))))
        return x * jax.nn.sigmoid(weights)[:, None, None]

    return step, shape


ANYWHERE = (
    *(linear, linear, activation, activation, batch_norm, group_norm, residual, padded_shortcut),
    *(concatenation, gate, part, shuffle, blocks),
)
ON_IMAGES = (*ANYWHERE, strided, grouped, depthwise, pool, attention, excitation)


@dataclass(frozen=True)
class RandomNetwork:
    """A random network, its parameters, statistics and inputs; `layers` describes it."""

    layers: tuple[str, ...]
    network: Network
    params: Params = field(repr=False)
    stats: Stats = field(repr=False)
    x: Array = field(repr=False)


def make_network(choose: Callable[[Sequence[Any]], Any], most: int) -> RandomNetwork:
    """A network of up to `most` layers on images and as many on vectors.

    The batch and the sides of the images are as large as some widths.
    """
    build = Builder(choose, np.random.default_rng(choose(range(2**16))))
    batch, side, channels = choose((2, 3, 4)), choose((3, 4, 5)), choose((1, 2, 3))
    build.note(f"inputs {batch} {side} {side} {channels}")
    steps, shape = _layers(build, (side, side, channels), (linear, *_some(build, ON_IMAGES, most)))
    flat = choose((False, True))
    build.note("flatten" if flat else "mean over pixels")
    steps.append(lambda params, stats, x: x.reshape(batch, -1) if flat else x.mean((1, 2)))
    more, shape = _layers(build, (int(np.prod(shape)) if flat else shape[-1],), _some(build, ANYWHERE, most))
    steps += [*more, _dense(build, shape[-1], 3)]

    def apply(params: Params, stats: Stats, x: Array, train: bool) -> tuple[Array, Stats]:
        value = x
        for step in steps:
            value = step(params, stats, value)
        return value, stats

    x = build.rng.normal(size=(batch, side, side, channels)).astype(np.float32)
    return RandomNetwork(tuple(build.names), Network(None, apply), build.params, build.stats, x)


def network_of_seed(seed: int, *, most: int = 4) -> RandomNetwork:
    """A random network; seeds give networks that differ more than the first examples of hypothesis."""
    return make_network(random.Random(seed).choice, most)


@st.composite
def random_networks(draw: Any, *, most: int = 4) -> RandomNetwork:
    """Random networks of up to `most` layers on images and as many on vectors."""
    return make_network(lambda values: draw(st.sampled_from(values)), most)


def _some(build: Builder, layers: Sequence[Any], most: int) -> list[Any]:
    return [build.choose(layers) for _ in range(build.choose(range(most + 1)))]


def _layers(build: Builder, shape: tuple[int, ...], layers: Sequence[Any]) -> tuple[list[Step], tuple[int, ...]]:
    steps = []
    for layer in layers:
        step, shape = layer(build, shape)
        steps.append(step)
    return steps, shape
