"""Networks against a baseline, seed by seed: differences and verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from jaxprune.auditing import Interval, mean_interval
from jaxprune.auditing.multiplicity import paired_p_value
from jaxprune.results.answer import headline_sparsity
from jaxprune.results.figures import figures
from jaxprune.results.records import Network, Results
from jaxprune.results.verdicts import Change, Verdict, judge


class Measure(NamedTuple):
    """A figure that methods are compared by.

    Attributes:
      title: Its name for readers, with the unit.
      more_is_better: Whether a rise is for the better.
      scale: What is written is the stored value times this: 100 for shares.
      by_loss: Whether it speaks of losses rather than of right decisions.
    """

    title: str
    more_is_better: bool
    scale: float
    by_loss: bool = False

    @property
    def resolution(self) -> float:
        """The difference up to which stored changes count as equal.

        Losses are stored in float32, shares in float64.
        """
        return 1e-6 if self.by_loss else 1e-10


MEASURES: Mapping[str, Measure] = {
    "accuracy": Measure("accuracy, %", True, 100),
    "worst_group_accuracy": Measure("worst group, %", True, 100),
    "accuracy_spread": Measure("accuracy spread, points", False, 100),
    "max_excess_accuracy_gap": Measure("largest ψ, points", False, 100),
    "excess_accuracy_gap_spread": Measure("spread of ψ, points", False, 100),
    "excessive_loss_spread": Measure("spread ξ of R, nats", False, 1, by_loss=True),
}
# The measures that claims are made of: with every method, one family of tests.
FAIRNESS = ("max_excess_accuracy_gap", "accuracy_spread", "excessive_loss_spread", "worst_group_accuracy")


class Difference(NamedTuple):
    """A method against the baseline by seed, at one sparsity and split.

    Attributes:
      change: Mean over seeds of the difference, with its interval.
      p: Of the paired t-test, two-sided, by itself; NaN without a test.
    """

    change: Interval
    p: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Networks of a job, compared with the first of them.

    Attributes:
      results: Of the job.
      names: Of the networks, the baseline first; empty for all that are retrained.
    """

    results: Results
    names: tuple[str, ...] = ()

    @property
    def baseline(self) -> str:
        """The name of the method that the others are compared with."""
        return self.names[0] if self.names else self.results.baseline

    @property
    def methods(self) -> list[str]:
        """The names of all methods, the baseline first."""
        return list(self.names) or self.results.methods

    @cached_property
    def headline(self) -> float:
        """The largest sparsity up to which the baseline's networks work.

        The answer is given at this sparsity.
        """
        return headline_sparsity(self.results, self.baseline)

    @property
    def chosen(self) -> dict[tuple[str, float], Network]:
        """(method, sparsity) -> reported network; none where all diverged."""
        return {key: network for key, network in self.results.reported.items() if self._has(network)}

    @property
    def held_out(self) -> list[str]:
        """The methods whose multipliers are moved by people of the validation split."""
        return list(dict.fromkeys(network.name for network in self.trials if network.held_out))

    def about(self, method: str) -> str:
        """A sentence on what a method does."""
        return next(network.about for network in self.trials if network.name == method)

    def is_inequality(self, method: str) -> bool:
        """Return True if the constraint of a method is an inequality."""
        return bool(next(network.inequality for network in self.trials if network.name == method))

    @property
    def trials(self) -> list[Network]:
        """Every network that is compared, candidates included."""
        return [network for network in self.results.networks if self._has(network)]

    def figures(self, network: Network, split: str) -> dict[str, np.ndarray]:
        """Measure -> [R]."""
        return figures(self.results, network, split)

    def interval(self, values: np.ndarray, axis: int = 0) -> Interval:
        """Mean over seeds with the interval that the settings ask for."""
        return mean_interval(values, axis, self.results.settings["audit"]["confidence"])

    def difference(self, method: str, sparsity: float, split: str, measure: str) -> Difference:
        """A method against the baseline, in the measure's unit.

        The unit is points or nats; the difference is not adjusted for other comparisons.
        """
        change = self._change(method, sparsity, split, measure)
        p = paired_p_value(change.differences, change.resolution)
        return Difference(change=self.interval(change.differences), p=p)

    @cached_property
    def verdicts(self) -> dict[tuple[float, str, str], Verdict]:
        """(sparsity, method, measure) -> verdict, adjusted for its family.

        At each sparsity there are two families: all methods by the measures of `FAIRNESS`, and all methods by their
        accuracy, which is the price. Methods that diverged count in both.
        """
        verdicts, chosen = {}, self.chosen
        for sparsity in self.results.sparsities:
            methods = [m for m in self.methods[1:] if {(m, sparsity), (self.baseline, sparsity)} <= set(chosen)]
            for family in (FAIRNESS, ("accuracy",)):
                changes = {
                    (sparsity, method, measure): self._change(method, sparsity, self.results.answered_split, measure)
                    for method in methods
                    for measure in family
                }
                verdicts |= judge(changes, len(family) * (len(self.methods) - 1))
        return verdicts

    @property
    def comparisons(self) -> int:
        """The size of the family of fairness claims at one sparsity."""
        return len(FAIRNESS) * (len(self.methods) - 1)

    def _has(self, network: Network) -> bool:
        return network.name in self.names if self.names else network.role == "retrained"

    def _change(self, method: str, sparsity: float, split: str, measure: str) -> Change:
        return change_between(self.results, method, self.baseline, sparsity, split, measure)


def change_between(results: Results, name: str, other: str, sparsity: float, split: str, measure: str) -> Change:
    """The differences of one reported network from another, by seed.

    They are in points or nats.
    """
    how = MEASURES[measure]
    mine, base = (how.scale * figures(results, results.network(one, sparsity), split)[measure] for one in (name, other))
    return Change(mine - base, more_is_better=how.more_is_better, resolution=how.scale * how.resolution)


@lru_cache(maxsize=16)  # every section of a page asks for it
def compared(results: Results, names: tuple[str, ...] = ()) -> Comparison:
    """The comparison of networks of a job, by default of the retrained."""
    return Comparison(results, names)
