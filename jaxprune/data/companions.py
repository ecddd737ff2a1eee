"""Training examples with what some ways of training need beside them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.batches import check_batch
from jaxprune.errors import UserError
from jaxprune.types import Array, Batch


class Rows(NamedTuple):
    """The rows of every group: `order` [N] sorted by group, `first` [G] and `size` [G]."""

    order: Array
    first: Array
    size: Array


class Companions(NamedTuple):
    """Examples as in `Batch`, with the row that each of them has, and others that go beside them.

    Attributes:
      x: [N, ...] inputs.
      y: [N] int, labels.
      group: [N] int, groups.
      weight: [N] float, 0 marks padding.
      row: [N] int, the row of each: where tables by example are looked up.
      held_out: Examples that the parameters never see, of any number, or None.
      rows: Where batches draw every group equally often: the rows of each. None draws every example equally often.
    """

    x: Array
    y: Array
    group: Array
    weight: Array
    row: Array
    held_out: "Companions | None" = None
    rows: Rows | None = None

    def take(self, index: Array, weight: Array) -> "Companions":
        """The batch at `index` [B], with as many held-out examples.

        Indices are shuffled values of [0, N). The held-out rows and the rows of balanced sampling are made from them,
        so that they change with the order of the epoch and need no key of their own.
        """
        at = index
        if self.rows is not None:
            # The groups take turns within the batch. A shift as random as the batch's first value reaches all members
            # of every group equally often, and small groups are gone through several times an epoch.
            group = (jnp.arange(len(index)) + index[0]) % self.rows.size.shape[0]
            at = self.rows.order[self.rows.first[group] + (index + index[0]) % self.rows.size[group]]
        beside = None
        if self.held_out is not None:
            # The shift reaches rows beyond N where more people are held out than are trained on.
            rows = (index + index[0] * len(self.y)) % len(self.held_out.y)
            beside = jax.tree.map(lambda a: a[rows], self.held_out)
        taken = jax.tree.map(lambda a: a[at], self._replace(held_out=None, rows=None))
        return taken._replace(weight=taken.weight * weight, held_out=beside)


def companions(
    data: Batch, *, held_out: Batch | None = None, balanced: bool = False, num_groups: int | None = None
) -> Companions:
    """Training data that knows its rows, for `training.fit`.

    Args:
      data: [N] training examples.
      held_out: [M] examples that violations are to be measured on; every batch brings as many of them as it has
        examples.
      balanced: Whether every batch draws all groups equally often, N examples an epoch.
      num_groups: G; needed for `balanced`.

    Returns:
      The data.

    Raises:
      UserError: A group has no examples and cannot be drawn; or as `batches.check_batch`.
    """
    data = check_batch(data, num_groups=num_groups)
    held_out = None if held_out is None else check_batch(held_out, num_groups=num_groups)
    rows = None
    if balanced:
        assert num_groups is not None, "balanced sampling needs num_groups"
        group = np.asarray(data.group)
        size = np.bincount(group, minlength=num_groups)
        if (size == 0).any():
            raise UserError(f"group {int(np.argmin(size))} has no training examples and cannot be drawn; leave it out")
        order = np.argsort(group, kind="stable").astype(np.int32)
        rows = Rows(*(jnp.asarray(a, jnp.int32) for a in (order, np.cumsum(size) - size, size)))
    beside = None if held_out is None else Companions(*held_out, row=_row_numbers(held_out))
    return Companions(*data, row=_row_numbers(data), held_out=beside, rows=rows)


def _row_numbers(data: Batch) -> Array:
    return jnp.arange(data.y.shape[0], dtype=jnp.int32)
