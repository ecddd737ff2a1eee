"""Violations of constraints on whole splits."""

import jax
import numpy as np

from jaxprune.auditing import GroupMetrics
from jaxprune.mitigation import Constraint, GroupStatistics
from jaxprune.types import Array


def violation_of(constraint: Constraint, tolerance: float, metrics: GroupMetrics, dense: GroupMetrics) -> np.ndarray:
    """[R, G] violation of a constraint, beyond its trained tolerance.

    Args:
      constraint: The constraint.
      tolerance: Its tolerance.
      metrics: Of the network, leaves [R, G] and [R].
      dense: Of the plain dense network, on the same people.
    """

    def violation(own: GroupMetrics, dense: GroupMetrics) -> Array:
        statistics = GroupStatistics(
            loss=own.loss,
            overall_loss=own.overall_loss,
            count=own.size,
            accuracy=own.accuracy,
            overall_accuracy=own.overall_accuracy,
            dense_loss=dense.loss,
            overall_dense_loss=dense.overall_loss,
            dense_accuracy=dense.accuracy,
            overall_dense_accuracy=dense.overall_accuracy,
        )
        return constraint.violation(statistics, np.asarray(tolerance, np.float32))

    own, dense = (GroupMetrics(*(np.nan_to_num(np.array(v, np.float32)) for v in m)) for m in (metrics, dense))
    return np.asarray(jax.vmap(violation)(own, dense))
