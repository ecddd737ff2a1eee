"""Winograd's filtering F(2x2, 3x3), for images of even size.

A tile of 2x2 results needs 16 products for each pair of channels in place of 36: the 4x4 pixels that it rests on and
the 3x3 kernel are transformed, multiplied, and transformed back (Lavin and Gray, "Fast algorithms for convolutional
neural networks", CVPR 2016, equations 8 and 12). All transforms add and halve, so float32 stays accurate to a
few units in the last place of the largest term.
"""

import jax.numpy as jnp
from jax import Array, lax

_BYTES = 2**24  # of transformed tiles at a time, measured: less is not spread over cores, more leaves the cache


def pays(features_in: int, features: int) -> bool:
    """Return True where it is faster than XLA's convolution on a CPU.

    By measurement, for this number of channels.
    """
    return min(features_in, features) >= 32 and features_in * features <= 512 * 512


def convolution(x: Array, kernel: Array) -> Array:
    """Convolve [B, H, W, D] with [3, 3, D, E], with zero padding."""
    return _filtered(x, _kernel_tiles(kernel))


def image_transpose(y: Array, kernel: Array) -> Array:
    """The transpose of `convolution` in its image, [B, H, W, D].

    It is the convolution by the kernel turned by half a circle, whose tiles are those of the kernel in another order.
    """
    tiles = _kernel_tiles(kernel)
    order = (3, 1, 2, 0)
    return _filtered(y, [tiles[4 * i + j].T for i in order for j in order])


def _filtered(x: Array, transformed: list[Array]) -> Array:
    features = transformed[0].shape[-1]

    def one(chunk: Array) -> Array:
        return _results([tile @ k for tile, k in zip(_image_tiles(chunk), transformed, strict=True)], chunk.shape)

    (chunks,) = _chunked(features, x)
    results = one(chunks[0]) if len(chunks) == 1 else lax.map(one, chunks)
    return results.reshape(-1, *x.shape[1:3], features)[: len(x)]


def kernel_transpose(x: Array, y: Array) -> Array:
    """The transpose of `convolution` in its kernel, [3, 3, D, E]."""

    def add(total: Array, chunk: tuple[Array, ...]) -> tuple[Array, None]:
        pairs = zip(_image_tiles(chunk[0]), _result_tiles(chunk[1]), strict=True)
        return total + jnp.stack([image.T @ result for image, result in pairs]), None

    zero = jnp.zeros((16, x.shape[-1], y.shape[-1]), x.dtype)
    total, _ = lax.scan(add, zero, _chunked(y.shape[-1], x, y))
    rows = _kernel_back(list(total.reshape(4, 4, *zero.shape[1:])))
    return jnp.stack([jnp.stack(_kernel_back(list(row))) for row in rows])


def _chunked(features: int, *arrays: Array) -> tuple[Array, ...]:
    """Cut arrays [B, ...] into [chunks, b, ...], padded with zeros.

    The transformed tiles of a chunk take at most about `_BYTES`.
    """
    b, height, width, features_in = arrays[0].shape
    each = 4 * height * width * (features_in + features) * arrays[0].dtype.itemsize
    chunks = -(-b // max(1, _BYTES // each))
    size = -(-b // chunks)

    def cut(a: Array) -> Array:
        filled = jnp.pad(a, [(0, chunks * size - b)] + [(0, 0)] * (a.ndim - 1)) if chunks * size > b else a
        return filled.reshape(chunks, size, *a.shape[1:])

    return tuple(cut(a) for a in arrays)


def _image_tiles(x: Array) -> list[Array]:
    """Bᵀd B of every 4x4 patch d, 16 arrays [b H/2 W/2, D].

    As one array they would be computed by a single core.
    """
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    rows = _differences([padded[:, i : i + height : 2] for i in range(4)])
    tiles = [tile for row in rows for tile in _differences([row[:, :, j : j + width : 2] for j in range(4)])]
    return [tile.reshape(-1, x.shape[-1]) for tile in tiles]


def _differences(d: list[Array]) -> list[Array]:
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _kernel_tiles(kernel: Array) -> list[Array]:
    """G k G', [3, 3, D, E] -> 16 of [D, E]."""
    return [tile for row in _kernel_forth(list(kernel)) for tile in _kernel_forth(list(row))]


def _kernel_forth(k: list[Array]) -> list[Array]:
    return [k[0], (k[0] + k[1] + k[2]) / 2, (k[0] - k[1] + k[2]) / 2, k[2]]


def _kernel_back(u: list[Array]) -> list[Array]:
    """The transpose of `_kernel_forth`."""
    half = (u[1] + u[2]) / 2
    return [u[0] + half, (u[1] - u[2]) / 2, half + u[3]]


def _results(products: list[Array], shape: tuple[int, ...]) -> Array:
    """Aᵀm A of every tile m, [b, H, W, E] from 16 products."""
    b, height, width, _ = shape
    m = [product.reshape(b, height // 2, width // 2, -1) for product in products]
    columns = [_sums(m[j::4]) for j in range(4)]
    rows = [jnp.stack(_sums([column[i] for column in columns]), 3) for i in range(2)]
    return jnp.stack(rows, 2).reshape(b, height, width, -1)


def _sums(m: list[Array]) -> list[Array]:
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _result_tiles(y: Array) -> list[Array]:
    """The transpose of `_results`, 16 arrays [b H/2 W/2, E]."""
    b, height, width, features = y.shape
    pairs = y.reshape(b, height // 2, 2, width // 2, 2, features)
    rows = _spread(pairs[:, :, 0], pairs[:, :, 1])
    tiles = [tile for row in rows for tile in _spread(row[:, :, :, 0], row[:, :, :, 1])]
    return [tile.reshape(-1, features) for tile in tiles]


def _spread(first: Array, second: Array) -> list[Array]:
    """The transpose of `_sums`."""
    return [first, first + second, first - second, -second]
