"""Training and evaluation on data that does not fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprune import auditing, sharding, training
from jaxprune.auditing import GroupMetrics
from jaxprune.auditing.example_outcomes import outcomes_of_checked
from jaxprune.batches import check_batch, check_classification
from jaxprune.data.streaming import BLOCK_BYTES, THREADS, Part, blocks, steps_in_block, training_blocks
from jaxprune.data.training_rows import IndexedBatch
from jaxprune.errors import UserError
from jaxprune.examples import chunk_size_for
from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.states import check_key, typed_key
from jaxprune.types import Apply, Array, Augment, Batch, ExampleLoss, Logs, Params, Step, TrainState

__all__ = ["blocks", "evaluate", "fit", "logits", "steps_in_block"]


def fit(
    step: Step,
    state: TrainState,
    data: Batch | IndexedBatch,
    *,
    key: jax.Array,
    epochs: int,
    batch_size: int,
    start: int = 0,
    on_block: Callable[[int, TrainState, Logs], None] | None = None,
    mesh: Mesh | None = None,
    augment: Augment | None = None,
    block_bytes: int = BLOCK_BYTES,
    threads: int = THREADS,
) -> tuple[TrainState, Logs]:
    """Train on inputs that stay on disk, as `training.fit` does.

    The batches are the same, and so are the parameters. Worker threads read and decode inputs while the device computes
    on blocks of several steps, each one `lax.scan` in one compiled program; at most two programs are compiled. Every
    method of retraining streams. A block never crosses the end of an epoch: an epoch has ended where `done %
    training.num_steps(data, batch_size)` is 0 in `on_block`.

    Args:
      step: `(state, batch) -> (state, logs)`.
      state: The state to begin with; the caller's arrays are left intact.
      data: [N] examples whose `x` gives numpy inputs when it is indexed by numbers [n], the rest being in memory: a
        split of `data.load(..., stream=True)`, a memory map, or a `data.indexed_batch` of such examples, the held-out
        ones of which are read in the same way.
      key: One key; or R keys for R replicas, each of which reads an order of its own.
      epochs: The number of epochs to end with.
      batch_size: B; the last batch of an epoch is padded with weight 0.
      start: Steps done already, counted over epochs; any number, also within an epoch or a block.
      on_block: Called after each block with `(steps done, state, logs of the block)`, the steps counted over epochs.
        The state is donated to the next block, so copy what is to be kept.
      mesh: The devices of the state, from `sharding.make_mesh`; each host reads only the rows that its devices need.
      augment: As for `training.fit`.
      block_bytes: Bytes of inputs in a block, at most, held-out ones included. Memory holds three blocks.
      threads: Threads that read.

    Returns:
      The state and the logs, numpy arrays [steps, ...], or [R, steps, ...] for replicas.

    Raises:
      TrainingDiverged: As `training.fit`, for a block.
      UserError: grain is not installed, the data is of another type, the mesh lacks an axis, or as `training.fit`.
    """
    if not isinstance(data, Batch | IndexedBatch):
        raise UserError(f"data: a {type(data).__name__} cannot be streamed; give a Batch, or an IndexedBatch")
    check_key(key)
    key, data = typed_key(key), check_batch(data)
    if mesh is None:
        state, key = training.placed_alike((state, key))
    state = jax.tree.map(jnp.copy, state)
    length, steps = steps_in_block(data, batch_size, key.size, block_bytes), training.num_steps(data, batch_size)
    layout = _Layout(mesh, key.ndim == 1, key.size, batch_size)
    stretches = list(_stretches(start, epochs * steps, steps, length))
    read = training_blocks(
        data, sharding.on_host(key), stretches, batch_size=batch_size, part=layout.part, threads=threads
    )
    return _run(step, state, key, read, stretches, steps, layout, augment, on_block)


def _run(
    step: Step,
    state: TrainState,
    key: jax.Array,
    read: Iterator[Batch | IndexedBatch],
    stretches: Sequence[tuple[int, int]],
    steps: int,
    layout: "_Layout",
    augment: Augment | None,
    on_block: Callable[[int, TrainState, Logs], None] | None,
) -> tuple[TrainState, Logs]:
    """Run every block; the next one is read while the device computes."""
    collected: list[Logs] = []

    def end(first: int, stop: int, logs: Logs) -> None:
        """Check and report a block.

        Called when the next block is ready, for it waits for the device.
        """
        logs = sharding.fetch(logs)
        training.check_finite(training.logged_losses(state, logs), first_step=first)
        collected.append(logs)
        if on_block is not None:
            on_block(stop, state, logs)

    pending = None
    for first, stop in stretches:
        block = layout.place(next(read))
        if pending is not None:
            end(*pending)
        epoch, at = divmod(first, steps)
        state, logs = _block(
            step, state, block, key, jnp.int32(epoch), jnp.int32(at),
            replicated=layout.replicated, sharding=layout.of_batch, augment=augment,
        )  # fmt: skip
        pending = (first, stop, logs)
    if pending is not None:
        end(*pending)
    joined: Logs = {
        name: np.concatenate([logs[name] for logs in collected], layout.axis) for name in (collected or [{}])[0]
    }
    return state, joined


def evaluate(
    apply: Apply,
    params: Params,
    data: Batch,
    *,
    num_groups: int,
    loss: ExampleLoss = cross_entropy,
    chunk_size: int | None = None,
    block_bytes: int = BLOCK_BYTES,
    threads: int = THREADS,
) -> GroupMetrics:
    """Evaluate inputs that stay on disk, as `auditing.evaluate` does.

    They are read once, in blocks.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      data: [N] examples, as for `fit`.
      num_groups: G.
      loss: Per-example loss.
      chunk_size: Examples evaluated at a time; None for as many as a byte budget allows.
      block_bytes: Bytes of inputs read at a time.
      threads: Threads that read.

    Returns:
      The metrics.

    Raises:
      UserError: As `auditing.evaluate` does.
    """
    size = chunk_size_for(data.x, chunk_size)
    data = check_classification(apply, params, data, num_groups=num_groups, size=size)
    total = np.zeros((num_groups, 3))
    for block in blocks(data, block_bytes=block_bytes, threads=threads):
        results = outcomes_of_checked(apply, params, block, loss=loss, chunk_size=chunk_size)
        total += np.asarray(auditing.evaluation_sums(results, block, num_groups), np.float64)
    return auditing.metrics_of(total)


def logits(
    apply: Apply,
    params: Params,
    data: Batch,
    *,
    chunk_size: int | None = None,
    block_bytes: int = BLOCK_BYTES,
    threads: int = THREADS,
) -> np.ndarray:
    """Compute the outputs for examples that stay on disk.

    The chunks are those that are computed on in memory, so that the outputs do not depend on the blocks.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      data: [N] examples, as for `fit`.
      chunk_size: Examples evaluated at a time; None for as many as a byte budget allows.
      block_bytes: Bytes of inputs read at a time, or one chunk where that is more.
      threads: Threads that read.

    Returns:
      [N, C] outputs, in memory.

    Raises:
      UserError: As `auditing.evaluate` does.
    """
    size = chunk_size_for(data.x, chunk_size)
    data = check_classification(apply, params, data, size=size)
    n = len(data.y)
    length = -(-n // -(-n // size))  # of a chunk, as `data.batching.chunked` cuts them
    parts = [
        np.asarray(_logits(as_pytree(apply), params, block.x, length))
        for block in blocks(data, block_bytes=block_bytes, threads=threads, multiple=length)
    ]
    return np.concatenate(parts)[:n]


@partial(jax.jit, static_argnums=3)
def _logits(apply: Apply, params: Params, x: Array, length: int) -> Array:
    outputs = jax.lax.map(partial(apply, params), x.reshape(-1, length, *x.shape[1:]))
    return outputs.reshape(-1, outputs.shape[-1])


def _stretches(start: int, stop: int, steps: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield first and last step (exclusive) of every block.

    A block begins with each epoch, wherever the start is.
    """
    while start < stop:
        at = start % steps
        end = start - at + min(steps, (at // length + 1) * length)
        yield start, end
        start = end


class _Layout:
    """Placement of blocks on devices, and the rows this host reads."""

    def __init__(self, mesh: Mesh | None, replicated: bool, replicas: int, batch_size: int):
        sharding.check_mesh(mesh, replicated=replicated)
        self.of_batch, self.part = sharding.batch_sharding(mesh), Part()
        self.of_block: NamedSharding | None = None
        self.replicated, self.axis = replicated, int(replicated)  # the axis of the steps
        if mesh is None:
            return
        # A batch that the devices cannot share evenly is given to all of them whole, and split by the program.
        split = "data" if batch_size % mesh.shape["data"] == 0 else None
        self.of_block = NamedSharding(mesh, PartitionSpec(*(["replica"] if replicated else []), None, split))
        self.shape = (*([replicas] if replicated else []), batch_size)
        of_step = NamedSharding(mesh, PartitionSpec(*(["replica"] if replicated else []), split))
        needed = [index for index in of_step.addressable_devices_indices_map(self.shape).values() if index is not None]
        hull = [_hull([index[axis] for index in needed], size) for axis, size in enumerate(self.shape)]
        self.part = Part(*hull) if replicated else Part(examples=hull[0])

    def place(self, block: Batch | IndexedBatch) -> Batch | IndexedBatch:
        """Put a block on the devices.

        The block is [R, K, B, ...] or [K, B, ...]; each host gives the part that it read.
        """
        if self.of_block is None:
            return jax.device_put(block)
        return jax.tree.map(partial(self._spread, self.of_block), block)

    def _spread(self, of_block: NamedSharding, local: np.ndarray) -> Array:
        offsets = [self.part.examples.start] if self.axis == 0 else [self.part.replicas.start, self.part.examples.start]
        offsets.insert(self.axis, 0)
        shape = [*self.shape]
        shape.insert(self.axis, local.shape[self.axis])

        def piece(index: Any) -> np.ndarray:
            ends = [s.indices(size)[:2] for s, size in zip(index, shape, strict=False)]
            return local[tuple(slice(low - o, high - o) for (low, high), o in zip(ends, offsets, strict=True))]

        return jax.make_array_from_callback((*shape, *local.shape[len(shape) :]), of_block, piece)


def _hull(slices: list[slice], size: int) -> slice:
    """The smallest slice that covers all slices of an axis."""
    ends = [s.indices(size)[:2] for s in slices]
    return slice(min(a for a, _ in ends), max(b for _, b in ends))


@partial(jax.jit, static_argnames=("step", "replicated", "sharding", "augment"), donate_argnames=("state",))
def _block(
    step: Step,
    state: TrainState,
    block: Batch | IndexedBatch,
    key: jax.Array,
    epoch: Array,
    first: Array,
    *,
    replicated: bool,
    sharding: Any,
    augment: Augment | None,
) -> tuple[TrainState, Logs]:
    def one(state: TrainState, key: jax.Array, block: Any) -> tuple[TrainState, Logs]:
        epoch_key = jax.random.fold_in(key, epoch)

        def body(state: TrainState, place: tuple[Array, Any]) -> tuple[TrainState, Logs]:
            at, batch = place
            if sharding is not None:
                batch = jax.lax.with_sharding_constraint(batch, sharding)
            return step(state, training.augmented(augment, epoch_key, at, batch))

        return jax.lax.scan(body, state, (first + jnp.arange(block.y.shape[0]), block))

    if not replicated:
        return one(state, key, block)
    mapped = jax.vmap(one) if sharding is None else jax.vmap(one, spmd_axis_name="replica")
    return mapped(state, key, block)
