"""Computations on many examples in chunks, which bound the memory."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.types import Array

CHUNK_BYTES = 16 << 20  # of float32 inputs, for a forward pass

Examples = TypeVar("Examples")  # any pytree of arrays [N, ...], such as a Batch


def chunk_size_for(x: Array, chunk_size: int | None, *, replicas: int = 1, budget: int = CHUNK_BYTES) -> int:
    """The number of examples to compute on at a time.

    The memory of a computation on an input is many times that of the input, in proportion to it; so the budget is for
    the inputs, as float32. No more than 4096 examples: beyond that, larger products are no faster.

    Args:
      x: [N, ...] inputs.
      chunk_size: The number to use; None for as many as the budget allows.
      replicas: R, the networks that are computed at once.
      budget: Bytes for all replicas together.

    Returns:
      The number, 1 or more.
    """
    if chunk_size is not None:
        return chunk_size
    try:
        size = math.prod(np.shape(x)[1:])
    except ValueError:  # a list of unlike lists, which the checks of the examples refuse
        size = 1
    return max(1, min(4096, budget // (4 * max(1, size) * replicas)))


def chunked(examples: Examples, size: int) -> Examples:
    """All examples in order, in equally long chunks of at most `size`.

    The last chunk is padded with zeros, so that the padding of a `Batch` has weight 0.

    Args:
      examples: A pytree of arrays [N, ...].
      size: The largest number of examples in a chunk.

    Returns:
      The same structure, arrays [T, B, ...].
    """
    n = jnp.shape(jax.tree.leaves(examples)[0])[0]
    steps = max(1, -(-n // size))
    length = -(-n // steps)

    def cut(a: Array) -> Array:
        padding = [(0, steps * length - n)] + [(0, 0)] * (a.ndim - 1)
        return jnp.pad(a, padding).reshape(steps, length, *a.shape[1:])

    return jax.tree.map(lambda a: cut(jnp.asarray(a)), examples)


def map_examples(function: Callable[[Examples], Any], examples: Examples, chunk_size: int) -> Any:
    """Apply a function to all examples in chunks; join the results.

    Args:
      function: Pytree of arrays [B, ...] -> pytree of arrays [B, ...], one row for each example.
      examples: A pytree of arrays [N, ...], such as a `Batch` or its inputs alone.
      chunk_size: The largest number of examples in a chunk.

    Returns:
      The results of `function`, arrays [N, ...] in the order of the examples.
    """
    n = jnp.shape(jax.tree.leaves(examples)[0])[0]
    results = jax.lax.map(function, chunked(examples, chunk_size))
    return jax.tree.map(lambda a: a.reshape(a.shape[0] * a.shape[1], *a.shape[2:])[:n], results)
