"""Examples in chunks of one group each.

A computation for all groups then costs one pass over the data.
"""

from typing import NamedTuple

import jax
import numpy as np

from jaxprune.batches import check_batch
from jaxprune.examples import chunk_size_for
from jaxprune.theory.checks import check_examples, check_labels, check_network
from jaxprune.types import Apply, Array, Batch, Params


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


def checked_chunks(apply: Apply, params: Params, batch: Batch | Chunks, num_groups: int) -> Chunks:
    """Chunks of examples, checked against a network.

    Errors name a label by its place in the batch.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      batch: [N] examples, or chunks of them.
      num_groups: G.

    Raises:
      UserError: As `by_group` and `check_network` do.
    """
    if not isinstance(batch, Chunks):
        batch = check_examples(batch, num_groups=num_groups)
        check_labels(apply, params, batch.x, batch.y, batch.weight)
        batch = by_group(batch, num_groups)
    check_network(apply, params, batch)
    return batch


_BYTES = 2 << 20  # of float32 inputs in a chunk: second derivatives hold many times what a forward pass does
# What a chunk costs beside its examples: in examples, or in numbers of their inputs, on a CPU and elsewhere.
_OVERHEAD, _INPUTS = 64, {"cpu": 2**12, "other": 2**14}


def by_group(batch: Batch, num_groups: int, chunk_size: int | None = None, *, replicas: int = 1) -> Chunks:
    """Cut examples into chunks of one group each, on the host.

    Args:
      batch: [N] examples; those of weight 0 are left out.
      num_groups: G.
      chunk_size: B; the last chunk of each group is padded with weight 0, and the memory of a pass grows with B.
        None chooses what pads little in few chunks, up to 512 and to what a byte budget allows.
      replicas: R, the networks that the chunks are for at once, which share the budget.

    Returns:
      The chunks, numpy arrays. A group without examples has none.

    Raises:
      UserError: A group, a label below 0 or a weight is out of range, or lengths differ.
    """
    x, y, group, weight = (np.asarray(a) for a in check_batch(batch, num_groups=num_groups))
    group = np.where(weight != 0, group, 0)  # padding may hold any
    of_group = [np.flatnonzero((group == a) & (weight != 0)) for a in range(num_groups)]
    counts = np.array([len(members) for members in of_group])
    most = min(512, chunk_size_for(x, None, replicas=replicas, budget=_BYTES))
    inputs = _INPUTS["cpu" if jax.default_backend() == "cpu" else "other"]
    overhead = min(_OVERHEAD, inputs / max(1, x[:1].size))
    length = chunk_size or min(range(1, most + 1), key=lambda b: float(np.sum(-(-counts // b) * (b + overhead))))
    parts: list[tuple[int, np.ndarray]] = []
    for a, members in enumerate(of_group):
        parts += [(a, members[i : i + length]) for i in range(0, len(members), length)]
    index = np.zeros((len(parts), length), int)
    kept = np.zeros((len(parts), length), weight.dtype)
    for row, (_, members) in enumerate(parts):
        index[row] = members[0]  # padding repeats a member: an example that is left out may not be finite
        index[row, : len(members)] = members
        kept[row, : len(members)] = weight[members]
    size = np.bincount(group, weights=weight, minlength=num_groups).astype(weight.dtype)
    return Chunks(x[index], y[index], kept, np.array([a for a, _ in parts], np.int32), size)
