"""What was run: networks, pruning and retraining, and the data."""

from collections.abc import Sequence
from typing import Any

from jaxprune.numbers import count, listing, percent, plural
from jaxprune.reporting.group_display import order_of_groups
from jaxprune.reporting.page import Content, Paragraph, Section, Table
from jaxprune.results import Results


def experiment(results: Results) -> Section:
    """The networks of a run, how they were pruned and retrained, and the data."""
    settings = results.settings
    return Section(
        "What was run",
        (
            f"{plural(len(results.seeds), 'network')} ({_network(settings['model'])}), one for each seed, were trained "
            f"for {plural(settings['train']['epochs'], 'epoch')} with {settings['train']['optimizer']}. Of each, the "
            f"{settings['prune']['scope']} {settings['prune']['criterion']} criterion pruned "
            f"{listing([percent(share) for share in settings['prune']['sparsities']])} of the kernel weights. "
            f"{_retraining(settings)}Harm is always measured against the plain dense network of the same seed.",
            *data(results, order_of_groups(results)),
        ),
        anchor="run",
    )


def _network(model: dict[str, Any]) -> str:
    text = model["name"]
    for name, words in {"channels": "channels", "hidden": "hidden layers"}.items():
        if model[name]:
            text += f", {words} {'-'.join(map(str, model[name]))}"
    return text


def _retraining(settings: dict[str, Any]) -> str:
    if not settings["retrain"]["epochs"]:
        return ""
    return (
        "Each pruned network was measured as it is, and retrained for "
        f"{plural(settings['retrain']['epochs'], 'epoch')} with its masks held. The fair models put the Lagrangian "
        f"constraint “{settings['mitigation']['constraint']}” on the dense training, on the retraining, or on both. "
    )


def data(results: Results, order: Sequence[int]) -> tuple[Content, ...]:
    """Where the data comes from, and the examples of each group.

    Args:
      results: Of a job.
      order: The groups in the order of the table.
    """
    sizes = results.group_sizes
    rows = [(results.group_names[g], *(count(sizes[split][g]) for split in sizes)) for g in order]
    table = Table(("group", *sizes), tuple(rows), "Examples of each group.", from_worst=True)
    return Paragraph(f"Data: {results.provenance}", "soft"), table
