"""Training examples that know their row, with held-out examples and balanced sampling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.batches import check_batch
from jaxprune.errors import UserError
from jaxprune.types import Array, Batch


class GroupRows(NamedTuple):
    """Rows of every group.

    They are `order` [N], sorted by group, from `first` [G] on, `size` [G] of each.
    """

    order: Array
    first: Array
    size: Array


class IndexedBatch(NamedTuple):
    """Examples with their rows, and held-out examples beside them.

    Attributes:
      x: [N, ...] inputs.
      y: [N] int, labels.
      group: [N] int, groups.
      weight: [N] float, 0 marks padding.
      row: [N] int, the row of each in the whole split: where tables by example are looked up.
      held_out: Examples that the parameters never see, of any number, or None.
      group_rows: The rows of each group, for batches that draw all groups equally often; None draws every example
        equally often.
    """

    x: Array
    y: Array
    group: Array
    weight: Array
    row: Array
    held_out: "IndexedBatch | None" = None
    group_rows: GroupRows | None = None

    def take(self, index: Array, weight: Array) -> "IndexedBatch":
        """Gather the batch at `index` [B], with as many held-out examples.

        Args:
          index: [B] shuffled values of [0, N).
          weight: [B], multiplied with the weights of the examples; 0 marks padding.
        """
        at, held_out = self.rows_of(index)
        beside = None if held_out is None else jax.tree.map(lambda a: a[held_out], self.held_out)
        batch = jax.tree.map(lambda a: a[at], self._replace(held_out=None, group_rows=None))
        return batch._replace(weight=batch.weight * weight, held_out=beside)

    def rows_of(self, index: Array) -> tuple[Array, Array | None]:
        """Compute the rows of a batch, and those of its held-out examples.

        Both are made from the shuffled index, so that they change with the order of the epoch and need no key of their
        own. Inputs are not read: for streaming, this is all there is to know of a batch.

        Args:
          index: [B] shuffled values of [0, N).

        Returns:
          [B] rows in [0, N), and [B] rows of `held_out`, or None.
        """
        held_out = None if self.held_out is None else len(self.held_out.y)
        return rows_of_batch(index, len(self.y), self.group_rows, held_out)


def rows_of_batch(
    index: Array, num_examples: int, group_rows: GroupRows | None, num_held_out: int | None
) -> tuple[Array, Array | None]:
    """Compute the rows of a batch as `IndexedBatch.rows_of` does, from sizes alone.

    Args:
      index: [B] int32, shuffled values of [0, N).
      num_examples: N.
      group_rows: For balanced sampling, or None.
      num_held_out: M, or None where no examples are held out.
    """
    rows = index
    if group_rows is not None:
        # The groups take turns within the batch. A shift as random as the batch's first value reaches all members
        # of every group equally often, and small groups are gone through several times an epoch.
        group = (jnp.arange(len(index)) + index[0]) % group_rows.size.shape[0]
        rows = group_rows.order[group_rows.first[group] + (index + index[0]) % group_rows.size[group]]
    if num_held_out is None:
        return rows, None
    # The shift reaches rows beyond N where more examples are held out than are trained on. The product may wrap around
    # in int32, which is as good a shift; the remainder is never negative.
    return rows, (index + index[0] * num_examples) % num_held_out


def indexed_batch(
    data: Batch, *, held_out: Batch | None = None, balanced: bool = False, num_groups: int | None = None
) -> IndexedBatch:
    """Training data that knows its rows, for `training.fit` and `streaming.fit`.

    Args:
      data: [N] training examples; their inputs may stay on disk, for `streaming.fit`.
      held_out: [M] examples that violations are to be measured on; every batch brings as many of them as it has
        examples. Their inputs may stay on disk as well.
      balanced: Draw all groups equally often in every batch, N examples an epoch.
      num_groups: G; needed for `balanced`.

    Returns:
      The data.

    Raises:
      UserError: A group has no examples and cannot be drawn; or as `batches.check_batch`.
    """
    data = check_batch(data, num_groups=num_groups)
    held_out = None if held_out is None else check_batch(held_out, num_groups=num_groups)
    group_rows = None
    if balanced:
        assert num_groups is not None, "balanced sampling needs num_groups"
        group = np.asarray(data.group)
        size = np.bincount(group, minlength=num_groups)
        if (size == 0).any():
            raise UserError(f"group {int(np.argmin(size))} has no training examples and cannot be drawn; leave it out")
        order = np.argsort(group, kind="stable").astype(np.int32)
        group_rows = GroupRows(*(jnp.asarray(a, jnp.int32) for a in (order, np.cumsum(size) - size, size)))
    beside = None if held_out is None else IndexedBatch(*held_out, row=_row_numbers(held_out))
    return IndexedBatch(*data, row=_row_numbers(data), held_out=beside, group_rows=group_rows)


def _row_numbers(data: Batch) -> Array:
    return jnp.arange(data.y.shape[0], dtype=jnp.int32)
