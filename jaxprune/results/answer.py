"""The answer of a run as values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jaxprune.auditing.working import KEPT
from jaxprune.results.harm_tests import HarmTests
from jaxprune.results.plain import to_plain
from jaxprune.results.records import Results

LEVEL = 0.05  # of the tests of all groups and measures of a network together
DECIDING = ("accuracy", "loss")  # the measures that the answer names a group by


@dataclass(frozen=True)
class GroupHarm:
    """The harm of one group by one measure.

    Attributes:
      group: Its name.
      people: Examples of it.
      change: Mean change, in the unit of the measure; more is worse.
      excess: The same minus that of everybody else.
      low: Lower end of the simultaneous interval of `excess`.
      high: Its upper end.
      p: Adjusted for all groups and measures.
      smallest_visible: The excess that would have been called clear with a probability of 80 %.
    """

    group: str
    people: int
    change: float
    excess: float
    low: float
    high: float
    p: float
    smallest_visible: float

    @property
    def clear(self) -> bool:
        """True if the group is hurt more than the rest, beyond chance."""
        return self.p < LEVEL and self.excess > 0 and self.change > 0

    @property
    def hurt(self) -> bool:
        """Whether the group loses anything, to the precision that is written."""
        return self.change >= 5e-4


@dataclass(frozen=True)
class MeasureAnswer:
    """The answer by one measure.

    Attributes:
      measure: "accuracy", "loss" or "flips".
      groups: Every group with examples, the one hurt most first.
    """

    measure: str
    groups: tuple[GroupHarm, ...]

    @property
    def worst(self) -> GroupHarm:
        """The group hurt most."""
        return self.groups[0]

    @property
    def clear(self) -> tuple[GroupHarm, ...]:
        """The groups that are hurt more than the rest, beyond chance."""
        return tuple(group for group in self.groups if group.clear)

    @property
    def unclear(self) -> tuple[GroupHarm, ...]:
        """The other groups."""
        return tuple(group for group in self.groups if not group.clear)


@dataclass(frozen=True)
class Break:
    """The sparsity at which networks stop working.

    Attributes:
      sparsity: The lowest sparsity at which a network no longer works.
      seeds: How many of the networks no longer work there.
      lost: Groups that get one label alone, or no right one, in at least half of these networks.
      uniform: Whether half of them gave up labels (less than half of the dense network's diversity is left).
      dense: Whether the dense networks themselves are no better than the commonest label.
    """

    sparsity: float
    seeds: int
    lost: tuple[str, ...]
    uniform: bool
    dense: bool


@dataclass(frozen=True)
class Answer:
    """The groups hurt at the largest sparsity with working networks.

    Attributes:
      split: Where it was measured.
      sparsity: The share of weights pruned.
      works: Whether the networks work there; where none does, the smallest sparsity is answered for.
      measures: By name.
      breaks: Where the networks stop working; None where they work at every sparsity.
    """

    split: str
    sparsity: float
    works: bool
    measures: Mapping[str, MeasureAnswer]
    breaks: Break | None

    @property
    def agree(self) -> bool:
        """True if accuracy and loss name the same group."""
        return len({self.measures[measure].worst.group for measure in DECIDING}) == 1

    def to_json(self) -> dict[str, Any]:
        """Plain values; accuracy and flips as shares of 1, loss in nats."""
        measures = [
            {
                "measure": name,
                "sparsity": self.sparsity,
                "worst": asdict(answer.worst),
                "clear": [asdict(group) for group in answer.clear],
                "others": [asdict(group) for group in answer.unclear],
            }
            for name, answer in self.measures.items()
        ]
        own = {"split": self.split, "sparsity": self.sparsity, "works": self.works, "level": LEVEL}
        return to_plain(own | {"measures": measures, "breaks": asdict(self.breaks) if self.breaks else None})


def headline_sparsity(results: Results, name: str = "") -> float:
    """The largest sparsity up to which networks of every seed work.

    If none work, it is the smallest sparsity.

    Networks that were not tested count as working.

    Args:
      results: Of the job.
      name: Of the networks; empty for those that are pruned and not retrained.
    """
    best = results.sparsities[0]
    for sparsity in results.sparsities:
        tests = results.tests(name or results.pruned, sparsity)
        if tests is not None and not tests.working.works.all():
            break
        best = sparsity
    return best


def answer_of(results: Results, name: str = "", sparsity: float | None = None) -> Answer:
    """The answer about one kind of networks, by default at its headline.

    Raises:
      KeyError: They were not tested.
    """
    name = name or results.pruned
    sparsity = headline_sparsity(results, name) if sparsity is None else sparsity
    tests = results.tests(name, sparsity)
    if tests is None:
        raise KeyError(f"{name} at {sparsity:g} was not tested")
    return Answer(
        split=results.answered_split,
        sparsity=sparsity,
        works=bool(tests.working.works.all()),
        measures={measure: _measure_answer(results, tests, measure) for measure in tests.harm},
        breaks=_break(results, name),
    )


def _measure_answer(results: Results, tests: HarmTests, measure: str) -> MeasureAnswer:
    harm = tests.harm[measure]
    order = [int(g) for g in np.argsort(-harm.change, kind="stable") if np.isfinite(harm.change[g])]
    return MeasureAnswer(
        measure=measure,
        groups=tuple(
            GroupHarm(
                group=results.group_names[g],
                people=int(harm.people[g]),
                **{n: float(getattr(harm, n)[g]) for n in harm._fields if n != "people"},
            )
            for g in order
        ),
    )


def _break(results: Results, name: str) -> Break | None:
    for sparsity in results.sparsities:
        tests = results.tests(name, sparsity)
        if tests is None:
            continue
        working = tests.working
        broken = np.asarray(working.works, float) == 0
        if broken.any():
            times = np.asarray(working.lost, float)[broken].sum(0)
            order = np.argsort(-times, kind="stable")
            return Break(
                sparsity=sparsity,
                seeds=int(broken.sum()),
                lost=tuple(results.group_names[g] for g in order if 2 * times[g] >= broken.sum() > 0),
                uniform=bool(np.mean(np.asarray(working.diversity)[broken] < KEPT) >= 0.5),
                dense=bool(np.isnan(np.asarray(working.skill, float)[broken]).all()),
            )
    return None
