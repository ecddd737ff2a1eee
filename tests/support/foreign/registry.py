"""Small networks that jaxprune has never seen, by name, with the couplings that they have by hand.

No bias, scale or moment is 0 or 1 by accident, most widths of a network differ, and some are equal by accident (two
unrelated widths, a width and the batch), so that a linking by size would be wrong.
"""

import functools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxprune.networks import Network, as_network
from jaxprune.trees import leaf_path
from jaxprune.types import Array, Params, Stats

NETWORKS: dict[str, Callable[[], "Foreign"]] = {}


@dataclass(frozen=True)
class Foreign:
    """A network and what is to be found in it.

    Attributes:
      name: In `NETWORKS`.
      network: The network.
      params: Its parameters, float32.
      stats: Its statistics.
      x: Inputs [B, ...].
      couplings: Size of a coupling -> how many there are.
      pinned: (path, axis) of parameters of which nothing can be cut, those that are worth a look.
      trains: Whether training mode differs from evaluation mode.
      differentiable: Whether it has a derivative in reverse mode.
    """

    name: str
    network: Network
    params: Params
    stats: Stats
    x: Array
    couplings: Mapping[int, int]
    pinned: tuple[tuple[str, int], ...] = ()
    trains: bool = False
    differentiable: bool = True
    notes: str = field(default="", repr=False)


def register(build: Callable[[], Foreign]) -> Callable[[], Foreign]:
    """Register a function that builds a network, called once."""
    assert build.__name__ not in NETWORKS
    NETWORKS[build.__name__] = functools.cache(build)
    return NETWORKS[build.__name__]


def plain(
    *, shapes: Any, x: tuple[int, ...], couplings: Mapping[int, int], vocabulary: int | None = None, **options: Any
) -> Callable[[Callable[[Params, Array], Array]], Callable[[Params, Array], Array]]:
    """Register a function `apply(params, x)`.

    Args:
      shapes: The tree of parameters with shapes for arrays.
      x: The shape of the inputs.
      couplings: As in `Foreign`.
      vocabulary: Inputs are integers below it, in place of normal numbers.
      **options: Others of `Foreign`.
    """

    def decorate(apply: Callable[[Params, Array], Array]) -> Callable[[Params, Array], Array]:
        name = apply.__name__

        def build() -> Foreign:
            params = randomised(shapes, name)
            inputs = made_inputs(name, x, vocabulary)
            return Foreign(name, as_network(apply), params, (), inputs, couplings, **options)

        build.__name__ = name
        register(build)
        return apply

    return decorate


def made_inputs(name: str, shape: tuple[int, ...], vocabulary: int | None = None) -> np.ndarray:
    """Normal numbers, or integers below `vocabulary`."""
    rng = np.random.default_rng(zlib.crc32(f"{name} x".encode()))
    if vocabulary is None:
        return rng.normal(size=shape).astype(np.float32)
    return rng.integers(0, vocabulary, shape, np.int32)


def randomised(tree: Any, seed: str) -> Any:
    """Random values for arrays (or shapes of arrays) of a tree.

    Matrices are scaled by their inputs; vectors are between 0.3 and 1.2 in size, variances positive.
    """

    def draw(path: tuple[Any, ...], leaf: Any) -> Any:
        name, shape = leaf_path(path), leaf if isinstance(leaf, tuple) else np.shape(leaf)
        dtype = getattr(leaf, "dtype", np.dtype(np.float32))
        if not np.issubdtype(dtype, np.floating):
            return leaf
        rng = np.random.default_rng(zlib.crc32(f"{seed} {name}".encode()))
        if name.split("/")[-1] in ("var", "running_var"):
            return rng.uniform(0.4, 1.6, shape).astype(np.float32)
        if len(shape) < 2:
            return (rng.uniform(0.3, 1.2, shape) * rng.choice([-1, 1], shape)).astype(np.float32)
        return (rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[:-1])))).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, tree, is_leaf=is_shape)


def is_shape(leaf: Any) -> bool:
    """Whether it is the shape of an array."""
    return isinstance(leaf, tuple) and bool(leaf) and all(isinstance(n, int) for n in leaf)


def affine(features_in: int, features: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a kernel and a bias."""
    return {"kernel": (features_in, features), "bias": (features,)}


def norm(features: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a scale and a bias."""
    return {"scale": (features,), "bias": (features,)}


def dense(layer: Params, x: Array) -> Array:
    """[..., features_in] -> [..., features]."""
    return x @ layer["kernel"] + layer["bias"]
