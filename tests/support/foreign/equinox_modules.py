"""Networks in Equinox, whose norms are computed in two passes and can therefore not be cut through."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from foreign.registry import Foreign, made_inputs, randomised, register
from jaxprune.models import from_callable


def _foreign(name: str, module: Any, shape: tuple[int, ...], couplings: dict[int, int], **options: Any) -> Foreign:
    network, params, stats = from_callable(module)
    return Foreign(name, network, randomised(params, name), stats, made_inputs(name, shape), couplings, **options)


@register
def equinox_perceptron() -> Foreign:
    eqx = pytest.importorskip("equinox")
    module = eqx.nn.MLP(5, 3, 11, 2, key=jax.random.key(0))
    return _foreign("equinox_perceptron", module, (7, 5), {11: 2})


@register
def equinox_images() -> Foreign:
    """Convolution, GroupNorm, attention over pixels, LayerNorm."""
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 5)

    class Images(eqx.Module):
        conv: Any
        group_norm: Any
        attention: Any
        layer_norm: Any
        up: Any
        head: Any

        def __call__(self, x: jax.Array) -> jax.Array:
            h = jax.nn.relu(self.group_norm(self.conv(x)))
            h = h.reshape(12, -1).T
            h = h + self.attention(h, h, h)
            h = jax.vmap(self.layer_norm)(h).mean(0)
            return self.head(jax.nn.gelu(self.up(h)))

    module = Images(
        conv=eqx.nn.Conv2d(3, 12, 3, padding=1, key=keys[0]),
        group_norm=eqx.nn.GroupNorm(3, 12),
        attention=eqx.nn.MultiheadAttention(2, 12, qk_size=5, vo_size=7, use_output_bias=True, key=keys[1]),
        layer_norm=eqx.nn.LayerNorm(12),
        up=eqx.nn.Linear(12, 13, key=keys[2]),
        head=eqx.nn.Linear(13, 3, key=keys[3]),
    )
    pinned = (("conv/weight", 0), ("attention/output_proj/weight", 0), ("up/weight", 1))
    return _foreign("equinox_images", module, (2, 3, 4, 4), {2: 1, 5: 1, 7: 1, 13: 1}, pinned=pinned)


@register
def equinox_root_mean_square_norm() -> Foreign:
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 3)
    layers = [
        eqx.nn.Linear(5, 11, key=keys[0]),
        eqx.nn.RMSNorm(11),
        eqx.nn.Lambda(jnp.tanh),
        eqx.nn.Linear(11, 11, key=keys[1]),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.Linear(11, 3, key=keys[2]),
    ]
    return _foreign("equinox_root_mean_square_norm", eqx.nn.Sequential(layers), (11, 5), {11: 2})
