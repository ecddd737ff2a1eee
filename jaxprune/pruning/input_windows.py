"""The windows of a convolution as rows of a matrix."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.types import Array


class Windows(NamedTuple):
    """The windows of a convolution of any number of spatial axes.

    Attributes:
      shape: Of the window.
      strides: Pixels from one window to the next, along each axis.
      padding: (before, after) along each axis.
      input_dilation: Pixels from one pixel of the input to the next, 1 for none.
      dilation: Pixels from one pixel of the window to the next.
      groups: K, groups of channels.
    """

    shape: Sequence[int]
    strides: Sequence[int]
    padding: Sequence[tuple[int, int]]
    input_dilation: Sequence[int]
    dilation: Sequence[int]
    groups: int

    def rows(self, x: Array) -> Array:
        """[B, ..., channels] -> [K, B windows, d], d = window x channels / K."""
        x = self._padded(x)
        n = len(self.shape)
        for axis, places in enumerate(self._places(x.shape)):
            # Behind the axes that are done: [B, windows, window, windows, window, ..., channels].
            x = jnp.take(x, jnp.asarray(places), axis=1 + 2 * axis)
        b, *sizes, channels = x.shape
        windows, within = range(1, 1 + 2 * n, 2), range(2, 2 + 2 * n, 2)
        x = jnp.transpose(
            x.reshape(b, *sizes, self.groups, channels // self.groups), (1 + 2 * n, 0, *windows, *within, 2 + 2 * n)
        )
        return x.reshape(self.groups, math.prod(x.shape[1 : 2 + n]), -1)

    def squares(self, x: Array) -> Array:
        """[B, ..., channels] -> [K, d], sums of the squares of the rows.

        No window is formed: pixel k of the windows meets each pixel of an axis a known number of times.
        """
        x = jnp.sum(self._padded(x) ** 2, 0)
        for axis, places in enumerate(self._places((1, *x.shape))):
            counts = np.stack([np.bincount(column, minlength=x.shape[axis]) for column in places.T])
            met = jnp.tensordot(jnp.asarray(counts, x.dtype), x, (1, axis), precision=jax.lax.Precision.HIGHEST)
            x = jnp.moveaxis(met, 0, axis)
        *window, channels = x.shape
        return jnp.moveaxis(x.reshape(*window, self.groups, channels // self.groups), -2, 0).reshape(self.groups, -1)

    def _padded(self, x: Array) -> Array:
        edges = [(low, high, step - 1) for (low, high), step in zip(self.padding, self.input_dilation, strict=True)]
        return jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *edges, (0, 0, 0)])

    def _places(self, shape: Sequence[int]) -> list[np.ndarray]:
        """The pixels [windows, window] of the padded input, per axis."""
        result = []
        for length, size, stride, step in zip(shape[1:-1], self.shape, self.strides, self.dilation, strict=True):
            count = max(0, (length - (size - 1) * step - 1) // stride + 1)
            result.append(np.arange(count)[:, None] * stride + np.arange(size)[None] * step)
        return result
