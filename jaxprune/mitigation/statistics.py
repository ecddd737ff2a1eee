"""What a constraint is measured on: the batch, a buffer of past examples, or held-out examples."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.batches import check_classification
from jaxprune.data.batching import chunked
from jaxprune.data.companions import Companions
from jaxprune.errors import UserError
from jaxprune.groups import group_mean, group_sum
from jaxprune.losses import cross_entropy, weighted_mean
from jaxprune.mitigation.constraints import GroupStatistics
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params, as_pytree


class DenseReference(NamedTuple):
    """The dense network, as far as constraints and distillation need it; arrays, of one replica.

    Attributes:
      loss: [G] its mean loss on each group of the training split.
      accuracy: [G] its accuracy.
      logits: [N, C] its outputs for every training example, or None: constraints then compare with its group means.
      held_out: [M, C] its outputs for every held-out example, or None.
    """

    loss: Array
    accuracy: Array
    logits: Array | None = None
    held_out: Array | None = None


def dense_reference(
    apply: Apply,
    params: Params,
    data: Batch,
    *,
    num_groups: int,
    held_out: Batch | None = None,
    chunk_size: int = 4096,
) -> DenseReference:
    """Evaluates the dense network once on every example that training will see.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The dense network's parameters.
      data: [N] training examples.
      num_groups: G.
      held_out: [M] examples that the violations are to be measured on, if any.
      chunk_size: Examples at a time; a smaller one takes less memory.

    Returns:
      The reference; 0 for a group without examples.

    Raises:
      UserError: As `auditing.evaluate` does, of the data or of the held-out examples.
    """
    data = check_classification(apply, params, data, num_groups=num_groups, size=chunk_size)
    if held_out is not None:
        held_out = check_classification(apply, params, held_out, num_groups=num_groups, size=chunk_size)
    logits = logits_of(apply, params, data, chunk_size)
    known = (jax.jit(cross_entropy)(logits, data.y), (jnp.argmax(logits, -1) == data.y).astype(logits.dtype))
    loss, accuracy = (group_mean(value, data.group, num_groups, data.weight)[0] for value in known)
    outputs = None if held_out is None else logits_of(apply, params, held_out, chunk_size)
    return DenseReference(loss, accuracy, logits, outputs)


def logits_of(apply: Apply, params: Params, data: Batch, chunk_size: int) -> Array:
    """[N, C] outputs for every example, computed in chunks."""
    return _logits_of(as_pytree(apply), params, data.x, chunk_size)


@partial(jax.jit, static_argnums=3)
def _logits_of(apply: Apply, params: Params, x: Array, chunk_size: int) -> Array:
    n = x.shape[0]
    blank = jnp.zeros(n)
    chunks = chunked(Batch(x, blank, blank, blank), chunk_size)
    outputs = jax.lax.map(lambda part: apply(params, part), chunks.x)
    return outputs.reshape(-1, outputs.shape[-1])[:n]


class Examples(NamedTuple):
    """What is known of each example of a batch, [B] each; the dense network's are 0 where it is not known."""

    loss: Array
    right: Array
    dense_loss: Array
    dense_right: Array
    group: Array
    weight: Array


def examine(
    logits: Array,
    batch: Batch | Companions,
    loss: ExampleLoss,
    dense: DenseReference | None,
    dense_logits: Array | None,
) -> Examples:
    """Loss and rightness of every example, beside the dense network's.

    Args:
      logits: [B, C].
      batch: The examples.
      loss: Per-example loss.
      dense: The dense network, or None.
      dense_logits: [B, C] its outputs for these examples, or None: its group means stand in for them.
    """
    right = (jnp.argmax(logits, -1) == batch.y).astype(jnp.float32)
    values = loss(logits, batch.y)
    if dense_logits is not None:
        of_dense = loss(dense_logits, batch.y)
        dense_right = (jnp.argmax(dense_logits, -1) == batch.y).astype(jnp.float32)
    elif dense is not None:
        of_dense, dense_right = dense.loss[batch.group], dense.accuracy[batch.group]
    else:
        of_dense = dense_right = jnp.zeros_like(values)
    return Examples(values, right, of_dense, dense_right, batch.group, batch.weight)


def statistics_of(examples: Examples, num_groups: int) -> GroupStatistics:
    """Group means of one batch; each is a sum of its own, so that what a constraint does not use costs nothing."""
    found = []
    for values in (examples.loss, examples.right, examples.dense_loss, examples.dense_right):
        means, count = group_mean(values, examples.group, num_groups, examples.weight)
        found.append((means, weighted_mean(values, examples.weight), count))
    (loss, overall, count), (right, all_right, _), (dense, all_dense, _), (sure, all_sure, _) = found
    return GroupStatistics(loss, overall, count, right, all_right, dense, all_dense, sure, all_sure)


class Memory(NamedTuple):
    """A ring buffer for each group: what its last m examples were like when they were seen.

    Attributes:
      values: [G, m, 4] loss, rightness, and the dense network's.
      weight: [G, m], 0 where nothing has been stored.
      next: [G] int32, the slot that is written next.
      seen: [G] total weight of all examples met so far: the shares of the population.
    """

    values: Array
    weight: Array
    next: Array
    seen: Array


def empty_memory(num_groups: int, size: int) -> Memory:
    """A buffer that nothing has been stored in.

    Raises:
      UserError: The size is below 1.
    """
    if size < 1:
        raise UserError(f"memory: {size} is below 1; give the number of examples of each group that are remembered")
    return Memory(
        jnp.zeros((num_groups, size, 4), jnp.float32),
        jnp.zeros((num_groups, size), jnp.float32),
        jnp.zeros(num_groups, jnp.int32),
        jnp.zeros(num_groups, jnp.float32),
    )


def remember(memory: Memory, examples: Examples) -> Memory:
    """Stores a batch, in its order; the oldest examples of each group make room. Examples of weight 0 are left out."""
    num_groups, size = memory.weight.shape
    real = examples.weight > 0
    # Sorted by group, an example's rank within its group is its distance from the first one of the group.
    key = jnp.where(real, examples.group, num_groups)
    order = jnp.argsort(key, stable=True)
    count = group_sum(real.astype(jnp.int32), examples.group, num_groups)
    first = jnp.cumsum(count) - count
    group = key[order]
    safe = jnp.minimum(group, num_groups - 1)
    rank = jnp.arange(len(order), dtype=jnp.int32) - first[safe]
    slot = (memory.next[safe] + rank) % size
    # Of more than m examples of a group the last m are kept: two writes to one slot would have no defined order.
    slot = jnp.where((group < num_groups) & (rank >= count[safe] - size), slot, size)
    columns = (examples.loss, examples.right, examples.dense_loss, examples.dense_right)
    values = jnp.stack([jnp.broadcast_to(c, real.shape).astype(jnp.float32) for c in columns], -1)[order]
    return Memory(
        memory.values.at[safe, slot].set(values, mode="drop"),
        memory.weight.at[safe, slot].set(examples.weight[order].astype(jnp.float32), mode="drop"),
        ((memory.next + count) % size).astype(jnp.int32),
        memory.seen + group_sum(examples.weight.astype(jnp.float32), examples.group, num_groups),
    )


def recall(memory: Memory) -> GroupStatistics:
    """Statistics of what is remembered; overall figures weigh each group by its share of all examples seen.

    A plain mean over the groups, or over the slots, would give a small group the weight of a large one. Groups that
    have not been met are left out.
    """
    count = jnp.sum(memory.weight, 1)
    means = jnp.sum(memory.values * memory.weight[..., None], 1) / jnp.where(count > 0, count, 1)[:, None]
    share = jnp.where(count > 0, memory.seen, 0)
    overall = share @ means / jnp.maximum(jnp.sum(share), jnp.finfo(jnp.float32).tiny)
    loss, right, dense, sure = means.T
    return GroupStatistics(loss, overall[0], count, right, overall[1], dense, overall[2], sure, overall[3])


def dense_logits_of(batch: Any, dense: DenseReference | None) -> tuple[Array | None, Array | None]:
    """The dense network's outputs for a batch and for its held-out examples, where both are known.

    Raises:
      UserError: They are known, but the batch does not tell which examples it holds.
    """
    if dense is None:
        return None, None
    held_out = batch.held_out if isinstance(batch, Companions) else None
    found = None
    if dense.logits is not None:
        if not isinstance(batch, Companions):
            raise UserError(
                "the dense network's outputs are held by example, but the batch does not say which examples it has; "
                "train on data.companions(examples)"
            )
        found = dense.logits[batch.row]
    beside = dense.held_out[held_out.row] if held_out is not None and dense.held_out is not None else None
    return found, beside
