"""The experiment: networks, pruning, retraining and data."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxprune.components import CONFIGURED
from jaxprune.numbers import count, listing, percent, plural
from jaxprune.reporting.group_display import order_of_groups
from jaxprune.reporting.page import Content, Paragraph, Section, Table
from jaxprune.reporting.pruning_words import pruning_sentences
from jaxprune.reporting.training_words import began_from, retraining_epochs, rewound
from jaxprune.results import Network, Results
from jaxprune.types import Array

_SAME = 5e-4  # shares up to which a sparsity counts as reached


def section(results: Results) -> Section:
    """The networks, their pruning and retraining, and the data."""
    settings = results.settings
    return Section(
        "What was run",
        (
            f"{plural(len(results.seeds), 'network')} ({_network(settings['model'])}), one for each seed, were trained "
            f"for {plural(settings['train']['epochs'], 'epoch')} with {settings['train']['optimizer']}. "
            f"{began_from(results)}{pruning_sentences(results)} {rewound(results)}{_retraining(results)}"
            "Harm is always measured against the plain dense network of the same seed.",
            reached(results),
            *data(results),
        ),
        anchor="run",
    )


def _network(model: dict[str, Any]) -> str:
    text = model["name"]
    for name, words in {"channels": "channels", "hidden": "hidden layers"}.items():
        if model[name]:
            text += f", {words} {'-'.join(map(str, model[name]))}"
    return text


def reached(results: Results) -> str | None:
    """The sparsities that were reached, where not those asked for.

    Whole blocks or N:M groups may not add up to a sparsity. Of channels, a section of their own says what was removed.
    """
    if any(network.channels is not None for network in results.networks):
        return None
    differ = []
    for sparsity in results.sparsities:
        shares = [_reached(network) for network in results.networks if network.sparsity == sparsity and network.layers]
        if any(abs(share - sparsity) > _SAME for share in shares):
            least, most = (percent(share) for share in (min(shares), max(shares)))
            differ.append(f"{least if least == most else f'{least} to {most}'} for {percent(sparsity)}")
    return f"Sparsities that were reached: {listing(differ)}." if differ else None


def _reached(network: Network) -> float:
    """The share of prunable weights that is pruned, mean over seeds."""
    kept = sum(float(np.mean(layer["kept"])) for layer in network.layers)
    return 1 - kept / sum(layer["size"] for layer in network.layers)


def _retraining(results: Results) -> str:
    settings = results.settings
    if not results.methods:
        return ""
    fair = any(network.method == CONFIGURED and not network.values for network in results.networks)
    dense = any(network.role == "dense" and network.method == CONFIGURED for network in results.networks)
    where = "the dense training, on the retraining, or on both" if dense else "the retraining"
    constraint = settings["mitigation"]["constraint"]
    constrained = f"The fair models put the Lagrangian constraint “{constraint}” on {where}. "
    return (
        "Each pruned network was measured as it is, and retrained for "
        f"{plural(retraining_epochs(results), 'epoch')} with its masks fixed. {constrained if fair else ''}"
    )


def data(results: Results) -> tuple[Content, ...]:
    """The source of the data, and the examples of each group."""
    sizes = {split: _sizes(results, split) for split in results.group_sizes}
    rows = [(results.group_names[g], *(count(sizes[split][g]) for split in sizes)) for g in order_of_groups(results)]
    table = Table(("group", *sizes), tuple(rows), "Examples of each group.", from_worst=True)
    return Paragraph(f"Data: {results.provenance}", "soft"), table


def _sizes(results: Results, split: str) -> Sequence[float] | Array:
    """[G] people that the figures of a split are about.

    If the validation split is cut in half, one half is counted.
    """
    audited = split in results.splits
    return results.audit(results.dense, split).metrics.size[0] if audited else results.group_sizes[split]
