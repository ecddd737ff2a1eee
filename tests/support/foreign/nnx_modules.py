"""Networks in flax NNX."""

from typing import Any

import jax
from flax import nnx

from foreign.registry import Foreign, made_inputs, randomised, register
from jaxprune.models import from_nnx


def _foreign(module: nnx.Module, shape: tuple[int, ...], couplings: dict[int, int], **options: Any) -> Foreign:
    name = type(module).__name__
    network, params, stats = from_nnx(module)
    x = made_inputs(name, shape)
    return Foreign(name, network, randomised(params, name), randomised(stats, name), x, couplings, **options)


class Perceptron(nnx.Module):
    """Two hidden layers with LayerNorm and BatchNorm."""

    def __init__(self, rngs: nnx.Rngs):
        self.first, self.norm = nnx.Linear(5, 11, rngs=rngs), nnx.LayerNorm(11, rngs=rngs)
        self.second, self.batch_norm = nnx.Linear(11, 7, rngs=rngs), nnx.BatchNorm(7, rngs=rngs)
        self.head = nnx.Linear(7, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = jax.nn.relu(self.norm(self.first(x)))
        return self.head(jax.nn.relu(self.batch_norm(self.second(h))))


@register
def nnx_perceptron() -> Foreign:
    return _foreign(Perceptron(nnx.Rngs(0)), (7, 5), {11: 1, 7: 1}, trains=True)


class Transformer(nnx.Module):
    """One layer of attention, with post-normalisation."""

    def __init__(self, rngs: nnx.Rngs):
        self.stem = nnx.Linear(5, 12, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(3, 12, qkv_features=21, decode=False, rngs=rngs)
        self.norm, self.head = nnx.LayerNorm(12, rngs=rngs), nnx.Linear(12, 4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.stem(x)
        return self.head(self.norm(h + self.attention(h)).mean(1))


@register
def nnx_attention() -> Foreign:
    return _foreign(Transformer(nnx.Rngs(0)), (2, 6, 5), {12: 1, 3: 1, 7: 2})


class Images(nnx.Module):
    """Convolutions with GroupNorm, one of them transposed."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv, self.norm = nnx.Conv(3, 10, (3, 3), strides=2, rngs=rngs), nnx.GroupNorm(10, 2, rngs=rngs)
        self.up, self.head = nnx.ConvTranspose(10, 7, (2, 2), strides=(2, 2), rngs=rngs), nnx.Linear(252, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.up(jax.nn.relu(self.norm(self.conv(x))))
        return self.head(jax.nn.relu(h).reshape(x.shape[0], -1))


@register
def nnx_images() -> Foreign:
    return _foreign(Images(nnx.Rngs(0)), (4, 6, 6, 3), {2: 1, 5: 1, 7: 1})
