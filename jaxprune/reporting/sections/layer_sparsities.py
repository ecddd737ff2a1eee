"""A sparsity for each layer, chosen to spare the group hurt most, as it was tried."""

import numpy as np

from jaxprune.numbers import percent
from jaxprune.quantities import cell, means_caption, seed_means
from jaxprune.reporting.page import Section, Table
from jaxprune.reporting.theory_values import has, measured, theory_of
from jaxprune.results import Results

_TITLE = "A sparsity for each layer that would spare it"


def layer_sparsities(results: Results) -> Section | None:
    """What a sparsity for each layer did to the group hurt most."""
    if not has(results, "sparing"):
        return None
    plan = (results.measures or {})["sparing"]
    harm, spared = (measured(results, "sparing", name) for name in ("harm", "spared_harm"))
    rows, better, worse = [], 0, 0
    for s, sparsity in enumerate(theory_of(results).sparsities):
        g = int(plan["group"][s])
        before, after = seed_means(harm[s]), seed_means(spared[s])
        if not np.isfinite([before[g], after[g]]).all():
            continue
        better += after[g] < before[g]
        worse += np.nanmax(after) > np.nanmax(before)
        levels = zip(plan["layers"], plan["allocation"][s], strict=True)
        values = [harm[s][:, g], spared[s][:, g], _largest(harm[s]), _largest(spared[s])]
        rows.append(
            (
                percent(sparsity),
                results.group_names[g],
                *(cell(results, column, "excessive_loss") for column in values),
                percent(plan["reached"][s]),
                ", ".join(f"{name} {percent(level, 3)}" for name, level in levels),
            )
        )
    if not rows:
        return Section(_TITLE, ("No group has a finite harm to spare it.",))
    sentence = (
        "For the group hurt most at each sparsity, a sparsity for each layer was chosen by the harm of pruning the "
        "layers one at a time, and tried: by mean loss, the group is hurt less than by the run’s own pruning at "
        f"{better} of {len(rows)} sparsities. Group and layers were chosen on the same people that it is tried on, so "
        "new people may gain less. "
    )
    sentence += (
        f"At {worse} of them the largest harm of any group is greater instead."
        if worse
        else "No group is then hurt more than that group was."
    )
    table = Table(
        ("pruned", "group", "its R", "its R, spared", "largest R", "largest R, spared", "reached", "layers"),
        tuple(rows),
        f"{means_caption(len(results.seeds)).capitalize()}, on the theory’s split, without retraining. The largest R "
        "is that of the group hurt most on average.",
        words=(0, 1, 7),
    )
    return Section(_TITLE, (sentence, table))


def _largest(harm: np.ndarray) -> np.ndarray:
    """[R, G] -> [R] the harm of the group that is hurt most on average."""
    return harm[:, int(np.nanargmax(seed_means(harm)))]
