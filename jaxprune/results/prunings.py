"""The networks of compared criteria or structures, by stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jaxprune.components import CRITERIA, ONE_SHOT, PLAIN, WITHOUT_GROUPS
from jaxprune.results.comparison import FAIRNESS, Comparison, change_between, compared
from jaxprune.results.records import Results
from jaxprune.results.verdicts import Verdict, judge

PRUNED, REESTIMATED = "pruned", "pruned_reestimated"


class Axis(NamedTuple):
    """The axis of pruning whose members a job compares.

    Attributes:
      setting: The path of the setting that names them, the baseline first.
      one: A member, for readers.
      several: Members.
    """

    setting: str
    one: str
    several: str


CRITERIA_AXIS = Axis("prune.criteria", "criterion", "criteria")
STRUCTURES_AXIS = Axis("prune.structures", "structure", "structures")


@dataclass(frozen=True)
class Stage:
    """Networks of every compared pruning that were treated alike afterwards.

    Attributes:
      name: `PRUNED`, `REESTIMATED`, or the method of retraining.
      words: What was done, as "not retrained".
      networks: Criterion or structure -> the name of its networks; the baseline comes first.
    """

    name: str
    words: str
    networks: Mapping[str, str]

    @property
    def retrained(self) -> bool:
        """Whether they were retrained."""
        return self.name not in (PRUNED, REESTIMATED)

    def comparison(self, results: Results) -> Comparison:
        """The comparison of all with the first one."""
        return compared(results, tuple(self.networks.values()))


def axis_of(results: Results) -> Axis:
    """The axis that a job compares members of.

    It is that of criteria for jobs that compare none.
    """
    return STRUCTURES_AXIS if results.settings["prune"].get("structures") else CRITERIA_AXIS


def prunings_of(results: Results) -> tuple[str, ...]:
    """The compared criteria or structures, the baseline first.

    It is empty for jobs that compare no prunings.
    """
    return tuple(results.settings["prune"].get(axis_of(results).several) or ())


def stages_of(results: Results) -> list[Stage]:
    """The stages of a comparison of prunings, in order.

    A pruning without networks at a stage is left out of it.
    """
    stages = []
    for name, ending in _endings(results).items():
        names = {pruning: pruning + ending for pruning in prunings_of(results)}
        networks = {pruning: network for pruning, network in names.items() if network in results.models}
        if networks and next(iter(networks)) == prunings_of(results)[0]:
            stages.append(Stage(name, _words(results, name, networks[prunings_of(results)[0]]), networks))
    return stages


def _endings(results: Results) -> dict[str, str]:
    """Stage -> the ending of the names of its networks."""
    methods = (PLAIN, *results.settings["retrain"].get("methods", ()))
    return {PRUNED: "", REESTIMATED: "_reestimated", **{method: f"+{method}" for method in methods}}


def _words(results: Results, name: str, network: str) -> str:
    """What was done, from the title of the first network."""
    if name == PRUNED:
        return unretrained(results)
    if name == REESTIMATED:
        return f"{unretrained(results)}, statistics re-estimated"
    title = results.title(network).removeprefix(f"{results.title(prunings_of(results)[0])}, ")
    return f"retrained ({title})"


def unretrained(results: Results) -> str:
    """What pruned networks are called that were not retrained.

    Schedules other than pruning at once train them, too.
    """
    return "not retrained" if results.settings["prune"]["schedule"] == ONE_SHOT else "not retrained further"


def knows_groups(criterion: str) -> bool:
    """Return whether a criterion reads the groups.

    It is False for one that is not installed here.
    """
    return criterion in CRITERIA and "groups" in CRITERIA.make(criterion).needs


def against_controls(results: Results, stage: Stage) -> dict[tuple[str, str, str], Verdict]:
    """(criterion, its control, measure) -> verdict at the headline sparsity.

    Each group-aware criterion is compared with itself without groups, where both were tried. The measures of `FAIRNESS`
    are one family over all pairs, accuracy is another.
    """
    comparison, split = stage.comparison(results), results.answered_split
    at, verdicts = comparison.headline, {}
    pairs = [(name, WITHOUT_GROUPS[name]) for name in stage.networks if WITHOUT_GROUPS.get(name) in stage.networks]
    for family in (FAIRNESS, ("accuracy",)):
        changes = {}
        for pair in pairs:
            mine, other = (stage.networks[name] for name in pair)
            if {(mine, at), (other, at)} <= set(comparison.chosen):
                changes |= {(*pair, one): change_between(results, mine, other, at, split, one) for one in family}
        verdicts |= judge(changes, len(family) * len(pairs))
    return verdicts


def comparisons_of(results: Results) -> list[Comparison]:
    """The comparisons of prunings at each stage, or of methods."""
    return [stage.comparison(results) for stage in stages_of(results)] or [compared(results)]


def reestimated_name(results: Results) -> str:
    """The name of pruned networks with re-estimated statistics.

    It is empty where there are none; where prunings are compared, it is that of the first.
    """
    name = f"{results.pruned}_reestimated"
    return name if name in results.models else ""
