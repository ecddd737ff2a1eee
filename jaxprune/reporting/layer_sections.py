"""The sections of the theory's chapter on layers: which of them hurt whom, and what would spare a group."""

import numpy as np

from jaxprune.reporting.cells import cell, means_caption
from jaxprune.reporting.laboratory_values import Section, group_means, headline_index, measured
from jaxprune.reporting.numbers import percent
from jaxprune.reporting.results import Results
from jaxprune.reporting.theory_findings import theory_of

_MOST_LAYERS = 20
_SMALL_HARM = 1e-3  # nats: errors are given as shares of no less


def attribution(results: Results) -> Section:
    """R(a) at the headline sparsity, split over the layers."""
    title, leaves = "Which layers hurt whom", (results.laboratory or {})["attribution"]["leaves"]
    s = headline_index(results)
    observed, path, first, second = (
        measured(results, "attribution", n)[s] for n in ("observed", "path", "first_order", "second_order")
    )
    harm = np.where(np.isfinite(group_means(path.sum(-1))), group_means(observed), np.nan)
    if not np.isfinite(harm).any():
        return Section(title, ("No group has a finite harm to split.",))
    sparsity, worst = theory_of(results).sparsities[s], int(np.nanargmax(harm))
    mean = group_means(path[:, worst])
    layer = int(np.nanargmax(mean))
    error = np.abs(observed - path.sum(-1))
    share = np.nanmax(error / np.maximum(np.abs(observed), _SMALL_HARM))
    by_size = [int(i) for i in np.argsort(-np.abs(mean)) if mean[i] != 0]
    parts = path[:, worst], first[:, worst], (first + second)[:, worst]
    rows = tuple(
        (leaves[i], *(cell(results, part[:, i], "layer_harm") for part in parts)) for i in by_size[:_MOST_LAYERS]
    )
    said = (
        f"By loss and in the mean over these networks, {results.group_names[worst]} is hurt most at "
        f"{percent(sparsity)} ({harm[worst]:+.3f} nats); {leaves[layer]} contributes most of that ({mean[layer]:+.3f} "
        "nats). This describes these networks: neither the group nor the layer is tested against the others. "
        f"The parts sum to R(a) to within {np.nanmax(error):.1g} nats, {percent(share, 2)} of it at most."
    )
    return Section(
        title,
        (said,),
        "theory-attribution",
        f"R(a) at {percent(sparsity)} split over the layers: the path integral of the gradient from the dense to the "
        "pruned network, layer by layer. Parts above zero hurt; the diamond is R(a). Means over seeds.",
        "Stacked bars of the harm of each group by layer",
        ("layer", "its part of R(a)", "Δᵀg alone", "with ½ΔᵀHΔ"),
        rows,
        f"{results.group_names[worst]} at {percent(sparsity)}: the part of each layer, exact and by Taylor’s first and "
        f"second order at the dense network, the largest first. Nats, {means_caption(len(results.seeds))}.",
    )


def sparing(results: Results) -> Section:
    """What a sparsity for each layer, chosen to spare the group hurt most, did when it was tried."""
    title, found = "A sparsity for each layer that would spare it", (results.laboratory or {})["sparing"]
    harm, spared = (measured(results, "sparing", n) for n in ("harm", "spared_harm"))
    rows, better, worse = [], 0, 0
    for s, sparsity in enumerate(theory_of(results).sparsities):
        g = int(found["group"][s])
        before, after = group_means(harm[s]), group_means(spared[s])
        if not np.isfinite([before[g], after[g]]).all():
            continue
        better += after[g] < before[g]
        worse += np.nanmax(after) > np.nanmax(before)
        levels = ", ".join(f"{n} {percent(q, 3)}" for n, q in zip(found["layers"], found["allocation"][s], strict=True))
        cells = [harm[s][:, g], spared[s][:, g], _largest(harm[s]), _largest(spared[s])]
        rows.append(
            (
                percent(sparsity),
                results.group_names[g],
                *(cell(results, values, "excessive_loss") for values in cells),
                percent(found["reached"][s]),
                levels,
            )
        )
    if not rows:
        return Section(title, ("No group has a finite harm to spare it.",))
    said = (
        "For the group hurt most at each sparsity, a sparsity for each layer was chosen by the harm of pruning the "
        "layers one at a time, and tried: by mean loss, the group is hurt less than by the run’s own pruning at "
        f"{better} of {len(rows)} sparsities. Group and layers were chosen on the same people that it is tried on, so "
        "new people may gain less. "
        + (
            f"At {worse} of them the largest harm of any group is greater instead."
            if worse
            else "No group is then hurt more than that group was."
        )
    )
    return Section(
        title,
        (said,),
        headings=("pruned", "group", "its R", "its R, spared", "largest R", "largest R, spared", "reached", "layers"),
        rows=tuple(rows),
        words=(0, 1, 7),
        note=f"{means_caption(len(results.seeds)).capitalize()}, on the theory’s split, without retraining. The "
        "largest R is that of the group hurt most on average.",
    )


def _largest(harm: np.ndarray) -> np.ndarray:
    """[R, G] -> [R] the harm of the group that is hurt most on average."""
    return harm[:, int(np.nanargmax(group_means(harm)))]
