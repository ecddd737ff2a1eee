"""Whom compared prunings hurt, group by group, against the first of them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxprune.quantities import seed_means
from jaxprune.results.prunings import Stage
from jaxprune.results.records import Audit, Network, Results
from jaxprune.results.verdicts import Change, Verdict, judge

HARMS = ("accuracy", "loss")  # the measures: accuracy lost, as a share; loss gained, in nats
_RESOLUTION = {"accuracy": 1e-10, "loss": 1e-6}  # shares are of whole people, losses are stored in float32


class HurtMost(NamedTuple):
    """The group that networks hurt most by one measure.

    Attributes:
      group: Its index.
      change: Its mean harm over seeds.
      seeds: In how many seeds it is the group hurt most.
    """

    group: int
    change: float
    seeds: int


def harm_of(results: Results, network: Network, measure: str) -> np.ndarray:
    """[R, G] the harm of every group on the answered split; more is worse.

    Args:
      results: Of the job.
      network: A reported one.
      measure: One of `HARMS`.
    """
    audit = results.audit(network, results.answered_split)
    of_groups = {"accuracy": audit.impact.accuracy_drop, "loss": audit.impact.excessive_loss}
    return np.asarray(of_groups[measure], np.float64)


def overall_harm(results: Results, network: Network, measure: str) -> np.ndarray:
    """[R] the harm over all people."""
    before, after = (_audit(results, one).metrics for one in (results.dense, network))
    if measure == "accuracy":
        return np.asarray(before.overall_accuracy, np.float64) - np.asarray(after.overall_accuracy, np.float64)
    return np.asarray(after.overall_loss, np.float64) - np.asarray(before.overall_loss, np.float64)


def hurt_most(results: Results, network: Network, measure: str) -> HurtMost:
    """The group whose mean harm is largest."""
    harm = harm_of(results, network, measure)
    known = np.where(np.isfinite(harm), harm, -np.inf)
    means = np.where(np.isfinite(mean := seed_means(harm)), mean, -np.inf)
    group = int(means.argmax())
    return HurtMost(group, float(means[group]), int(np.sum(known.argmax(1) == group)))


def likeness(results: Results, network: Network, other: Network, measure: str) -> float:
    """The correlation over groups of two networks' mean harms.

    Returns:
      It is 1 where they hurt the same groups in proportion, and NaN where one hurts all alike.
    """
    mine, its = (seed_means(harm_of(results, one, measure)) for one in (network, other))
    known = np.isfinite(mine) & np.isfinite(its)
    mine, its = mine[known], its[known]
    if known.sum() < 2 or np.ptp(mine) == 0 or np.ptp(its) == 0:
        return float("nan")
    return float(np.corrcoef(mine, its)[0, 1])


def shifts(results: Results, stage: Stage, sparsity: float) -> Mapping[tuple[str, str, int], Verdict]:
    """Whom each pruning hurts more than the baseline does, beyond everybody.

    The harm of a group minus that of all people is compared with the same of the baseline, seed by seed. All prunings,
    groups and measures are one family.

    Args:
      results: Of the job.
      stage: The networks, the baseline first.
      sparsity: The share pruned.

    Returns:
      (pruning, measure, group) -> verdict; "worse" where the group is hurt more. The unit is that of `HARMS`.
    """
    base, *others = stage.networks
    groups, changes = len(results.group_names), {}
    for name in others:
        networks = [results.reported.get((stage.networks[one], sparsity)) for one in (name, base)]
        if None in networks:
            continue
        for measure in HARMS:
            mine, its = (_beyond_all(results, network, measure) for network in networks if network is not None)
            for group in range(groups):
                difference = mine[:, group] - its[:, group]
                if np.isfinite(difference).all():
                    changes[name, measure, group] = Change(difference, False, _RESOLUTION[measure])
    return judge(changes, len(HARMS) * groups * len(others))


def _beyond_all(results: Results, network: Network, measure: str) -> np.ndarray:
    """[R, G] the harm of groups minus that of all people."""
    return harm_of(results, network, measure) - overall_harm(results, network, measure)[:, None]


def _audit(results: Results, network: Network) -> Audit:
    return results.audit(network, results.answered_split)
