"""A buffer of each group's last examples, on which violations are measured."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError
from jaxprune.groups import group_sum
from jaxprune.mitigation.statistics import Examples, GroupStatistics


class Buffer(NamedTuple):
    """A ring buffer of each group's last m examples.

    Attributes:
      values: [G, m, 4] loss, correctness, and the dense network's.
      weight: [G, m], 0 where nothing has been stored.
      next: [G] int32, the slot that is written next.
      seen: [G] total weight of all examples met so far: the shares of the population.
    """

    values: jax.Array
    weight: jax.Array
    next: jax.Array
    seen: jax.Array


def empty_buffer(num_groups: int, size: int) -> Buffer:
    """An empty buffer.

    Raises:
      UserError: The size is below 1.
    """
    if size < 1:
        raise UserError(f"buffer: {size} is below 1; give the number of examples of each group to keep")
    return Buffer(
        jnp.zeros((num_groups, size, 4), jnp.float32),
        jnp.zeros((num_groups, size), jnp.float32),
        jnp.zeros(num_groups, jnp.int32),
        jnp.zeros(num_groups, jnp.float32),
    )


def store(buffer: Buffer, examples: Examples) -> Buffer:
    """Store a batch in order, in place of each group's oldest examples.

    Examples of weight 0 are left out.
    """
    num_groups, size = buffer.weight.shape
    real = examples.weight > 0
    # Sorted by group, an example's rank within its group is its distance from the first one of the group.
    key = jnp.where(real, examples.group, num_groups)
    order = jnp.argsort(key, stable=True)
    count = group_sum(real.astype(jnp.int32), examples.group, num_groups)
    first = jnp.cumsum(count) - count
    group = key[order]
    safe = jnp.minimum(group, num_groups - 1)
    rank = jnp.arange(len(order), dtype=jnp.int32) - first[safe]
    slot = (buffer.next[safe] + rank) % size
    # Of more than m examples of a group the last m are kept: two writes to one slot would have no defined order.
    slot = jnp.where((group < num_groups) & (rank >= count[safe] - size), slot, size)
    columns = (examples.loss, examples.right, examples.dense_loss, examples.dense_right)
    values = jnp.stack([jnp.broadcast_to(c, real.shape).astype(jnp.float32) for c in columns], -1)[order]
    return Buffer(
        buffer.values.at[safe, slot].set(values, mode="drop"),
        buffer.weight.at[safe, slot].set(examples.weight[order].astype(jnp.float32), mode="drop"),
        ((buffer.next + count) % size).astype(jnp.int32),
        buffer.seen + group_sum(examples.weight.astype(jnp.float32), examples.group, num_groups),
    )


def recall(buffer: Buffer) -> GroupStatistics:
    """Statistics of the buffer.

    Overall figures weigh each group by its share of all examples seen.

    A plain mean over the groups, or over the slots, would give a small group the weight of a large one. Groups that
    have not been met are left out.
    """
    count = jnp.sum(buffer.weight, 1)
    means = jnp.sum(buffer.values * buffer.weight[..., None], 1) / jnp.where(count > 0, count, 1)[:, None]
    share = jnp.where(count > 0, buffer.seen, 0)
    overall = share @ means / jnp.maximum(jnp.sum(share), jnp.finfo(jnp.float32).tiny)
    loss, right, dense_loss, dense_right = means.T
    return GroupStatistics(
        loss=loss,
        overall_loss=overall[0],
        count=count,
        accuracy=right,
        overall_accuracy=overall[1],
        dense_loss=dense_loss,
        overall_dense_loss=overall[2],
        dense_accuracy=dense_right,
        overall_dense_accuracy=overall[3],
    )
