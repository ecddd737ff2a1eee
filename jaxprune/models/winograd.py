"""Winograd's minimal filtering F(2x2, 3x3) for convolutions that keep the size of an even image.

A tile of 2x2 results needs 16 products for each pair of channels in place of 36: the 4x4 pixels that it rests on and
the 3x3 kernel are transformed, multiplied, and transformed back (Lavin and Gray, "Fast algorithms for convolutional
neural networks", CVPR 2016, equations 8 and 12). All transforms add and halve, so float32 stays accurate to a
few units in the last place of the largest term.
"""

import jax.numpy as jnp
from jax import lax

from jaxprune.types import Array

# Of transformed tiles at a time, measured: less is not spread over cores, more leaves the cache.
_BYTES, _KERNEL_BYTES = 2**25, 2**23


def pays(features_in: int, features: int) -> bool:
    """Whether it was measured to be faster than a plain convolution, on a CPU, with so many channels."""
    return min(features_in, features) >= 32 and features_in * features <= 256 * 256


def convolution(x: Array, kernel: Array) -> Array:
    """[B, H, W, D], [3, 3, D, E] -> [B, H, W, E], zeros around the image."""
    transformed = _kernel_tiles(kernel)
    features = kernel.shape[-1]

    def one(chunk: Array) -> Array:
        return _results(jnp.matmul(_image_tiles(chunk), transformed), chunk.shape, features)

    (chunks,) = _chunked(_BYTES, features, x)
    results = one(chunks[0]) if len(chunks) == 1 else lax.map(one, chunks)
    return results.reshape(-1, *x.shape[1:3], features)[: len(x)]


def kernel_transpose(x: Array, y: Array) -> Array:
    """[B, H, W, D], [B, H, W, E] -> [3, 3, D, E]: the transpose of `convolution` in its kernel."""

    def add(total: Array, chunk: tuple[Array, ...]) -> tuple[Array, None]:
        return total + jnp.einsum("tmd,tme->tde", _image_tiles(chunk[0]), _result_tiles(chunk[1])), None

    zero = jnp.zeros((16, x.shape[-1], y.shape[-1]), x.dtype)
    total, _ = lax.scan(add, zero, _chunked(_KERNEL_BYTES, y.shape[-1], x, y))
    rows = _kernel_back(list(total.reshape(4, 4, *zero.shape[1:])))
    return jnp.stack([jnp.stack(_kernel_back(list(row))) for row in rows])


def _chunked(most: int, features: int, *arrays: Array) -> tuple[Array, ...]:
    """Arrays [B, ...] as [chunks, b, ...], filled up with zeros, so that the tiles of a chunk take `most` bytes."""
    b, height, width, features_in = arrays[0].shape
    each = 4 * height * width * (features_in + features) * arrays[0].dtype.itemsize
    chunks = -(-b // max(1, most // each))
    size = -(-b // chunks)

    def cut(a: Array) -> Array:
        filled = jnp.pad(a, [(0, chunks * size - b)] + [(0, 0)] * (a.ndim - 1)) if chunks * size > b else a
        return filled.reshape(chunks, size, *a.shape[1:])

    return tuple(cut(a) for a in arrays)


def _image_tiles(x: Array) -> Array:
    """B'd B of every 4x4 patch, [b, H, W, D] -> [16, b H/2 W/2, D]."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    rows = _differences([padded[:, i : i + height : 2] for i in range(4)])
    tiles = [tile for row in rows for tile in _differences([row[:, :, j : j + width : 2] for j in range(4)])]
    return jnp.stack(tiles).reshape(16, -1, x.shape[-1])


def _differences(d: list[Array]) -> list[Array]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _kernel_tiles(kernel: Array) -> Array:
    """G k G', [3, 3, D, E] -> [16, D, E]."""
    return jnp.stack([tile for row in _kernel_forth(list(kernel)) for tile in _kernel_forth(list(row))])


def _kernel_forth(k: list[Array]) -> list[Array]:
    return [k[0], (k[0] + k[1] + k[2]) / 2, (k[0] - k[1] + k[2]) / 2, k[2]]


def _kernel_back(u: list[Array]) -> list[Array]:
    """The transpose of `_kernel_forth`."""
    half = (u[1] + u[2]) / 2
    return [u[0] + half, (u[1] - u[2]) / 2, half + u[3]]


def _results(products: Array, shape: tuple[int, ...], features: int) -> Array:
    """A'm A of every tile, [16, b H/2 W/2, E] -> [b, H, W, E]."""
    b, height, width, _ = shape
    m = products.reshape(4, 4, b, height // 2, width // 2, features)
    rows = [jnp.stack(_sums(list(row)), 3) for row in _sums(list(m))]
    return jnp.stack(rows, 2).reshape(b, height, width, features)


def _sums(m: list[Array]) -> list[Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _result_tiles(y: Array) -> Array:
    """The transpose of `_results`, [b, H, W, E] -> [16, b H/2 W/2, E]."""
    b, height, width, features = y.shape
    pairs = y.reshape(b, height // 2, 2, width // 2, 2, features)
    rows = _spread(pairs[:, :, 0], pairs[:, :, 1])
    tiles = [tile for row in rows for tile in _spread(row[:, :, :, 0], row[:, :, :, 1])]
    return jnp.stack(tiles).reshape(16, -1, features)


def _spread(first: Array, second: Array) -> list[Array]:
    """The transpose of `_sums`."""
    return [first, first + second, first - second, -second]
