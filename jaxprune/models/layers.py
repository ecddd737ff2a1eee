"""Layers that are fast inside a compiled loop on every backend."""

import jax.numpy as jnp
from flax import nnx

from jaxprune.types import Array


class Conv(nnx.Module):
    """A convolution with stride 1 and zero padding ("SAME"), as patches times a matrix.

    XLA rewrites convolutions into fast ones only outside of loops on a CPU, and a batched kernel (vmap over
    replicas) becomes a grouped convolution, which is slow everywhere. A matrix product is fast in both.
    """

    def __init__(self, features_in: int, features: int, window: int = 3, *, rngs: nnx.Rngs):
        shape = (window, window, features_in, features)
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(features, jnp.float32))

    def __call__(self, x: Array) -> Array:
        """[B, H, W, features_in] -> [B, H, W, features]."""
        kernel = self.kernel[...]
        window, _, _, features = kernel.shape
        return patches(x, window) @ kernel.reshape(-1, features) + self.bias[...]


def patches(x: Array, window: int) -> Array:
    """The window around each pixel, [B, H, W, D] -> [B, H, W, window * window * D], zeros outside of the image."""
    before, after = (window - 1) // 2, window // 2
    padded = jnp.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    height, width = x.shape[1:3]
    shifted = [padded[:, i : i + height, j : j + width] for i in range(window) for j in range(window)]
    return jnp.concatenate(shifted, axis=-1)


def max_pool(x: Array) -> Array:
    """The maximum of each 2x2 window, [B, H, W, D] -> [B, H // 2, W // 2, D]; an odd last row or column is left out."""
    b, h, w, d = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, d).max((2, 4))
