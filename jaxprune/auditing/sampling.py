"""Standard errors of the impact over the people sampled."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.auditing.example_outcomes import Outcomes, check_length, outcomes_of_checked, sums_by_group
from jaxprune.batches import check_batch, check_classification, check_logits, logits_shape
from jaxprune.examples import chunk_size_for
from jaxprune.losses import cross_entropy, excessive_loss
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params


class SamplingError(NamedTuple):
    """Standard errors over the people of each group, each [G].

    NaN for a group of fewer than two.

    Attributes:
      excessive_loss: Of R(a), the mean over the group of the change of each person's loss, in nats.
      accuracy_drop: Of the drop of accuracy, likewise.
    """

    excessive_loss: Array
    accuracy_drop: Array


def sampling_error(
    apply: Apply,
    dense: Params,
    pruned: Params,
    batch: Batch,
    *,
    num_groups: int,
    loss: ExampleLoss = cross_entropy,
    chunk_size: int | None = None,
    dense_apply: Apply | None = None,
) -> SamplingError:
    """Compute standard errors of the impact over people.

    They are sd / √n of the change of each person in a group. Both networks see the same people, so the change of each
    is one observation (a paired comparison), which is far less noisy than the difference of two independent means.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      dense: The parameters before.
      pruned: The parameters after.
      batch: [N] examples; weights other than 0 count as 1.
      num_groups: G.
      loss: Per-example loss.
      chunk_size: Examples evaluated at a time, which bounds the memory; None for as many as a byte budget allows.
      dense_apply: The function of the dense network, where it has statistics of its own; None for `apply`.

    Returns:
      The standard errors.

    Raises:
      UserError: As `evaluate` does.
    """
    size = chunk_size_for(batch.x, chunk_size)
    batch = check_classification(apply, pruned, batch, num_groups=num_groups, size=size)
    if dense_apply is not None:
        check_logits(logits_shape(dense_apply, dense, batch.x, size), batch)
    before = outcomes_of_checked(dense_apply or apply, dense, batch, loss=loss, chunk_size=chunk_size)
    after = outcomes_of_checked(apply, pruned, batch, loss=loss, chunk_size=chunk_size)
    return sampling_error_of(_change_sums(before, after, batch.group, batch.weight, num_groups=num_groups))


def change_sums(before: Outcomes, after: Outcomes, batch: Batch, num_groups: int) -> Array:
    """Compute the sums behind `sampling_error`, which add up over parts.

    Args:
      before: Of the N examples, by the dense network.
      after: Of the same examples, by the other.
      batch: [N] examples, for their groups; weights other than 0 count as 1.
      num_groups: G.

    Returns:
      [G, 5]: people, changes of loss and of error, and the squares of both.

    Raises:
      UserError: The batch is of another length, or a known group is out of range.
    """
    batch = check_batch(batch, num_groups=num_groups)
    for results in (before, after):
        check_length(results, batch)
    return _change_sums(before, after, batch.group, batch.weight, num_groups=num_groups)


def sampling_error_of(sums: Array) -> SamplingError:
    """Compute standard errors from `change_sums` [..., G, 5].

    The sums are those of one part of a split, or added up over all.
    """
    sums = jnp.asarray(sums)
    n, total, squares = sums[..., :1], sums[..., 1:3], sums[..., 3:]
    several = n > 1
    safe = jnp.where(several, n, 2)
    variance = jnp.maximum(squares - total**2 / safe, 0) / (safe - 1)
    error = jnp.where(several, jnp.sqrt(variance / safe), jnp.nan)
    return SamplingError(error[..., 0], error[..., 1])


@partial(jax.jit, static_argnames=("num_groups",))
def _change_sums(before: Outcomes, after: Outcomes, group: Array, weight: Array, *, num_groups: int) -> Array:
    change = jnp.stack([excessive_loss(before.loss, after.loss), after.wrong - before.wrong], -1)
    values = jnp.concatenate([jnp.ones_like(change[:, :1]), change, change**2], -1)
    return sums_by_group(values, group, num_groups, (jnp.asarray(weight) != 0).astype(values.dtype))
