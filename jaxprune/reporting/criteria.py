"""Values and texts of compared criteria at the sparsity of the answer."""

from collections.abc import Iterable

import numpy as np

from jaxprune.numbers import listing, percent
from jaxprune.results import Results
from jaxprune.results.comparison import MEASURES
from jaxprune.results.criteria import Stage, criteria_of
from jaxprune.results.verdicts import Verdict

# The measures that criteria are ranked by -> their names in sentences.
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


def title_of(criterion: str) -> str:
    """The name of a criterion for readers."""
    return criterion.replace("_", " ")


def capital(text: str) -> str:
    """A text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def quoted(criteria: Iterable[str]) -> str:
    """The titles of criteria in quotes, such as "“snip” and “taylor”"."""
    return listing([f"“{title_of(criterion)}”" for criterion in criteria])


def where(results: Results, stage: Stage) -> str:
    """The stage and its headline sparsity, as "not retrained, 70 % pruned"."""
    return f"{stage.words}, {percent(stage.comparison(results).headline)} pruned"


def reported(results: Results, stage: Stage, sparsity: float) -> dict[str, str]:
    """Criterion -> network, of those with measurements at a sparsity."""
    return {name: network for name, network in stage.networks.items() if (network, sparsity) in results.reported}


def works(results: Results, network: str, sparsity: float) -> bool:
    """Return whether the networks of every seed work.

    A network that gives everybody one label is fair in an empty way. Networks that were not tested count as working.
    """
    tests = results.tests(network, sparsity)
    return tests is None or bool(np.asarray(tests.working.works).all())


def working(results: Results, stage: Stage) -> list[str]:
    """The criteria whose networks of every seed work at the headline."""
    sparsity = stage.comparison(results).headline
    networks = reported(results, stage, sparsity)
    return [criterion for criterion, network in networks.items() if works(results, network, sparsity)]


def has_baseline(results: Results, stage: Stage) -> bool:
    """Return whether the baseline's networks work at some sparsity.

    Otherwise nothing can be compared with them.
    """
    return next(iter(stage.networks)) in working(results, stage)


def values_at(results: Results, stage: Stage, criterion: str, measure: str) -> np.ndarray:
    """[R] a measure at the headline sparsity, on the answered split."""
    comparison = stage.comparison(results)
    network = results.network(stage.networks[criterion], comparison.headline)
    return comparison.figures(network, results.answered_split)[measure]


def verdict_of(results: Results, stage: Stage, criterion: str, measure: str) -> Verdict | None:
    """The verdict against the baseline at the headline; None for it itself."""
    comparison = stage.comparison(results)
    return comparison.verdicts.get((comparison.headline, stage.networks[criterion], measure))


def by_accuracy(results: Results, stage: Stage, sparsity: float) -> list[str]:
    """The criteria with measurements, the most accurate first."""
    comparison, networks = stage.comparison(results), reported(results, stage, sparsity)

    def accuracy(criterion: str) -> float:
        network = results.network(networks[criterion], sparsity)
        return float(np.mean(comparison.figures(network, results.answered_split)["accuracy"]))

    return sorted(networks, key=lambda criterion: -accuracy(criterion))


def gain(measure: str, value: float) -> float:
    """A value whose rise is for the better."""
    return value if MEASURES[measure].more_is_better else -value


def baseline_of(results: Results) -> str:
    """The title of the criterion that the others are compared with."""
    return title_of(criteria_of(results)[0])
