"""Parameters, non-zeros and bytes on disk of a network."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.types import Array, Masks, Params, PyTree, Stats


class Sizes(NamedTuple):
    """The size of one network.

    Attributes:
      parameters: Numbers in the arrays of parameters.
      nonzeros: Those of them that are not 0.
      bytes: Of parameters and statistics in a file, each array packed as `packed_bytes` says.
    """

    parameters: int
    nonzeros: int
    bytes: int


def sizes_of(params: Params, stats: Stats = ()) -> Sizes:
    """Count the parameters, non-zeros and packed bytes of a network.

    Args:
      params: Of one network; pruned weights are 0.
      stats: What evaluation needs beside them, such as BatchNorm's moments; it counts in bytes alone.

    Returns:
      The sizes.

    Example:
      >>> import numpy as np
      >>> from jaxprune import costs
      >>> costs.sizes_of({"kernel": np.eye(16, dtype=np.float32), "bias": np.ones(16, np.float32)})
      Sizes(parameters=272, nonzeros=32, bytes=160)
    """
    leaves = [_numbers(leaf) for leaf in jax.tree.leaves(params)]
    return Sizes(
        parameters=sum(leaf.size for leaf in leaves),
        nonzeros=sum(int(np.count_nonzero(leaf)) for leaf in leaves),
        bytes=packed_bytes((params, stats)),
    )


def packed_bytes(arrays: PyTree, masks: Masks | None = None) -> int:
    """The bytes of arrays, each in the smaller of two forms.

    Dense: every number in its own type. Packed: a bit for each number, eight in a byte, which says whether it is kept,
    and the kept ones in their own type. It is what the arrays of `export.save_packed` take; names, shapes and the
    header of a file are not counted.

    Args:
      arrays: Any pytree of arrays.
      masks: Bools of the same structure, True = kept; None where every 0 is pruned.

    Returns:
      Bytes.
    """
    leaves = [_numbers(leaf) for leaf in jax.tree.leaves(arrays)]
    kept = [leaf != 0 for leaf in leaves] if masks is None else [np.asarray(mask) for mask in jax.tree.leaves(masks)]
    return sum(_packed(leaf, int(np.count_nonzero(mask))) for leaf, mask in zip(leaves, kept, strict=True))


def dense_bytes(arrays: PyTree) -> int:
    """The bytes of arrays with every number in its own type."""
    return sum(_numbers(leaf).nbytes for leaf in jax.tree.leaves(arrays))


def _packed(leaf: np.ndarray, kept: int) -> int:
    return min(leaf.nbytes, -(-leaf.size // 8) + kept * leaf.itemsize)


def _numbers(leaf: Array | Any) -> np.ndarray:
    """An array on this machine; keys of random numbers as their words."""
    if jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)
