"""Networks in flax Linen."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from foreign.registry import Foreign, made_inputs, randomised, register
from jaxprune.models import from_linen


def _foreign(module: Any, shape: tuple[int, ...], couplings: dict[int, int], *, vocabulary=None, **options: Any):
    name = type(module).__name__
    x = made_inputs(name, shape, vocabulary)
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
    network, params, stats = from_linen(module, randomised(variables, name))
    return Foreign(name, network, params, stats, x, couplings, **options)


class Residual(nn.Module):
    """Convolutions with BatchNorm and a residual sum."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        h = nn.Conv(11, (3, 3))(x)
        h = nn.relu(nn.BatchNorm(use_running_average=not train)(h))
        y = nn.BatchNorm(use_running_average=not train)(nn.Conv(13, (3, 3), use_bias=False)(h))
        h = h + nn.Conv(11, (1, 1))(nn.relu(y))
        h = nn.max_pool(h, (2, 2), (2, 2)).reshape(h.shape[0], -1)
        return nn.Dense(3)(h)


@register
def linen_residual() -> Foreign:
    return _foreign(Residual(), (5, 4, 4, 3), {11: 1, 13: 1}, trains=True)


class Everything(nn.Module):
    """Every norm, depthwise and grouped convolutions, concatenation, pools, flatten and dropout."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        h = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(14, (3, 3))(x)))
        grouped = nn.GroupNorm(num_groups=2)(nn.Conv(10, (3, 3), feature_group_count=2)(h))
        depth = nn.Conv(14, (3, 3), feature_group_count=14)(nn.avg_pool(h, (3, 3), padding="SAME"))
        h = nn.gelu(nn.LayerNorm()(jnp.concatenate([grouped, depth], -1)))
        h = nn.max_pool(h, (2, 2), (2, 2)).reshape(x.shape[0], -1)
        h = nn.relu(nn.Dense(17)(h))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=True)(h))


@register
def linen_everything() -> Foreign:
    # the two groups are one coupling; the places in a group are 7 before and 5 behind the grouped convolution
    return _foreign(Everything(), (4, 6, 6, 3), {2: 1, 7: 1, 5: 1, 17: 1}, trains=True)


class Block(nn.Module):
    """A residual block."""

    @nn.compact
    def __call__(self, h, _):
        return h + nn.Dense(11)(nn.gelu(nn.Dense(13)(nn.LayerNorm()(h)))), None


class Scanned(nn.Module):
    """Five blocks in one scan, each computed again for the derivative."""

    @nn.compact
    def __call__(self, x):
        blocks = nn.scan(nn.remat(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=5)
        h, _ = blocks()(nn.Dense(11)(x), None)
        return nn.Dense(3)(h)


@register
def linen_scan_of_remat() -> Foreign:
    return _foreign(Scanned(), (5, 4), {11: 1, 13: 1})


class Attention(nn.Module):
    """Tokens, attention, and the table of tokens as head."""

    @nn.compact
    def __call__(self, x):
        table = nn.Embed(19, 12)
        h = table(x)
        y = nn.LayerNorm()(h)
        h = h + nn.MultiHeadDotProductAttention(num_heads=3, qkv_features=21)(y, y)
        return table.attend(nn.LayerNorm()(h).mean(1))


@register
def linen_attention() -> Foreign:
    return _foreign(Attention(), (3, 6), {12: 1, 3: 1, 7: 2}, vocabulary=19, pinned=(("Embed_0/embedding", 0),))


class Recurrent(nn.Module):
    """An LSTM by `nn.RNN`."""

    @nn.compact
    def __call__(self, x):
        cell = nn.OptimizedLSTMCell(11, param_dtype=x.dtype)
        return nn.Dense(3)(nn.RNN(cell)(x)[:, -1])


@register
def linen_lstm() -> Foreign:
    return _foreign(Recurrent(), (4, 6, 5), {11: 1})


class Bilinear(nn.Module):
    """Weight normalisation (with epsilon), a convolution in one dimension, and PReLU."""

    @nn.compact
    def __call__(self, x):
        h = nn.PReLU()(nn.Conv(11, (3,))(x))
        h = nn.WeightNorm(nn.Dense(13))(h)
        return nn.Dense(3)(nn.relu(h).mean(1))


@register
def linen_weight_norm() -> Foreign:
    return _foreign(Bilinear(), (4, 6, 5), {11: 1, 13: 1})
