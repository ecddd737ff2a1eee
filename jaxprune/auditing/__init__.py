"""Who is hurt: metrics per group, the impact of pruning, and intervals over seeds."""

from jaxprune.auditing.impact import Impact, impact
from jaxprune.auditing.intervals import MINIMUM_SEEDS, Interval, mean_interval
from jaxprune.auditing.metrics import GroupMetrics, evaluate, evaluation_sums, metrics_of
from jaxprune.auditing.outcomes import Outcomes, outcomes
from jaxprune.auditing.people import metrics_of_people, sampling_error_of_people
from jaxprune.auditing.sampling import SamplingError, change_sums, sampling_error, sampling_error_of

__all__ = [
    "MINIMUM_SEEDS",
    "GroupMetrics",
    "Impact",
    "Interval",
    "Outcomes",
    "SamplingError",
    "change_sums",
    "evaluate",
    "evaluation_sums",
    "impact",
    "mean_interval",
    "metrics_of",
    "metrics_of_people",
    "outcomes",
    "sampling_error",
    "sampling_error_of",
    "sampling_error_of_people",
]
