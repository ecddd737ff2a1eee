"""Values and texts of compared prunings at the sparsity of the answer."""

from collections.abc import Iterable

import numpy as np

from jaxprune.numbers import listing, percent, plural
from jaxprune.results import Results
from jaxprune.results.comparison import MEASURES
from jaxprune.results.prunings import STRUCTURES_AXIS, Stage, axis_of, prunings_of
from jaxprune.results.verdicts import Verdict

# The measures that prunings are ranked by -> their names in sentences.
RANKED = {
    "accuracy": "accuracy",
    "worst_group_accuracy": "the accuracy of the worst group",
    "excessive_loss_spread": "the spread ξ",
    "max_excess_accuracy_gap": "the largest ψ",
}

SHORT_NAMES = {
    "accuracy": "accuracy",
    "max_excess_accuracy_gap": "the largest ψ",
    "accuracy_spread": "the accuracy spread",
    "excessive_loss_spread": "the spread ξ",
    "worst_group_accuracy": "the worst group",
}


def title_of(results: Results, pruning: str) -> str:
    """The name of a criterion or a structure for readers."""
    return results.title(pruning)


def capital(text: str) -> str:
    """A text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def quoted(results: Results, prunings: Iterable[str]) -> str:
    """The titles of prunings in quotes, such as "“snip” and “taylor”"."""
    return listing([f"“{title_of(results, pruning)}”" for pruning in prunings])


def counted(results: Results, number: int, words: str = "") -> str:
    """A number of compared things, such as "3 other criteria"."""
    axis = axis_of(results)
    return plural(number, f"{words}{axis.one}", f"{words}{axis.several}")


def where(results: Results, stage: Stage, sparsity: float | None = None) -> str:
    """The stage and a sparsity, as "not retrained, 70 % pruned".

    The sparsity is that of the answer by default.
    """
    return f"{stage.words}, {percent(answered(results, stage) if sparsity is None else sparsity)} pruned"


def answered(results: Results, stage: Stage) -> float:
    """The sparsity that a stage is answered for.

    It is the largest up to which the networks of the baseline work. Of structures, which are few and break at different
    sparsities, it is the largest of these at which as many as possible work.
    """
    headline = stage.comparison(results).headline
    if axis_of(results) != STRUCTURES_AXIS:
        return headline
    below = [sparsity for sparsity in results.sparsities if sparsity <= headline]
    return max(below, key=lambda sparsity: (len(working(results, stage, sparsity)), sparsity))


def reported(results: Results, stage: Stage, sparsity: float) -> dict[str, str]:
    """Pruning -> network, of those with measurements at a sparsity."""
    return {name: network for name, network in stage.networks.items() if (network, sparsity) in results.reported}


def works(results: Results, network: str, sparsity: float) -> bool:
    """Return whether the networks of every seed work.

    A network that gives everybody one label is fair in an empty way. Networks that were not tested count as working.
    """
    tests = results.tests(network, sparsity)
    return tests is None or bool(np.asarray(tests.working.works).all())


def working(results: Results, stage: Stage, sparsity: float | None = None) -> list[str]:
    """The prunings whose networks of every seed work.

    It is at the answered sparsity by default.
    """
    at = answered(results, stage) if sparsity is None else sparsity
    networks = reported(results, stage, at)
    return [pruning for pruning, network in networks.items() if works(results, network, at)]


def has_baseline(results: Results, stage: Stage) -> bool:
    """Return whether the baseline's networks work at some sparsity.

    Otherwise nothing can be compared with them.
    """
    return next(iter(stage.networks)) in working(results, stage)


def values_at(results: Results, stage: Stage, pruning: str, measure: str) -> np.ndarray:
    """[R] a measure at the answered sparsity, on the answered split."""
    network = results.network(stage.networks[pruning], answered(results, stage))
    return stage.comparison(results).figures(network, results.answered_split)[measure]


def verdict_of(results: Results, stage: Stage, pruning: str, measure: str) -> Verdict | None:
    """The verdict at the answered sparsity; None for the baseline itself."""
    return stage.comparison(results).verdicts.get((answered(results, stage), stage.networks[pruning], measure))


def by_accuracy(results: Results, stage: Stage, sparsity: float) -> list[str]:
    """The prunings with measurements, the most accurate first."""
    comparison, networks = stage.comparison(results), reported(results, stage, sparsity)

    def accuracy(pruning: str) -> float:
        network = results.network(networks[pruning], sparsity)
        return float(np.mean(comparison.figures(network, results.answered_split)["accuracy"]))

    return sorted(networks, key=lambda pruning: -accuracy(pruning))


def gain(measure: str, value: float) -> float:
    """A value whose rise is for the better."""
    return value if MEASURES[measure].more_is_better else -value


def baseline_of(results: Results) -> str:
    """The title of what the others are compared with."""
    return title_of(results, prunings_of(results)[0])
