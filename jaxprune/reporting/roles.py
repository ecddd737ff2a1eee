"""The networks of a job by role, and the answered sparsity."""

from typing import NamedTuple

import numpy as np

from jaxprune.auditing import GroupMetrics
from jaxprune.results import Audit, Network, Results, headline_sparsity
from jaxprune.results.figures import figures

_COLOURS = {
    "pruned": "#000000",
    "none": "#777777",
    "fair_before": "#56B4E9",
    "fair_after": "#D55E00",
    "fair_both": "#009E73",
}
_OTHERS = ("#0072B2", "#CC79A7", "#E69F00", "#8C6D31", "#7B4173", "#637939")  # of other ways of retraining


class Headline(NamedTuple):
    """The split and the sparsity that the answer is about."""

    split: str
    sparsity: float


def headline(results: Results, name: str = "") -> Headline:
    """The answered split and the largest sparsity at which networks work."""
    return Headline(results.answered_split, headline_sparsity(results, name))


def dense_metrics(results: Results, split: str) -> GroupMetrics:
    """The metrics of the plain dense networks."""
    return results.audit(results.dense, split).metrics


def audit_of(results: Results, name: str, sparsity: float, split: str) -> Audit:
    """The audit of the reported networks of a name."""
    return results.audit(results.network(name, sparsity), split)


def figures_of(results: Results, name: str, sparsity: float, split: str) -> dict[str, np.ndarray]:
    """The figures [R] over all groups of a reported network."""
    return figures(results, results.network(name, sparsity), split)


def compressed(results: Results, sparsity: float, split: str) -> Audit:
    """The audit of the networks as they are after pruning."""
    return audit_of(results, results.pruned, sparsity, split)


def before_and_after(results: Results) -> list[str]:
    """The names of the pruned networks, without and with plain retraining."""
    return [name for name in (results.pruned, results.baseline) if name]


def in_order(results: Results) -> list[Network]:
    """The reported networks by sparsity, in the order of the plan."""
    reported = [network for network in results.networks if network.chosen and not network.trouble]
    return sorted(reported, key=lambda network: network.sparsity)


def constrained_trainings(results: Results, sparsity: float) -> dict[str, Network]:
    """Title -> network with multipliers to show for a sparsity."""
    return {
        "Dense training" if network.role == "dense" else network.title: network
        for network in in_order(results)
        if network.multipliers is not None and network.sparsity in (0, sparsity)
    }


def colour(results: Results, name: str) -> str:
    """The colour of a network in figures."""
    others = [model for model in results.models if model not in _COLOURS]
    return _COLOURS[name] if name in _COLOURS else _OTHERS[others.index(name) % len(_OTHERS)]
