"""The records of a job: one table of networks, splits and groups."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxprune.auditing import GroupMetrics, Impact, SamplingError
from jaxprune.results.costs import NetworkCosts
from jaxprune.results.harm_tests import HarmTests
from jaxprune.results.theory import TheoryResults

Role = Literal["dense", "compressed", "retrained"]
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, repr=False)
class Network:
    """A node of the plan, with one network for each seed.

    Attributes:
      name: "dense", "pruned" or a way of retraining, such as "fair_both" or "ceag". Where criteria are compared, one of
        them, such as "random", and with the way of retraining "random+naive".
      title: Its name for readers.
      role: Whether it is dense, compressed, or compressed and retrained.
      sparsity: The share of weights pruned that was asked for; 0 for a dense network.
      dense: The name of the dense network that it was made from; its own for a dense one.
      method: How it was trained last, such as "naive" or "configured".
      about: A sentence on how it was made; may be empty.
      values: Hyperparameter -> value.
      chosen: Whether it is reported; False for a candidate that lost the choice on the validation split.
      trouble: Why it has no measurements; empty where it has.
      held_out: Whether its multipliers are moved by people of the validation split.
      inequality: Whether its constraint is an inequality; None without a constraint.
      layers: The prunable layers, each with path, size and kept [R].
      channels: Where channels are removed: "couplings", each with name, kind, size and kept [R]; "removed", the shares
        [R] of channels, parameters and flops; and "equality" of the compact network with the masked one on the test
        split, with people, difference [R] and largest [R] logit, None where nothing is cut. None for other structures.
      multipliers: [R, points, G] of a constrained training, thinned; the last point is the last step.
    """

    name: str
    title: str
    role: Role
    sparsity: float = 0.0
    dense: str = "dense"
    method: str = "naive"
    about: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    chosen: bool = True
    trouble: str = ""
    held_out: bool = False
    inequality: bool | None = None
    layers: list[dict[str, Any]] = field(default_factory=list)
    channels: dict[str, Any] | None = None
    multipliers: np.ndarray | None = None

    @property
    def key(self) -> str:
        """The unique name in a job: "ceag 0.9 tolerance=0.01"."""
        sparsity = [] if self.role == "dense" else [f"{self.sparsity:g}"]
        return " ".join([self.name, *sparsity, *(f"{name}={value:g}" for name, value in self.values.items())])

    @property
    def empty_layers(self) -> list[str]:
        """Paths of the layers that were pruned entirely, in any seed."""
        return [layer["path"] for layer in self.layers if self.sparsity > 0 and min(layer["kept"]) == 0]

    def __repr__(self) -> str:
        return f"Network({self.key})"


class Audit(NamedTuple):
    """One network on one split, by one grouping, all seeds.

    Attributes:
      metrics: Leaves [R, G] and [R].
      impact: The change from the plain dense network of the same seed; R(a) is `impact.excessive_loss`.
      own_impact: The change from the dense network that it was made from.
      sampling: Standard errors over people of `impact`, leaves [R, G].
      tests: Whom it hurts beyond chance; None where that was not tested.
      violation: [R, G] of its own constraint on the whole split; None without one.
    """

    metrics: GroupMetrics
    impact: Impact
    own_impact: Impact
    sampling: SamplingError
    tests: HarmTests | None = None
    violation: np.ndarray | None = None


Audits = Mapping[tuple[str, str], Audit]  # (key of the network, split) -> audit


@dataclass(frozen=True)
class Grouped:
    """The audits by one grouping.

    Attributes:
      group_names: [G].
      group_sizes: Split -> [G] examples.
      warnings: Sentences about groups that are small or left out.
      audits: (key of the network, split) -> audit.
    """

    group_names: list[str]
    group_sizes: dict[str, list[int]]
    warnings: list[str]
    audits: Audits


@dataclass(frozen=True, repr=False, eq=False)
class Results:
    """All measurements of a job, by the primary and the further groupings.

    Attributes:
      settings: The settings, fully resolved, as plain values.
      provenance: Of the data.
      label_names: [C].
      seeds: [R].
      majority: Split -> the accuracy of always giving the commonest label of the training split.
      networks: All of them in the order of the plan, candidates included.
      group_names: [G], as all of the following by the primary grouping.
      group_sizes: Split -> [G] examples.
      warnings: Sentences about groups that are small, and about what was left out of the data.
      audits: (key of the network, split) -> audit.
      further: Name of each further grouping -> the audits by it.
      theory: What was measured at the dense network, if it was.
      measures: Further measures of the theory by name, plain values; None where none were asked for.
      costs: Key of a compressed network -> its size and speed beside those of the dense one; empty where not measured.
    """

    settings: dict[str, Any]
    provenance: str
    label_names: list[str]
    seeds: list[int]
    majority: dict[str, float]
    networks: tuple[Network, ...]
    group_names: list[str]
    group_sizes: dict[str, list[int]]
    warnings: list[str]
    audits: Audits
    further: Mapping[str, Grouped] = field(default_factory=dict)
    theory: TheoryResults | None = None
    measures: Mapping[str, Any] | None = None
    costs: Mapping[str, NetworkCosts] = field(default_factory=dict)

    def __repr__(self) -> str:
        names, by = ", ".join(dict.fromkeys(n.name for n in self.networks)), " and ".join(self.groupings)
        return f"Results({self.settings['name']} by {by}; seeds {self.seeds}; sparsities {self.sparsities}; {names})"

    @property
    def grouping(self) -> str:
        """The name of the primary grouping."""
        return self.settings["data"]["group"]

    @property
    def groupings(self) -> list[str]:
        """The names of all groupings, the primary one first."""
        return [self.grouping, *self.further]

    def by(self, grouping: str) -> "Results":
        """The same results by another grouping, without theory and multipliers.

        Raises:
          KeyError: It was not audited.
        """
        if grouping == self.grouping:
            return replace(self, further={})
        data = self.settings["data"] | {"group": grouping}
        return replace(
            self,
            **vars(self.further[grouping]),
            settings=self.settings | {"data": data},
            networks=tuple(replace(network, multipliers=None) for network in self.networks),
            theory=None,
            measures=None,
            further={},
        )

    @cached_property
    def splits(self) -> list[str]:
        """The audited splits."""
        return list(dict.fromkeys(split for _, split in self.audits))

    @property
    def answered_split(self) -> str:
        """The answer's split: the test split if it was audited."""
        return "test" if "test" in self.splits else self.splits[0]

    @property
    def sparsities(self) -> list[float]:
        """The sparsities above 0, in rising order."""
        return sorted({network.sparsity for network in self.networks if network.sparsity > 0})

    @property
    def dense(self) -> Network:
        """The plain dense network, with which all others are compared."""
        return self.networks[0]

    @property
    def pruned(self) -> str:
        """The name of the compressed network that is not retrained."""
        return next((n.name for n in self.networks if n.role == "compressed"), "")

    @property
    def methods(self) -> list[str]:
        """The names of the retrained networks, the baseline first."""
        names = dict.fromkeys(network.name for network in self.networks if network.role == "retrained")
        return sorted(names, key=lambda name: name != self.baseline)

    @property
    def models(self) -> list[str]:
        """The names of all compressed networks, retrained or not."""
        return list(dict.fromkeys(network.name for network in self.networks if network.sparsity > 0))

    @property
    def baseline(self) -> str:
        """The plainly retrained network; empty without one.

        The other retrained networks are compared with it.
        """
        plain = (n.name for n in self.networks if (n.role, n.method, n.dense) == ("retrained", "naive", "dense"))
        return next(plain, "")

    @property
    def rivals(self) -> list[str]:
        """The other retrained networks."""
        return [name for name in self.methods if name != self.baseline]

    @cached_property
    def reported(self) -> dict[tuple[str, float], Network]:
        """(name, sparsity) -> reported network, chosen among its candidates."""
        return {(n.name, n.sparsity): n for n in self.networks if n.chosen and not n.trouble}

    def network(self, name: str, sparsity: float = 0.0) -> Network:
        """The reported network of a name at a sparsity.

        Raises:
          KeyError: There is none.
        """
        return self.reported[name, sparsity]

    def title(self, name: str) -> str:
        """The name of a network for readers."""
        return next(network.title for network in self.networks if network.name == name)

    def audit(self, network: Network, split: str) -> Audit:
        """The audit of a network on a split, by the primary grouping.

        Raises:
          KeyError: There is none.
        """
        return self.audits[network.key, split]

    def tests(self, name: str, sparsity: float, split: str | None = None) -> HarmTests | None:
        """The tests of a reported network, or None.

        They are those of the answered split unless another is named.
        """
        network = self.reported.get((name, sparsity))
        audit = None if network is None else self.audits.get((network.key, split or self.answered_split))
        return None if audit is None else audit.tests


def audited(networks: Iterable[Network], audits: Audits) -> Iterable[tuple[Network, str, Audit]]:
    """Every audit with its network and split, in the networks' order."""
    by_key: dict[str, list[tuple[str, Audit]]] = {}
    for (key, split), audit in audits.items():
        by_key.setdefault(key, []).append((split, audit))
    for network in networks:
        for split, audit in by_key.get(network.key, []):
            yield network, split, audit
