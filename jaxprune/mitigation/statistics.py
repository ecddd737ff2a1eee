"""Group statistics that constraints are measured on, and the examples behind them."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxprune.data.training_rows import IndexedBatch
from jaxprune.groups import group_mean
from jaxprune.losses import excessive_loss, weighted_mean
from jaxprune.mitigation.dense import DenseReference
from jaxprune.types import Array, Batch, ExampleLoss

_ABSENT: Any = 0.0  # a plain number, so that it takes the precision of the others


class GroupStatistics(NamedTuple):
    """Group figures of a batch, of the buffer, or of held-out examples.

    Figures of a group that is absent are 0. The dense network's are of the same examples, where its outputs are known
    for each of them: the difference of two networks on the same people is far less noisy than that of two samples.

    Attributes:
      loss: [G] mean loss of each group, in nats.
      overall_loss: [] mean loss over all, each group with its share of the population.
      count: [G] total weight that each group's figures rest on.
      accuracy: [G] share of right predictions.
      overall_accuracy: [] the same over all.
      dense_loss: [G] mean loss of the dense network, 0 where there is none to compare with.
      overall_dense_loss: [] the same over all.
      dense_accuracy: [G] share of right predictions of the dense network.
      overall_dense_accuracy: [] the same over all.
    """

    loss: Array
    overall_loss: Array
    count: Array  # pyright: ignore[reportIncompatibleMethodOverride] (the field, not tuple.count)
    accuracy: Array = _ABSENT
    overall_accuracy: Array = _ABSENT
    dense_loss: Array = _ABSENT
    overall_dense_loss: Array = _ABSENT
    dense_accuracy: Array = _ABSENT
    overall_dense_accuracy: Array = _ABSENT

    @property
    def excessive_loss(self) -> Array:
        """[G] R(a) = J(θ; D_a) - J(dense; D_a) (Tran et al. 2022, eq. 2)."""
        return excessive_loss(self.dense_loss, self.loss)

    @property
    def excess_accuracy_gap(self) -> Array:
        """[G] ψ_a, the accuracy drop beyond the overall drop.

        Hashemizadeh et al. 2024.
        """
        overall_drop = self.overall_dense_accuracy - self.overall_accuracy
        return self.dense_accuracy - self.accuracy - overall_drop


class Examples(NamedTuple):
    """Values of each example of a batch, [B] each.

    The dense network's are 0 where unknown.
    """

    loss: Array
    right: Array
    dense_loss: Array
    dense_right: Array
    group: Array
    weight: Array


def examine(
    logits: Array,
    batch: Batch | IndexedBatch,
    loss: ExampleLoss,
    dense: DenseReference | None,
    dense_logits: Array | None,
) -> Examples:
    """Compute the loss and correctness of every example, beside the dense network's.

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
        dense_loss = loss(dense_logits, batch.y)
        dense_right = (jnp.argmax(dense_logits, -1) == batch.y).astype(jnp.float32)
    elif dense is not None:
        dense_loss, dense_right = dense.loss[batch.group], dense.accuracy[batch.group]
    else:
        dense_loss = dense_right = jnp.zeros_like(values)
    return Examples(values, right, dense_loss, dense_right, batch.group, batch.weight)


def statistics_of(examples: Examples, num_groups: int) -> GroupStatistics:
    """Group means of one batch.

    Each is a sum of its own, so that what a constraint does not use costs nothing.
    """

    def means(values: Array) -> tuple[Array, Array]:
        return group_mean(values, examples.group, num_groups, examples.weight)

    loss, count = means(examples.loss)
    return GroupStatistics(
        loss=loss,
        overall_loss=weighted_mean(examples.loss, examples.weight),
        count=count,
        accuracy=means(examples.right)[0],
        overall_accuracy=weighted_mean(examples.right, examples.weight),
        dense_loss=means(examples.dense_loss)[0],
        overall_dense_loss=weighted_mean(examples.dense_loss, examples.weight),
        dense_accuracy=means(examples.dense_right)[0],
        overall_dense_accuracy=weighted_mean(examples.dense_right, examples.weight),
    )
