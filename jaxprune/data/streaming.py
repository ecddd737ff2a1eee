"""Batches of examples on disk, in the order of training."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxprune.data.batching import epoch_indices
from jaxprune.data.training_rows import GroupRows, IndexedBatch, rows_of_batch
from jaxprune.errors import UserError
from jaxprune.states import typed_key
from jaxprune.types import Batch

# Threads that read and decode: one for each core, but not fewer than 8, which share a busy machine of 2 cores better
# than 2 do and wait for a disk together; 16 is grain's own choice.
THREADS = min(16, max(8, os.cpu_count() or 1))
BLOCK_BYTES = 64 << 20  # inputs that are handed to the device at a time
_PIECES_A_THREAD = 4  # of a block, so that all threads have work until its end
_ALIGNED = 64  # bytes; on a CPU, jax takes an array that lies so without copying it
_RowsOfBlock = Callable[[int], tuple[np.ndarray, np.ndarray]]  # block number -> rows and weights, [...] each


class Part(NamedTuple):
    """Part of each batch that this host reads.

    A batch is [R, B], or [B] for one replica.

    Attributes:
      replicas: A stretch of R.
      examples: A stretch of B.
    """

    replicas: slice = slice(None)
    examples: slice = slice(None)


def steps_in_block(
    data: Batch | IndexedBatch, batch_size: int, replicas: int = 1, block_bytes: int = BLOCK_BYTES
) -> int:
    """Compute K, the steps whose inputs go to the device together.

    As many are taken as fit, and all blocks are of nearly one length.

    Args:
      data: [N] examples; held-out examples count as well.
      batch_size: B.
      replicas: R.
      block_bytes: Bytes of inputs, at most; one step is always taken.
    """
    steps = -(-len(data.y) // batch_size)
    held_out = data.held_out if isinstance(data, IndexedBatch) else None
    size = _bytes_of_one(data) + (0 if held_out is None else _bytes_of_one(held_out))
    fitting = max(1, block_bytes // (replicas * batch_size * size))
    return -(-steps // -(-steps // fitting))


def training_blocks(
    data: Batch | IndexedBatch,
    key: jax.Array,
    stretches: Sequence[tuple[int, int]],
    *,
    batch_size: int,
    part: Part | None = None,
    threads: int = THREADS,
) -> Iterator[Batch | IndexedBatch]:
    """Yield the batches of training, block by block.

    They are the very ones that `training.fit` takes from data in memory. Steps are counted over epochs. Worker threads
    of grain read up to one block ahead while the caller does something else, so that with the one in use and the one
    handed out three are held.

    Args:
      data: [N] examples whose `x` gives numpy inputs when it is indexed by numbers [n]: a `RecordImages`, a memory map,
        an array. An `IndexedBatch` brings rows, held-out examples (read the same way) and balanced sampling.
      key: One key, or R of them, as for `training.fit`.
      stretches: First and last step (exclusive) of each block, which lies inside of an epoch.
      batch_size: B.
      part: The part of each batch that is read; None for all.
      threads: Threads that read; held-out examples take half of them.

    Yields:
      A block of numpy arrays [K, B, ...], or [R, K, B, ...] for R keys; of it, the part that was asked for.

    Raises:
      UserError: grain is not installed.
    """
    part, held_out = part or Part(), None
    order = _Order(data, typed_key(key), batch_size, stretches, part)
    rows = len(range(order.key.size)[part.replicas]) * len(range(batch_size)[part.examples])
    sizes = [(stop - first) * rows for first, stop in stretches]
    if isinstance(data, IndexedBatch):
        held_out, data = data.held_out, data._replace(held_out=None, group_rows=None)
    if held_out is None:
        yield from _in_order(data, order.rows, sizes, threads)
        return
    own = _in_order(data, order.rows, sizes, max(1, threads // 2))
    beside = _in_order(held_out, order.held_out_rows, sizes, max(1, threads // 2))
    for _ in sizes:  # not by names in this frame, as in _in_order
        yield next(own)._replace(held_out=next(beside))


def num_blocks(data: Batch, block_bytes: int = BLOCK_BYTES, *, multiple: int = 1) -> int:
    """Return the number of `blocks`."""
    return -(-len(data.y) // _block_length(data, block_bytes, multiple))


def blocks(
    data: Batch, *, block_bytes: int = BLOCK_BYTES, threads: int = THREADS, multiple: int = 1
) -> Iterator[Batch]:
    """Yield all examples once and in order, in blocks.

    Blocks are of one length, the last one padded with weight 0.

    Args:
      data: [N] examples, as for `training_blocks`.
      block_bytes: Bytes of inputs in a block, at most; a block has `multiple` examples at least.
      threads: Threads that read.
      multiple: A number that the length of a block is a multiple of.

    Yields:
      Batches [n, ...]; two more than the one in use are held in memory.
    """
    n, length = len(data.y), _block_length(data, block_bytes, multiple)

    def rows(number: int) -> tuple[np.ndarray, np.ndarray]:
        index = np.arange(number * length, (number + 1) * length)
        inside = index < n
        return np.where(inside, index, index[0]), inside.astype(np.float32)  # padding repeats an example

    yield from _in_order(data, rows, [length] * -(-n // length), threads)


def _block_length(data: Batch, block_bytes: int, multiple: int) -> int:
    """Compute the examples in a block, all blocks nearly alike."""
    n = len(data.y)
    count = -(-n // max(1, block_bytes // _bytes_of_one(data)))
    return math.ceil(math.ceil(n / count) / multiple) * multiple


class _Order:
    """Rows and weights of each block.

    They depend on a step's place in its epoch alone.
    """

    def __init__(
        self,
        data: Batch | IndexedBatch,
        key: jax.Array,
        batch_size: int,
        stretches: Sequence[tuple[int, int]],
        part: Part,
    ):
        self.key, self.stretches, self.part = key, stretches, part
        self.n, self.batch_size, self.steps = len(data.y), batch_size, -(-len(data.y) // batch_size)
        indexed = isinstance(data, IndexedBatch)
        self.group_rows = jax.device_get(data.group_rows) if indexed else None
        self.num_held_out = len(data.held_out.y) if indexed and data.held_out is not None else None
        self.epochs: dict[int, Any] = {}
        self.lock = threading.Lock()

    def rows(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and weights of the training examples of a block."""
        rows, weight, _ = self._of_block(number)
        return rows, weight

    def held_out_rows(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and weights of the held-out examples.

        The weights are 1: padding of the batch is no padding of these.
        """
        _, weight, rows = self._of_block(number)
        return rows, np.ones_like(weight)

    def _of_block(self, number: int) -> tuple[Any, ...]:
        first, stop = self.stretches[number]
        epoch, at = divmod(first, self.steps)
        here = (slice(at, at + stop - first), self.part.examples)
        here = here if self.key.ndim == 0 else (self.part.replicas, *here)
        return tuple(None if array is None else array[here] for array in self._of_epoch(epoch))

    def _of_epoch(self, epoch: int) -> tuple[Any, ...]:
        """Return rows, weights and held-out rows of an epoch.

        They are [T, B] or [R, T, B]; those of the last two epochs are kept.
        """
        with self.lock:
            if epoch not in self.epochs:
                order = _epoch_order(
                    self.key, epoch, self.group_rows,
                    num_examples=self.n, batch_size=self.batch_size, num_held_out=self.num_held_out,
                )  # fmt: skip
                self.epochs = {e: kept for e, kept in self.epochs.items() if e >= epoch - 1}
                self.epochs[epoch] = jax.device_get(order)
            return self.epochs[epoch]


@partial(jax.jit, static_argnames=("num_examples", "batch_size", "num_held_out"))
def _epoch_order(
    key: jax.Array,
    epoch: int,
    group_rows: GroupRows | None,
    *,
    num_examples: int,
    batch_size: int,
    num_held_out: int | None,
) -> Any:
    def one(key: jax.Array) -> Any:
        index, weight = epoch_indices(jax.random.fold_in(key, epoch), num_examples, batch_size)
        rows, held_out = jax.vmap(lambda batch: rows_of_batch(batch, num_examples, group_rows, num_held_out))(index)
        return rows, weight, held_out

    return jax.vmap(one)(key) if key.ndim else one(key)


class _Pieces:
    """Random access to the inputs of pieces of blocks, for grain.

    Pieces are so small that all threads work on one block.

    Attributes:
      size: Examples of a piece, but for the last of a block.
      starts: The number of the first piece of each block, and of all pieces.
    """

    def __init__(self, x: Any, rows_of: _RowsOfBlock, sizes: Sequence[int], threads: int):
        self.x, self.rows_of, self.lock = x, rows_of, threading.Lock()
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
        """Return rows and weights of a block; a few are kept."""
        with self.lock:
            if number not in self.known:
                self.known = {block: rows for block, rows in self.known.items() if block >= number - 2}
                self.known[number] = self.rows_of(number)
            return self.known[number]


def _in_order(data: Any, rows_of: _RowsOfBlock, sizes: Sequence[int], threads: int) -> Iterator[Any]:
    """Yield blocks, put together from the pieces that threads read.

    At most one block is read ahead.
    """
    try:
        import grain
    except ImportError:
        raise UserError("data.stream: grain is missing; install it with: pip install 'jaxprune[stream]'") from None
    fields = {name: np.asarray(a) for name, a in data._asdict().items() if name != "x" and a is not None}
    source: Any = _Pieces(data.x, rows_of, sizes, threads)
    ahead = max(1, max(sizes, default=1) // source.size)
    options = grain.ReadOptions(num_threads=min(threads, ahead), prefetch_buffer_size=ahead)
    pieces = iter(grain.MapDataset.source(source).to_iter_dataset(options))
    for number in range(len(sizes)):
        # Not by a name in this frame, which would hold the block while the next one is put together.
        yield _put_together(data, fields, source.block(number), pieces)


def _put_together(
    data: Any, fields: dict[str, np.ndarray], block: tuple[np.ndarray, np.ndarray], pieces: Iterator[np.ndarray]
) -> Any:
    """Put a block together: inputs from pieces, other fields by row."""
    rows, weight = block
    x, done = _aligned((rows.size, *data.x.shape[1:]), data.x.dtype), 0
    while done < rows.size:
        piece = next(pieces)
        x[done : done + len(piece)] = piece
        done += len(piece)
    gathered = {name: array[rows] for name, array in fields.items()}
    gathered["weight"] = gathered["weight"] * weight
    return data._replace(x=x.reshape(*rows.shape, *x.shape[1:]), **gathered)


def _aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


def _bytes_of_one(data: Batch | IndexedBatch) -> int:
    return int(np.prod(data.x.shape[1:])) * np.dtype(data.x.dtype).itemsize
