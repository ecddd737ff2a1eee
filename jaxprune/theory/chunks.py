"""Examples cut into chunks of one group each, so that a pass over all groups costs one pass over the data."""

from typing import NamedTuple

import numpy as np

from jaxprune.types import Array, Batch


class Chunks(NamedTuple):
    """Every example in a chunk of its own group.

    Attributes:
      x: [K, B, ...] inputs, K chunks.
      y: [K, B] labels.
      weight: [K, B] weights, 0 for padding.
      group: [K] the group of each chunk.
      size: [G] total weight of each group.
    """

    x: Array
    y: Array
    weight: Array
    group: Array
    size: Array


def by_group(batch: Batch, num_groups: int, chunk_size: int = 512) -> Chunks:
    """Cuts examples into chunks of one group each, on the host.

    Args:
      batch: [N] examples; those of weight 0 are left out.
      num_groups: G.
      chunk_size: B; the last chunk of each group is padded with weight 0. The memory of a pass grows with it.

    Returns:
      The chunks, numpy arrays. A group without examples has none.
    """
    x, y, group, weight = (np.asarray(a) for a in batch)
    chunk_size = max(1, min(chunk_size, len(y)))
    parts: list[tuple[int, np.ndarray]] = []
    for a in range(num_groups):
        members = np.flatnonzero((group == a) & (weight != 0))
        parts += [(a, members[i : i + chunk_size]) for i in range(0, len(members), chunk_size)]
    index = np.zeros((len(parts), chunk_size), int)
    kept = np.zeros((len(parts), chunk_size), weight.dtype)
    for row, (_, members) in enumerate(parts):
        index[row, : len(members)] = members
        kept[row, : len(members)] = weight[members]
    size = np.bincount(group, weights=weight, minlength=num_groups).astype(weight.dtype)
    return Chunks(x[index], y[index], kept, np.array([a for a, _ in parts], np.int32), size)
