"""Quadrature along the straight line between two networks."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.types import Array, PyTree

LEAST_ERROR = 1e-5  # nats: below it, the rounding of float32 losses is all that is left
MOST_PARTS = 16  # times as many segments as at first, at most


class Points(NamedTuple):
    """Points of a quadrature on the line, each [K].

    Attributes:
      times: In [0, 1].
      weights: Of the quadrature; those of all parts sum to 1.
    """

    times: Array
    weights: Array


def path_points(nodes: int, segments: int, dtype: np.dtype, *, part: int = 0, parts: int = 1) -> Points:
    """Gauss-Legendre points on the segments of one part of [0, 1].

    Args:
      nodes: Points in each segment.
      segments: Segments in each part.
      dtype: Of the points.
      part: Which part, from 0.
      parts: How many parts there are.

    Returns:
      `nodes` * `segments` points, whatever the part.
    """
    places, weights = np.polynomial.legendre.leggauss(nodes)
    starts = np.arange(part * segments, (part + 1) * segments)[:, None]
    times = ((places + 1) / 2 + starts).ravel() / (segments * parts)
    weights = np.tile(weights / 2 / (segments * parts), segments)
    return Points(jnp.asarray(times, dtype), jnp.asarray(weights, dtype))


def refined(
    integrate: Callable[[Points], PyTree],
    *,
    nodes: int,
    segments: int,
    dtype: np.dtype,
    tolerance: float,
    most_parts: int = MOST_PARTS,
) -> PyTree:
    """Double the parts of an integral until its error is small enough.

    Args:
      integrate: The integral over the given points, an `Attribution` with any leading axes.
      nodes: Points in each segment.
      segments: Segments in each part.
      dtype: Of the points.
      tolerance: Of each group's error, relative to its R(a); errors below 1e-5 nats are accepted.
      most_parts: The largest number of parts.

    Returns:
      The `Attribution` of the last try.
    """
    parts = 1
    attribution = integrate(path_points(nodes, segments, dtype))
    while 2 * parts <= most_parts and _is_far(attribution.observed, attribution.quadrature_error, tolerance):
        parts *= 2
        each = [integrate(path_points(nodes, segments, dtype, part=i, parts=parts)) for i in range(parts)]
        attribution = attribution._replace(path=jnp.sum(jnp.stack([one.path for one in each]), 0))
    return attribution


def _is_far(observed: Array, error: Array, tolerance: float) -> bool:
    """Return True if a group's finite error is above the tolerance."""
    observed, error = jax.device_get((observed, error))
    return bool(np.any(np.abs(error) > np.maximum(tolerance * np.abs(observed), LEAST_ERROR), where=np.isfinite(error)))
