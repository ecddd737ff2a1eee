"""The experiment: networks, pruning, retraining and data."""

from collections.abc import Sequence
from typing import Any

from jaxprune.components import CONFIGURED
from jaxprune.numbers import count, listing, percent, plural
from jaxprune.reporting.group_display import order_of_groups
from jaxprune.reporting.page import Content, Paragraph, Section, Table
from jaxprune.results import Results
from jaxprune.types import Array


def section(results: Results) -> Section:
    """The networks, their pruning and retraining, and the data."""
    settings = results.settings
    return Section(
        "What was run",
        (
            f"{plural(len(results.seeds), 'network')} ({_network(settings['model'])}), one for each seed, were trained "
            f"for {plural(settings['train']['epochs'], 'epoch')} with {settings['train']['optimizer']}. The "
            f"{settings['prune']['allocation']} {settings['prune']['criterion']} criterion pruned "
            f"{listing([percent(share) for share in settings['prune']['sparsities']])} of the kernel weights of each. "
            f"{_retraining(results)}Harm is always measured against the plain dense network of the same seed.",
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


def _retraining(results: Results) -> str:
    settings = results.settings
    if not results.methods:
        return ""
    fair = any(network.method == CONFIGURED and not network.values for network in results.networks)
    constrained = (
        f"The fair models put the Lagrangian constraint “{settings['mitigation']['constraint']}” on the dense "
        "training, on the retraining, or on both. "
    )
    return (
        "Each pruned network was measured as it is, and retrained for "
        f"{plural(settings['retrain']['epochs'], 'epoch')} with its masks fixed. {constrained if fair else ''}"
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
