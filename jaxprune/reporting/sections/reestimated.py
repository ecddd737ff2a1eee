"""The effect of re-estimated BatchNorm statistics on each group."""

import numpy as np

from jaxprune.numbers import count, percent, plural, share_pruned
from jaxprune.quantities import amount, cell, means_caption, seed_means
from jaxprune.reporting.group_display import order_of_groups
from jaxprune.reporting.page import Section, Table
from jaxprune.reporting.pruning_name import unit_name
from jaxprune.reporting.roles import audit_of, figures_of, headline
from jaxprune.results import Results
from jaxprune.results.prunings import reestimated_name

# Measure -> its heading, its quantity, and that of a difference.
_MEASURES = {"accuracy": ("accuracy %", "accuracy", "accuracy_drop"), "loss": ("loss", "loss", "excessive_loss")}


def section(results: Results) -> Section | None:
    """Accuracy and loss of each group before and after, without retraining."""
    again = reestimated_name(results)
    if not again:
        return None
    return Section("Statistics re-estimated after pruning", (_sentence(results, again), _table(results, again)))


def _sentence(results: Results, again: str) -> str:
    split, sparsity = headline(results)
    by_seed = _change(results, again, "accuracy")
    change = seed_means(by_seed)
    what = (
        f"The statistics of the BatchNorm layers were measured anew on the training split, with {percent(sparsity)} of "
        f"the {unit_name(results)} pruned"
    )
    known = np.flatnonzero(np.isfinite(change))
    if not known.size or not np.nan_to_num(by_seed).any():
        return f"{what}: no group’s accuracy changes on the {split} split."
    most, least = (int(known[pick(change[known])]) for pick in (np.argmax, np.argmin))
    spreads = [
        np.mean(figures_of(results, name, sparsity, split)["accuracy_spread"]) for name in (results.pruned, again)
    ]
    before, after = (amount(spread, "accuracy_spread") for spread in spreads)
    return (
        f"{what}. On the {split} split, that raises the accuracy of {int(np.sum(change[known] > 0))} of "
        f"{plural(len(known), 'group')}; the change is best for {results.group_names[most]} "
        f"({amount(change[most], 'accuracy_drop')}) and worst for {results.group_names[least]} "
        f"({amount(change[least], 'accuracy_drop')}). The accuracy spread goes from {before} to {after}. This "
        "describes these networks: no group is tested against another."
    )


def _table(results: Results, again: str) -> Table:
    split, sparsity = headline(results)
    rows = []
    for g in order_of_groups(results):
        cells = []
        for measure, (_, quantity, change) in _MEASURES.items():
            values = [_values(results, name, measure)[:, g] for name in (results.pruned, again)]
            cells += [cell(results, one, quantity) for one in values]
            cells.append(cell(results, _change(results, again, measure)[:, g], change))
        rows.append((results.group_names[g], count(results.group_sizes[split][g]), *cells))
    return Table(
        ("group", "n", *(("before", "after", "difference") * len(_MEASURES))),
        tuple(rows),
        f"{results.title(results.pruned)}, {share_pruned(sparsity)}, {split} split: before and after the statistics "
        f"were re-estimated; {means_caption(len(results.seeds))}.",
        above=(("", 1), ("", 1), *((heading, 3) for heading, _, _ in _MEASURES.values())),
        from_worst=True,
    )


def _values(results: Results, name: str, measure: str) -> np.ndarray:
    """[R, G] a measure at the headline sparsity."""
    split, sparsity = headline(results)
    return np.asarray(getattr(audit_of(results, name, sparsity, split).metrics, measure), np.float64)


def _change(results: Results, again: str, measure: str) -> np.ndarray:
    """[R, G] after minus before."""
    return _values(results, again, measure) - _values(results, results.pruned, measure)
