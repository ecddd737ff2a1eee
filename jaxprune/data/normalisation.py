"""Normalisation of inputs, on the device for images of bytes."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprune.types import Array

_BLOCK = 1 << 22  # values converted at a time, 32 MB of them


@dataclass(frozen=True)
class Normalise:
    """Function that normalises inputs: (x - shift) / scale.

    Shift and scale are moments of the training split. Whole numbers become float32; floats keep their precision, so
    that a gradient with respect to them is possible. Equal ones are equal as arguments of a compiled function.

    Attributes:
      shift: The mean of each channel.
      scale: The standard deviation of each channel, 1 for a channel that never changes.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, x: Array) -> Array:
        """[B, H, W, channels] of any type -> the same shape, float."""
        x = jnp.asarray(x)
        x = x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)
        return (x - np.asarray(self.shift, np.float32)) / np.asarray(self.scale, np.float32)


def as_they_are(x: Array) -> Array:
    """Return inputs unchanged, for those that need no normalisation here."""
    return x


def image_sums(images: np.ndarray) -> np.ndarray:
    """Sum values and their squares over the pixels of each image.

    Exact, so that moments do not depend on the order in which images are read. Converts a few images at a time.

    Args:
      images: [N, H, W, channels] uint8.

    Returns:
      [N, 2, channels] int64.
    """
    n, height, width, channels = images.shape
    sums = np.empty((n, 2, channels), np.int64)
    step = max(1, _BLOCK // max(1, height * width * channels))
    for i in range(0, n, step):
        # Over rows first, whole ones: the last axis alone is too short to be summed fast.
        values = images[i : i + step].reshape(-1, height, width * channels).astype(np.float64)
        sums[i : i + step, 0] = values.sum(1).reshape(-1, width, channels).sum(1)
        np.square(values, out=values)
        sums[i : i + step, 1] = values.sum(1).reshape(-1, width, channels).sum(1)
    return sums


def normalise_with(sums: np.ndarray, pixels: int) -> Normalise:
    """Compute the normalisation of images from their sums.

    It gives them mean 0 and deviation 1 in every channel.

    Args:
      sums: [N, 2, channels], of `image_sums`; an image that is to count twice is there twice.
      pixels: Pixels of an image.
    """
    total, squares = (sums.sum(0, dtype=np.int64)).astype(np.float64)
    count = len(sums) * pixels
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return Normalise(_floats(mean), _floats(np.where(deviation > 0, deviation, 1)))


def centred(rows: np.ndarray) -> np.ndarray:
    """Centre rows [N, F] on the median of each column, as float32.

    The difference is taken in float64: seconds since 1970 have steps of 128 as float32. Columns are not scaled, unless
    they would leave the range of float32. NaN stays NaN, and infinite values stay infinite.
    """
    if rows.dtype.kind == "b" or (rows.dtype.kind == "f" and rows.dtype.itemsize <= 4):
        return rows.astype(np.float32)
    wide = rows.astype(np.float64)
    finite = np.where(np.isfinite(wide), wide, np.nan)
    present = ~np.isnan(finite).all(0)
    middle, size = np.zeros(wide.shape[1]), np.zeros(wide.shape[1])
    middle[present] = np.nanmedian(finite[:, present], axis=0)
    size[present] = np.nanmax(np.abs(finite[:, present] / 2 - middle[present] / 2), axis=0)
    scale = np.where((size > 1e30) | ((size < 1e-30) & (size > 0)), size, 1)
    return (wide / scale - middle / scale).astype(np.float32)


def is_image_bytes(x: Any) -> bool:
    """Return True for images of bytes.

    They are normalised on the device, all others on the host.
    """
    return x.dtype == np.uint8 and len(x.shape) == 4


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values.astype(np.float32))
