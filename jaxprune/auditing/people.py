"""Metrics of groups from outcomes of single people, in float64."""

from collections.abc import Callable

import numpy as np

from jaxprune.auditing.example_outcomes import Outcomes
from jaxprune.auditing.metrics import GroupMetrics
from jaxprune.auditing.sampling import SamplingError
from jaxprune.types import Array


def metrics_of_people(loss: Array, wrong: Array, group: Array, num_groups: int) -> GroupMetrics:
    """Compute the metrics of every group from everybody's loss and error.

    Args:
      loss: [R, N] nats.
      wrong: [R, N] true or 1 where the prediction is not the label.
      group: [N] int in [0, G).
      num_groups: G.

    Returns:
      The metrics in float64, leaves [R, G] and [R]; NaN for a group without examples.
    """
    people, group = len(group), np.asarray(group)
    size = np.bincount(group, minlength=num_groups)
    right = np.stack([size - np.bincount(group[np.asarray(row) != 0], minlength=num_groups) for row in wrong])
    total = np.stack([_sums(row, group, num_groups) for row in loss])
    with np.errstate(invalid="ignore", divide="ignore"):
        return GroupMetrics(
            size=np.broadcast_to(size.astype(np.float64), total.shape).copy(),
            loss=total / size,
            accuracy=right / size,
            overall_loss=total.sum(-1) / people,
            overall_accuracy=right.sum(-1) / people,
        )


def sampling_error_of_people(before: Outcomes, after: Outcomes, group: Array, num_groups: int) -> SamplingError:
    """Compute standard errors over people of changes between two networks.

    They are sd / √n of the change of each person in a group, from deviations about the mean (two passes), so that no
    digits are lost where the changes are nearly equal.

    Args:
      before: Leaves [R, N], of the dense network.
      after: Leaves [R, N], of the other, on the same people.
      group: [N] int in [0, G).
      num_groups: G.

    Returns:
      The standard errors in float64, [R, G]; NaN for a group of fewer than two people.
    """
    group = np.asarray(group)
    size = np.bincount(group, minlength=num_groups)

    def error(leaf: Callable[[Outcomes], Array]) -> np.ndarray:
        pairs = zip(leaf(before), leaf(after), strict=True)
        return np.stack([_standard_error(old, new, group, size) for old, new in pairs])

    return SamplingError(excessive_loss=error(lambda o: o.loss), accuracy_drop=error(lambda o: o.wrong))


def _sums(values: Array, group: np.ndarray, num_groups: int) -> np.ndarray:
    """[G] sums in float64 of values [N]."""
    return np.bincount(group, weights=np.asarray(values, np.float64), minlength=num_groups)


def _standard_error(old: Array, new: Array, group: np.ndarray, size: np.ndarray) -> np.ndarray:
    """[G] standard errors of the mean change from old to new [N]."""
    with np.errstate(invalid="ignore", divide="ignore"):  # empty groups, and losses that are infinite
        change = np.asarray(new, np.float64) - np.asarray(old, np.float64)
        mean = _sums(change, group, len(size)) / size
        squares = _sums((change - mean[group]) ** 2, group, len(size))
        error = np.sqrt(squares / (size - 1) / size)
    return np.where(size > 1, error, np.nan)
