"""Batches of images that stay on disk, read ahead by worker threads, in the order that training in memory takes."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxprune.data.batching import epoch_indices
from jaxprune.errors import UserError
from jaxprune.states import typed_key
from jaxprune.types import Batch

# That read and decode: one for each core, but not fewer than 8, which share a busy machine of 2 cores better than 2 do
# and wait for a disk together; 16 is grain's own choice.
THREADS = min(16, max(8, os.cpu_count() or 1))
BLOCK_BYTES = 64 << 20  # inputs that are handed to the device at a time
_PIECES_A_THREAD = 4  # of a block, so that all threads have work until its end
_ALIGNED = 64  # bytes; on a CPU, jax takes an array that lies so without copying it
_OfBlock = Callable[[int], tuple[np.ndarray, np.ndarray]]  # number -> indices and weights of its examples, [...]


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


def training_blocks(
    data: Batch,
    key: jax.Array,
    stretches: Sequence[tuple[int, int]],
    *,
    batch_size: int,
    part: Part | None = None,
    threads: int = THREADS,
) -> Iterator[Batch]:
    """The batches of stretches of steps, the very ones that `training.fit` takes from data in memory.

    Steps are counted over epochs. Worker threads of grain read up to one block ahead while the caller does something
    else, so that with the one in use and the one handed out three are held.

    Args:
      data: [N] examples whose `x` gives numpy inputs when it is indexed by numbers [n]: a `RecordImages`, a memory map.
      key: One key, or R of them, as for `training.fit`.
      stretches: First and last step (exclusive) of each block, which lies inside of an epoch.
      batch_size: B.
      part: What of each batch is read; None for all.
      threads: Threads that read.

    Yields:
      A block of numpy arrays [K, B, ...], or [R, K, B, ...] for R keys; of it, the part that was asked for.

    Raises:
      UserError: grain is not installed.
    """
    chosen = _Chosen(len(data.y), typed_key(key), batch_size, stretches, part or Part())
    rows = len(range(chosen.key.size)[chosen.part.replicas]) * len(range(batch_size)[chosen.part.examples])
    yield from _in_order(data, chosen.of_block, [(stop - first) * rows for first, stop in stretches], threads)


def num_blocks(data: Batch, block_bytes: int = BLOCK_BYTES) -> int:
    """How many `blocks` there are."""
    return -(-len(data.y) // max(1, block_bytes // _bytes_of_one(data)))


def blocks(data: Batch, *, block_bytes: int = BLOCK_BYTES, threads: int = THREADS) -> Iterator[Batch]:
    """All examples once, in order, as numpy blocks of one length, the last one padded with weight 0.

    Args:
      data: [N] examples, as for `training_blocks`.
      block_bytes: Bytes of inputs in a block, at most; a block has one example at least.
      threads: Threads that read.

    Yields:
      Batches [n, ...]; two more than the one in use are held in memory.
    """
    n, count = len(data.y), num_blocks(data, block_bytes)
    length = -(-n // count)

    def of_block(number: int) -> tuple[np.ndarray, np.ndarray]:
        index = np.arange(number * length, (number + 1) * length)
        inside = index < n
        return np.where(inside, index, index[0]), inside.astype(np.float32)  # padding repeats an example

    yield from _in_order(data, of_block, [length] * count, threads)


class _Chosen:
    """Block -> indices and weights of its examples; a step's place in its epoch is all that they depend on."""

    def __init__(self, n: int, key: jax.Array, batch_size: int, stretches: Sequence[tuple[int, int]], part: Part):
        self.n, self.key, self.batch_size, self.stretches, self.part = n, key, batch_size, stretches, part
        self.steps = -(-n // batch_size)
        self.orders: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def of_block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        first, stop = self.stretches[number]
        epoch, at = divmod(first, self.steps)
        index, weight = self._order(epoch)
        here = (slice(at, at + stop - first), self.part.examples)
        here = here if self.key.ndim == 0 else (self.part.replicas, *here)
        return index[here], weight[here]

    def _order(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices and weights [T, B] or [R, T, B] of an epoch; those of the last two are kept."""
        if epoch not in self.orders:
            order = _epoch_order(self.key, epoch, num_examples=self.n, batch_size=self.batch_size)
            self.orders = {e: o for e, o in self.orders.items() if e >= epoch - 1}
            self.orders[epoch] = jax.device_get(order)
        return self.orders[epoch]


@partial(jax.jit, static_argnames=("num_examples", "batch_size"))
def _epoch_order(key: jax.Array, epoch: int, *, num_examples: int, batch_size: int) -> Any:
    def one(key: jax.Array) -> Any:
        return epoch_indices(jax.random.fold_in(key, epoch), num_examples, batch_size)

    return jax.vmap(one)(key) if key.ndim else one(key)


class _Pieces:
    """Piece -> inputs [n, ...], as grain wants to index them: blocks cut so small that all threads work on one.

    Attributes:
      size: Examples of a piece, but for the last of a block.
      starts: The number of the first piece of each block, and of all pieces.
    """

    def __init__(self, x: Any, of_block: _OfBlock, sizes: Sequence[int], threads: int):
        self.x, self.of_block, self.lock = x, of_block, threading.Lock()
        self.known: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.size = -(-max(sizes, default=1) // (_PIECES_A_THREAD * threads))
        self.starts = np.cumsum([0, *(-(-size // self.size) for size in sizes)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, number: int) -> np.ndarray:
        block = int(np.searchsorted(self.starts, number, "right")) - 1
        at = (number - int(self.starts[block])) * self.size
        return np.asarray(self.x[self.block(block)[0].ravel()[at : at + self.size]])

    def block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Indices and weights of a block; those of a few are kept."""
        with self.lock:
            if number not in self.known:
                self.known = {b: found for b, found in self.known.items() if b >= number - 2}
                self.known[number] = self.of_block(number)
            return self.known[number]


def _in_order(data: Batch, of_block: _OfBlock, sizes: Sequence[int], threads: int) -> Iterator[Batch]:
    """Blocks of these sizes, put together from the pieces that the threads read, at most one block ahead."""
    try:
        import grain
    except ImportError:
        raise UserError("data.stream: grain is missing; install it with: pip install 'jaxprune[stream]'") from None
    source: Any = _Pieces(data.x, of_block, sizes, threads)
    ahead = max(1, max(sizes, default=1) // source.size)
    options = grain.ReadOptions(num_threads=min(threads, ahead), prefetch_buffer_size=ahead)
    pieces = iter(grain.MapDataset.source(source).to_iter_dataset(options))
    for number in range(len(sizes)):
        # Not by a name in this frame, which would hold the block while the next one is put together.
        yield _put_together(data, source.block(number), pieces)


def _put_together(data: Batch, block: tuple[np.ndarray, np.ndarray], pieces: Iterator[np.ndarray]) -> Batch:
    index, weight = block
    x, done = _aligned((index.size, *data.x.shape[1:]), data.x.dtype), 0
    while done < index.size:
        piece = next(pieces)
        x[done : done + len(piece)] = piece
        done += len(piece)
    y, group, own = (np.asarray(a)[index] for a in (data.y, data.group, data.weight))
    return Batch(x.reshape(*index.shape, *x.shape[1:]), y, group, own * weight)


def _aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


def _bytes_of_one(data: Batch) -> int:
    return int(np.prod(data.x.shape[1:])) * np.dtype(data.x.dtype).itemsize
