"""Loss and accuracy per group."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.auditing.example_outcomes import Outcomes, check_length, outcomes_of_checked, sums_by_group
from jaxprune.auditing.tables import metrics_rows, metrics_text
from jaxprune.batches import check_batch, check_classification
from jaxprune.examples import chunk_size_for
from jaxprune.frames import to_frame
from jaxprune.groups import spread_over_groups
from jaxprune.losses import cross_entropy
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params


class GroupMetrics(NamedTuple):
    """The metrics of a network on each group and overall.

    Attributes:
      size: [G] total weight of the examples of each group; their number where weights are 1.
      loss: [G] mean loss in nats; NaN for a group without examples.
      accuracy: [G] share of right predictions; NaN for a group without examples.
      overall_loss: [] mean loss over all examples.
      overall_accuracy: [] share of right predictions over all examples.
    """

    size: Array
    loss: Array
    accuracy: Array
    overall_loss: Array
    overall_accuracy: Array

    @property
    def accuracy_spread(self) -> Array:
        """Spread of accuracy, max_a accuracy_a - min_a accuracy_a.

        It is the fairness violation of Tran et al.'s experiments (§6.2).
        """
        return spread_over_groups(self.accuracy)

    @property
    def worst_group(self) -> Array:
        """Index of the least accurate group, the first on a tie."""
        return jnp.nanargmin(self.accuracy, -1)

    def named(self, group_names: Sequence[str]) -> "GroupMetrics":
        """The same metrics with the names of the groups, for display.

        Args:
          group_names: The G names.
        """
        metrics = _NamedMetrics(*self)
        metrics.group_names = tuple(group_names)
        return metrics

    def to_pandas(self) -> Any:
        """Return a `pandas.DataFrame` with one row for each group.

        Where there are several replicas, each has rows of its own.

        Raises:
          UserError: pandas is not installed.
        """
        return to_frame(metrics_rows(self, getattr(self, "group_names", ())))

    def __repr__(self) -> str:
        return metrics_text(self, getattr(self, "group_names", ()))


class _NamedMetrics(GroupMetrics):
    group_names: tuple[str, ...] = ()  # lost where JAX builds the tuple anew


def evaluate(
    apply: Apply,
    params: Params,
    batch: Batch,
    *,
    num_groups: int,
    loss: ExampleLoss = cross_entropy,
    chunk_size: int | None = None,
) -> GroupMetrics:
    """Evaluate a network on every group.

    Compiled once for each function `apply` and shape of the data. Sums are weighted by example, so that the result
    does not depend on `chunk_size` but for rounding.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      batch: [N] examples; weights of None are 1. Those of weight 0 are padding, whose label and group may be anything.
      num_groups: G.
      loss: Per-example loss of the logits and the classes.
      chunk_size: Examples evaluated at a time, which bounds the memory; None for as many as a byte budget allows.

    Returns:
      The metrics.

    Raises:
      UserError: The logits are not [B, C] with two classes or more, the labels not one class per example, a length
        differs, or, outside of `jax.jit`, a group, label or weight is out of range.

    Example:
      >>> def apply(params, x):
      ...     return x @ params
      >>> batch = Batch(x=jnp.eye(3), y=jnp.array([0, 1, 1]), group=jnp.array([0, 0, 1]))
      >>> metrics = evaluate(apply, jnp.array([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]]), batch, num_groups=2)
      >>> metrics.named(["a", "b"])
      GroupMetrics: loss 0.5224, accuracy 66.67 %
        group      size      loss   accuracy
        a             2    0.1269   100.00 %
        b             1    1.3133     0.00 %
    """
    size = chunk_size_for(batch.x, chunk_size)
    batch = check_classification(apply, params, batch, num_groups=num_groups, size=size)
    results = outcomes_of_checked(apply, params, batch, loss=loss, chunk_size=chunk_size)
    return metrics_of(_evaluation_sums(results, batch.group, batch.weight, num_groups=num_groups))


def evaluation_sums(results: Outcomes, batch: Batch, num_groups: int) -> Array:
    """Compute the sums behind `metrics_of`, which add up over parts.

    Args:
      results: Of the N examples.
      batch: [N] examples, for their groups and weights.
      num_groups: G.

    Returns:
      [G, 3]: total weight, loss and right predictions of each group.

    Raises:
      UserError: The batch is of another length, or a known group is out of range.
    """
    batch = check_batch(batch, num_groups=num_groups)
    check_length(results, batch)
    return _evaluation_sums(results, batch.group, batch.weight, num_groups=num_groups)


def metrics_of(sums: Array) -> GroupMetrics:
    """Compute metrics from `evaluation_sums` [..., G, 3], added up over parts."""
    size, total_loss, right = jnp.moveaxis(jnp.asarray(sums), -1, 0)
    safe = jnp.where(size > 0, size, jnp.nan)
    everyone = jnp.sum(size, -1)
    return GroupMetrics(
        size, total_loss / safe, right / safe, jnp.sum(total_loss, -1) / everyone, jnp.sum(right, -1) / everyone
    )


@partial(jax.jit, static_argnames=("num_groups",))
def _evaluation_sums(results: Outcomes, group: Array, weight: Array, *, num_groups: int) -> Array:
    values = jnp.stack([jnp.ones_like(results.loss), results.loss, 1 - results.wrong], axis=-1)
    return sums_by_group(values, group, num_groups, weight)
