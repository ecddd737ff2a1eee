"""Batches of data on the device, cut inside the compiled program."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.data.record_images import RecordImages
from jaxprune.data.training_rows import IndexedBatch
from jaxprune.states import check_key
from jaxprune.types import Array, Batch


def epoch_indices(key: jax.Array, num_examples: int, batch_size: int) -> tuple[Array, Array]:
    """Shuffle an epoch.

    Every example occurs once; the last batch is filled up with repeats (of the first batch) of weight 0.

    Args:
      key: Decides the order.
      num_examples: N.
      batch_size: B.

    Returns:
      Indices [T, B] int32 and weights [T, B] float32, T = ceil(N / B); the weights sum to N.

    Raises:
      UserError: The key is none.
    """
    check_key(key)
    steps = -(-num_examples // batch_size)
    # One sort of random keys: jax.random.permutation sorts twice, which took a quarter of an epoch of the main job on
    # a CPU. Equal keys (about n² / 2³³ pairs) keep their order, which does not matter for shuffling.
    order = jnp.argsort(jax.random.bits(key, (num_examples,)))
    padding = steps * batch_size - num_examples
    index = jnp.resize(order, (steps * batch_size,))
    weight = jnp.concatenate([jnp.ones(num_examples), jnp.zeros(padding)])
    return index.reshape(steps, batch_size), weight.reshape(steps, batch_size)


def take(data: Batch | IndexedBatch, index: Array, weight: Array) -> Batch:
    """Gather the examples at some rows of a data set.

    Args:
      data: [N] examples; `IndexedBatch` bring theirs along.
      index: [B] rows in [0, N).
      weight: [B], multiplied with the weights of the examples; 0 marks padding.

    Returns:
      The batch.
    """
    if isinstance(data, IndexedBatch):
        return data.take(index, weight)  # pyright: ignore[reportReturnType] (it has all that a Batch has)
    return Batch(data.x[index], data.y[index], data.group[index], data.weight[index] * weight)


def select(data: Batch, rows: np.ndarray) -> Batch:
    """Select rows of a split; images on disk stay there.

    Args:
      data: [N] examples; arrays, or `RecordImages` for inputs.
      rows: Numbers [n] in [0, N), or [N] bool.

    Returns:
      The examples, [n] of them.
    """
    x = data.x.select(rows) if isinstance(data.x, RecordImages) else np.asarray(data.x)[rows]
    rest = (np.asarray(array)[rows] for array in data[1:])
    return Batch(x, *rest)  # pyright: ignore[reportArgumentType] (RecordImages stand in the place of x)
