"""Who is hurt: metrics per group, the impact of pruning, and intervals over seeds."""

from jaxprune.auditing.impact import Impact, impact
from jaxprune.auditing.intervals import Interval, mean_interval
from jaxprune.auditing.metrics import GroupMetrics, evaluate
from jaxprune.auditing.sampling import SamplingError, sampling_error

__all__ = [
    "GroupMetrics",
    "Impact",
    "Interval",
    "SamplingError",
    "evaluate",
    "impact",
    "mean_interval",
    "sampling_error",
]
