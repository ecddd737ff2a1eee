"""Batches of images that stay on disk, read ahead by worker threads, in the order that training in memory takes."""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxprune.data.batching import epoch_indices
from jaxprune.errors import UserError
from jaxprune.types import Batch, typed_key

THREADS = 8  # that read and decode; grain hands out what they read in order, whichever is ready first
BLOCK_BYTES = 64 << 20  # inputs that are handed to the device at a time


class Part(NamedTuple):
    """What of each batch [R, B] (or [B], for one replica) this host reads.

    Attributes:
      replicas: A stretch of R.
      examples: A stretch of B.
    """

    replicas: slice = slice(None)
    examples: slice = slice(None)


def steps_in_block(data: Batch, batch_size: int, replicas: int = 1, block_bytes: int = BLOCK_BYTES) -> int:
    """K, the steps whose inputs go to the device at a time: as many as fit, and all blocks of nearly one length.

    Args:
      data: [N] examples.
      batch_size: B.
      replicas: R.
      block_bytes: Bytes of inputs, at most; one step is always taken.
    """
    steps = -(-len(data.y) // batch_size)
    fitting = max(1, block_bytes // (replicas * batch_size * _bytes_of_one(data)))
    return -(-steps // -(-steps // fitting))


def training_steps(
    data: Batch,
    key: jax.Array,
    *,
    batch_size: int,
    start: int,
    stop: int,
    part: Part | None = None,
    ahead: int = 16,
    threads: int = THREADS,
) -> Iterator[Batch]:
    """The batches of steps `start` to `stop`, the very ones that `training.fit` takes from data in memory.

    Steps are counted over epochs. Worker threads of grain read ahead while the caller does something else.

    Args:
      data: [N] examples whose `x` gives numpy inputs when it is indexed by numbers [n]: a `RecordImages`, a memory map.
      key: One key, or R of them, as for `training.fit`.
      batch_size: B.
      start: The first step.
      stop: The first step that is not wanted any more.
      part: What of each batch is read; None for all.
      ahead: Steps that are read ahead.
      threads: Threads that read.

    Yields:
      A batch of numpy arrays [B, ...], or [R, B, ...] for R keys; of it, the part that was asked for.

    Raises:
      UserError: grain is not installed.
    """
    yield from _in_order(_TrainingSteps(data, typed_key(key), batch_size, start, stop, part or Part()), ahead, threads)


def num_blocks(data: Batch, block_bytes: int = BLOCK_BYTES) -> int:
    """How many `blocks` there are."""
    return -(-len(data.y) // max(1, block_bytes // _bytes_of_one(data)))


def blocks(data: Batch, *, block_bytes: int = BLOCK_BYTES, threads: int = THREADS) -> Iterator[Batch]:
    """All examples once, in order, as numpy blocks of one length, the last one padded with weight 0.

    Args:
      data: [N] examples, as for `training_steps`.
      block_bytes: Bytes of inputs in a block, at most; a block has one example at least.
      threads: Threads that read.

    Yields:
      Batches [n, ...]; two more than the one in use are held in memory.
    """
    length = -(-len(data.y) // num_blocks(data, block_bytes))
    yield from _in_order(_Blocks(data, length), 2, threads)


class _TrainingSteps:
    """Step -> batch, as grain wants to index it; a step's place in its epoch is all that it depends on."""

    def __init__(self, data: Batch, key: jax.Array, batch_size: int, start: int, stop: int, part: Part):
        self.data, self.key, self.batch_size, self.part = data, key, batch_size, part
        self.start, self.stop = start, stop
        self.steps = -(-len(data.y) // batch_size)
        self.orders: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __getitem__(self, number: int) -> Batch:
        epoch, at = divmod(self.start + number, self.steps)
        index, weight = self._order(epoch)
        here = (at, self.part.examples) if self.key.ndim == 0 else (self.part.replicas, at, self.part.examples)
        batch = _read(self.data, index[here])
        return batch._replace(weight=batch.weight * weight[here])

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices and weights [T, B] or [R, T, B] of an epoch; those of the last two are kept."""
        with self.lock:
            if epoch not in self.orders:
                order = _epoch_order(self.key, epoch, num_examples=len(self.data.y), batch_size=self.batch_size)
                self.orders = {e: o for e, o in self.orders.items() if e >= epoch - 1}
                self.orders[epoch] = jax.device_get(order)
            return self.orders[epoch]


@partial(jax.jit, static_argnames=("num_examples", "batch_size"))
def _epoch_order(key: jax.Array, epoch: int, *, num_examples: int, batch_size: int) -> Any:
    def one(key: jax.Array) -> Any:
        return epoch_indices(jax.random.fold_in(key, epoch), num_examples, batch_size)

    return jax.vmap(one)(key) if key.ndim else one(key)


class _Blocks:
    """Number -> block."""

    def __init__(self, data: Batch, length: int):
        self.data, self.length = data, length

    def __len__(self) -> int:
        return -(-len(self.data.y) // self.length)

    def __getitem__(self, number: int) -> Batch:
        index = np.arange(number * self.length, (number + 1) * self.length)
        inside = index < len(self.data.y)
        batch = _read(self.data, np.where(inside, index, index[0]))  # padding repeats an example
        return batch._replace(weight=np.where(inside, batch.weight, 0))


def _read(data: Batch, index: np.ndarray) -> Batch:
    """The examples at an index of any shape, [...]."""
    x = np.asarray(data.x[index.ravel()])
    small = (np.asarray(a)[index] for a in (data.y, data.group, data.weight))
    return Batch(x.reshape(*index.shape, *x.shape[1:]), *small)


def _in_order(source: Any, ahead: int, threads: int) -> Iterator[Batch]:
    try:
        import grain
    except ImportError:
        raise UserError("data.stream: grain is missing; install it with: pip install 'jaxprune[stream]'") from None
    options = grain.ReadOptions(num_threads=min(threads, max(1, ahead)), prefetch_buffer_size=max(1, ahead))
    yield from grain.MapDataset.source(source).to_iter_dataset(options)


def _bytes_of_one(data: Batch) -> int:
    return int(np.prod(data.x.shape[1:])) * np.dtype(data.x.dtype).itemsize
