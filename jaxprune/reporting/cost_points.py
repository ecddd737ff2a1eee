"""Networks as points: what they cost, and what every group gets."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxprune.costs import Median
from jaxprune.quantities import seed_means
from jaxprune.results import Network, Results

_TIE = 1e-3  # relative


class CostPoint(NamedTuple):
    """One form of a network.

    Attributes:
      kind: Of the cost: "size" or "time".
      network: The network.
      form: "dense", "masked" or "compact".
      cost: Bytes, or time relative to the dense network's, with an interval; without one the ends are NaN.
      accuracy: Over all examples, the mean over seeds.
      groups: [G] accuracies.
      harm: [G] excessive losses, nats.
    """

    kind: str
    network: Network
    form: str
    cost: Median
    accuracy: float
    groups: np.ndarray
    harm: np.ndarray

    @property
    def worst_group(self) -> int:
        """The group of lowest accuracy; groups without one are left out."""
        return int(np.argmin(np.where(np.isfinite(self.groups), self.groups, np.inf)))

    @property
    def most_hurt(self) -> int:
        """The group of the largest excessive loss, likewise."""
        return int(np.argmax(np.where(np.isfinite(self.harm), self.harm, -np.inf)))

    @property
    def largest_harm(self) -> float:
        """The largest excessive loss of a group."""
        return float(self.harm[self.most_hurt])


def measured(results: Results) -> list[Network]:
    """The reported compressed networks whose costs are known, in order."""
    return [network for network in results.reported.values() if network.key in results.costs]


def is_timed(results: Results) -> bool:
    """Return whether the speed was measured."""
    return any(results.costs[network.key].timed for network in measured(results))


def has_compact(results: Results) -> bool:
    """Return whether some network has a compact form."""
    return any("compact" in results.costs[network.key].forms for network in measured(results))


def works(results: Results, network: Network) -> bool:
    """Return whether networks of every seed work; untested ones count so."""
    tests = results.tests(network.name, network.sparsity)
    return tests is None or bool(np.asarray(tests.working.works).all())


def by_bytes(results: Results) -> list[CostPoint]:
    """The dense network and the smallest form of every one that works."""
    points = []
    for network in _working(results):
        costs = results.costs[network.key]
        points.append(_point("size", results, network, costs.best, _exact(costs.forms[costs.best].bytes)))
    dense = results.costs[measured(results)[0].key].forms["dense"].bytes
    return [_point("size", results, results.dense, "dense", _exact(dense)), *points]


def by_time(results: Results) -> list[CostPoint]:
    """The dense network, and every form of every one that works."""
    points = [
        _point("time", results, network, form, costs.large.ratio)
        for network in _working(results)
        for form, costs in results.costs[network.key].forms.items()
        if form != "dense" and results.costs[network.key].timed
    ]
    return [_point("time", results, results.dense, "dense", _exact(1)), *points]


def front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """The points that no other beats in cost and accuracy, cheapest first.

    Costs that differ by less than one per mille are equal: of such points the most accurate one stays. Masked networks
    run the dense network's program: chance alone puts one before another by time, so that none is on that front.
    """
    best: list[CostPoint] = []
    able = [point for point in points if not (point.form == "masked" and point.kind == "time")]
    for point in sorted(able, key=lambda point: (point.cost.value, -point.accuracy)):
        if best and point.accuracy <= best[-1].accuracy:
            continue
        if best and point.cost.value < (1 + _TIE) * best[-1].cost.value:
            best.pop()
        best.append(point)
    return best


def none_works(results: Results) -> bool:
    """Return whether every compressed network no longer works."""
    return not _working(results)


def _working(results: Results) -> list[Network]:
    return [network for network in measured(results) if works(results, network)]


def _exact(value: float) -> Median:
    return Median(float(value), np.nan, np.nan)


def _point(kind: str, results: Results, network: Network, form: str, cost: Median) -> CostPoint:
    audit = results.audit(network, results.answered_split)
    return CostPoint(
        kind=kind,
        network=network,
        form=form,
        cost=cost,
        accuracy=float(np.mean(audit.metrics.overall_accuracy)),
        groups=seed_means(audit.metrics.accuracy),
        harm=seed_means(audit.impact.excessive_loss),
    )
