"""Metrics per group, the impact of pruning, and intervals over seeds."""

from jaxprune.auditing.example_outcomes import Outcomes, outcomes
from jaxprune.auditing.harm import MEASURES, Harm, changes_of, measure_harm
from jaxprune.auditing.intervals import MINIMUM_SEEDS, Interval, mean_interval
from jaxprune.auditing.metrics import GroupMetrics, evaluate, evaluation_sums, metrics_of
from jaxprune.auditing.people import metrics_of_people, sampling_error_of_people
from jaxprune.auditing.permutation import GroupCodes
from jaxprune.auditing.pruning_impact import Impact, impact
from jaxprune.auditing.sampling import SamplingError, change_sums, sampling_error, sampling_error_of
from jaxprune.auditing.spread import Spread, measure_spreads
from jaxprune.auditing.working import Working, judge_networks

__all__ = [
    "MEASURES",
    "MINIMUM_SEEDS",
    "GroupCodes",
    "GroupMetrics",
    "Harm",
    "Impact",
    "Interval",
    "Outcomes",
    "SamplingError",
    "Spread",
    "Working",
    "change_sums",
    "changes_of",
    "evaluate",
    "evaluation_sums",
    "impact",
    "judge_networks",
    "mean_interval",
    "measure_harm",
    "measure_spreads",
    "metrics_of",
    "metrics_of_people",
    "outcomes",
    "sampling_error",
    "sampling_error_of",
    "sampling_error_of_people",
]
