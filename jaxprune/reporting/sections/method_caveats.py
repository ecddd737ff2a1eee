"""Caveats of a comparison."""

from collections.abc import Iterator

import numpy as np

from jaxprune.numbers import count, percent, significant
from jaxprune.reporting.methods import candidate_text, reported_trials
from jaxprune.reporting.page import Bullets, Section
from jaxprune.reporting.pruning_words import further_training
from jaxprune.reporting.sections.dense_caveats import dense_learned, of_dense
from jaxprune.results import Network, Results
from jaxprune.results.comparison import Comparison, compared
from jaxprune.text import name_some

_FEW = 200  # test examples of a group
_HUGE = 100.0  # a multiplier beside which the loss, whose weight is 1, has no effect


def section(results: Results) -> Section | None:
    """Troubled trainings, broken networks and small groups."""
    comparison = compared(results)
    further = (*of_dense(results), *further_training(results))
    notes = (*of_training(comparison), *further, *_of_chosen(comparison), *of_groups(comparison))
    return Section("Read with care", (Bullets(notes),)) if notes else None


def of_training(comparison: Comparison) -> Iterator[str]:
    """Trials that diverged, and those whose constraint outweighed the loss."""
    for network in comparison.trials:
        if network.trouble:
            yield f"{_name(network)} diverged and is left out: {network.trouble}"
        largest = 0 if network.multipliers is None else float(np.max(np.abs(network.multipliers)))
        if not largest <= _HUGE:  # NaN too
            settings = "choice.dual_rates" + (" and mitigation.dual_rate" if network.method == "configured" else "")
            yield (
                f"{_name(network)}: a multiplier reached {significant(largest, 2)}, so that the constraint "
                f"outweighed the loss; leave that dual rate out of {settings}."
            )


def _of_chosen(comparison: Comparison) -> Iterator[str]:
    """Chosen networks with rising multipliers, and broken ones.

    Multipliers rise if they do in the last fifth of the training.
    """
    networks = reported_trials(comparison)
    for method, network in networks.items():
        if network.multipliers is not None and network.inequality is not None:
            size = np.abs(network.multipliers).max(-1).mean(0)  # [points]
            if len(size) > 10 and size[-1] > 0.05 and size[-1] > 1.2 * size[int(0.8 * len(size))]:
                yield (
                    f"{comparison.results.title(method)}: a multiplier is still rising at the end "
                    f"({significant(size[-1], 2)}): its constraint is not met, or the training was too short for it."
                )
    broken = [
        f"“{comparison.results.title(method)}” ({int(np.sum(works == 0))} of {len(works)} seeds)"
        for method in networks
        if not (works := _works(comparison, method)).all()
    ]
    if broken and dense_learned(comparison.results).any():
        yield (
            f"Networks that no longer work at {percent(comparison.headline)}: {', '.join(broken)}. Their figures show "
            "only which label they give to everyone."
        )


def _works(comparison: Comparison, method: str) -> np.ndarray:
    """[R] whether a method's networks still work; empty if not judged."""
    tests = comparison.results.tests(method, comparison.headline)
    return np.zeros(0) if tests is None else np.asarray(tests.working.works, float)


def of_groups(comparison: Comparison) -> Iterator[str]:
    """Groups with few people."""
    sizes = zip(comparison.results.group_names, comparison.results.group_sizes["test"], strict=True)
    if small := [f"{name} ({count(size)})" for name, size in sizes if size < _FEW]:
        yield (
            f"Groups with few people in the test split: {name_some(small)}. The largest and the smallest figure over "
            "the groups are then partly chance, and no method can bring their difference to 0."
        )


def _name(network: Network) -> str:
    """A network as title, sparsity and hyperparameters."""
    values = candidate_text(network.values)
    return f"{network.title} at {percent(network.sparsity)}{f' with {values}' if values else ''}"
