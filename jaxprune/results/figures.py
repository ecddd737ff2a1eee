"""Figures of a network over all groups, such as the accuracy spread."""

from functools import partial

import numpy as np

from jaxprune.auditing import GroupMetrics, impact
from jaxprune.results.records import Network, Results


def figures(results: Results, network: Network, split: str) -> dict[str, np.ndarray]:
    """The figures of a network on a split, by the primary grouping.

    Returns:
      Name -> [R]; `loss_gap` is max_a |J_a - J|, which the constraint of program (8) asks to be zero.
    """
    return figures_of(results.audit(network, split).metrics, results.audit(results.dense, split).metrics)


def figures_of(metrics: GroupMetrics, dense: GroupMetrics) -> dict[str, np.ndarray]:
    """Figures of a network against the dense one, by seed.

    All figures are on one split.

    Args:
      metrics: Of the network, leaves [R, G] and [R].
      dense: Of the dense network, on the same people.

    Returns:
      Name -> [R].
    """
    metrics, dense = counted(metrics), counted(dense)
    least, most = (partial(reduce, axis=-1) for reduce in (np.fmin.reduce, np.fmax.reduce))  # NaN is left out
    worst, best = least(metrics.accuracy), most(metrics.accuracy)
    with np.errstate(invalid="ignore"):  # infinite losses have no difference
        change = impact(dense, metrics)
        gaps, losses = change.excess_accuracy_gap, change.excessive_loss
        return {
            "loss": np.asarray(metrics.overall_loss),
            "accuracy": np.asarray(metrics.overall_accuracy),
            "worst_group_accuracy": worst,
            "best_group_accuracy": best,
            "accuracy_spread": best - worst,
            "loss_gap": most(np.abs(metrics.loss - metrics.overall_loss[..., None])),
            "excessive_loss_spread": most(losses) - least(losses),
            "max_excessive_loss": most(losses),
            "max_excess_accuracy_gap": most(gaps),
            "excess_accuracy_gap_spread": most(gaps) - least(gaps),
        }


def counted(metrics: GroupMetrics) -> GroupMetrics:
    """Convert metrics to float64, accuracies to exact shares of people.

    float32 makes equal changes of two seeds differ in the last digit; numbers of people do not. Accuracies that are not
    those of whole people, as with weights other than 1, stay as they are.
    """
    size, loss, accuracy, overall_loss, overall_accuracy = (np.asarray(leaf, np.float64) for leaf in metrics)
    return GroupMetrics(
        size=size,
        loss=loss,
        accuracy=_exact_share(accuracy, size),
        overall_loss=overall_loss,
        overall_accuracy=_exact_share(overall_accuracy, np.sum(size, -1)),
    )


def _exact_share(share: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Round shares of float32 to ratios of whole numbers.

    Only shares that are such ratios to float32 precision are rounded.
    """
    people = np.rint(share * size)
    whole = (size > 0) & (np.abs(share * size - people) <= 1e-3 + 2e-7 * size) & (np.rint(size) == size)
    return np.where(whole, people / np.where(size > 0, size, 1), share)
