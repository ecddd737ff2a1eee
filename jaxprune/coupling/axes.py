"""Axes of arrays in terms of the couplings that lie on them.

What the analysis found, as plain values: an axis is whole, the channels of a coupling, parts one after the other, or
factors that a reshape joined.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprune.types import Array

Counts = Mapping[str, Any]  # coupling -> channels kept; couplings that are not in it are kept whole
Keep = Mapping[str, Array]  # coupling -> [size] bool, True = kept; likewise


@dataclass(frozen=True)
class Whole:
    """An axis that cannot be cut."""

    size: int


@dataclass(frozen=True)
class Channels:
    """The channels of a coupling."""

    name: str
    size: int


@dataclass(frozen=True)
class Joined:
    """Parts that lie one after the other."""

    parts: "tuple[Axis, ...]"

    @property
    def size(self) -> int:
        """The length of the axis."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Crossed:
    """Factors of an axis, the slowest first."""

    parts: "tuple[Axis, ...]"

    @property
    def size(self) -> int:
        """The length of the axis."""
        return math.prod(part.size for part in self.parts)


Axis = Whole | Channels | Joined | Crossed


def names_on(axis: Axis) -> list[str]:
    """The couplings on an axis, each once, in order."""
    if isinstance(axis, Channels):
        return [axis.name]
    parts = () if isinstance(axis, Whole) else axis.parts
    return list(dict.fromkeys(name for part in parts for name in names_on(part)))


def size_of(axis: Axis, counts: Counts) -> Any:
    """The length of an axis after a cut, maybe traced."""
    if isinstance(axis, Whole):
        return axis.size
    if isinstance(axis, Channels):
        return counts.get(axis.name, axis.size)
    sizes = [size_of(part, counts) for part in axis.parts]
    if isinstance(axis, Joined):
        return sum(sizes[1:], start=sizes[0])
    return math.prod(sizes)


def kept_along(axis: Axis, keep: Keep) -> Array:
    """The positions of an axis that are kept, [size] bool."""
    if isinstance(axis, Whole):
        return np.ones(axis.size, bool)
    if isinstance(axis, Channels):
        kept = keep.get(axis.name)
        return np.ones(axis.size, bool) if kept is None else kept
    vectors = [kept_along(part, keep) for part in axis.parts]
    plain = all(isinstance(vector, np.ndarray) for vector in vectors)
    if isinstance(axis, Joined):
        return np.concatenate(vectors) if plain else jnp.concatenate(vectors)
    result = vectors[0]
    for vector in vectors[1:]:
        result = (result[:, None] & vector[None, :]).reshape(-1)
    return result


def taken_along(axis: Axis, kept: Keep) -> Array:
    """The indices of an axis that are kept.

    Args:
      axis: The axis.
      kept: Coupling -> [K] int, the channels kept.

    Returns:
      [K'] int, in the order of the smaller array.
    """
    if isinstance(axis, Whole):
        return np.arange(axis.size)
    if isinstance(axis, Channels):
        indices = kept.get(axis.name)
        return np.arange(axis.size) if indices is None else indices
    parts = [(part, taken_along(part, kept)) for part in axis.parts]
    if isinstance(axis, Joined):
        offsets = np.cumsum([0, *(part.size for part, _ in parts)])
        shifted = [indices + int(offset) for (_, indices), offset in zip(parts, offsets, strict=False)]
        return np.concatenate(shifted) if _plain(shifted) else jnp.concatenate(shifted)
    result = parts[0][1]
    for part, indices in parts[1:]:
        result = (result[:, None] * part.size + indices[None, :]).reshape(-1)
    return result


def positions_on(axis: Axis, name: str) -> list[np.ndarray]:
    """Where the channels of a coupling lie on an axis.

    Returns:
      For each time that the coupling lies on the axis: [size, k] int.
    """
    if isinstance(axis, Channels):
        return [np.arange(axis.size)[:, None]] if axis.name == name else []
    if isinstance(axis, Whole):
        return []
    result = []
    for i, part in enumerate(axis.parts):
        for positions in positions_on(part, name):
            if isinstance(axis, Joined):
                result.append(positions + sum(before.size for before in axis.parts[:i]))
            else:
                outer = math.prod(before.size for before in axis.parts[:i])
                inner = math.prod(after.size for after in axis.parts[i + 1 :])
                first = (np.arange(outer)[:, None] * part.size + positions[:, None, :]) * inner  # [size, outer, k]
                result.append((first[..., None] + np.arange(inner)).reshape(len(positions), -1))
    return result


def _plain(arrays: list[Array]) -> bool:
    return all(isinstance(array, np.ndarray) for array in arrays)
