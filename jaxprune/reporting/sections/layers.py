"""Layers: their parts of the harm, and sparsities that spare groups."""

from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.numbers import percent, share_pruned, significant
from jaxprune.quantities import amount, cell, means_caption, seed_means
from jaxprune.reporting.group_display import groups_to_draw
from jaxprune.reporting.page import Figure, Section, Table
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.style import PALETTE, WIDTH
from jaxprune.reporting.theory_values import has, headline_index, measured, theory_of
from jaxprune.results import Results

_ATTRIBUTION = "Which layers hurt whom"
_MOST_LAYERS = 20
_SMALL_HARM = 1e-3  # nats: errors are given as shares of no less


def attribution(results: Results) -> Section | None:
    """R(a) at the headline sparsity, split over the layers."""
    if not has(results, "attribution"):
        return None
    s = headline_index(results)
    observed, path, first, second = (
        measured(results, "attribution", n)[s] for n in ("observed", "path", "first_order", "second_order")
    )
    harm = np.where(np.isfinite(seed_means(path.sum(-1))), seed_means(observed), np.nan)
    if not np.isfinite(harm).any():
        return Section(_ATTRIBUTION, ("No group has a finite harm to split.",))
    sparsity, worst, leaves = theory_of(results).sparsities[s], int(np.nanargmax(harm)), _leaves(results)
    mean = seed_means(path[:, worst])
    layer = int(np.nanargmax(mean))
    error = np.abs(observed - path.sum(-1))
    share = np.nanmax(error / np.maximum(np.abs(observed), _SMALL_HARM))
    sentence = (
        f"By loss and averaged over these networks, {results.group_names[worst]} is hurt most at "
        f"{percent(sparsity)} ({amount(harm[worst], 'layer_harm')}); {leaves[layer]} contributes most of that "
        f"({amount(mean[layer], 'layer_harm')}). This describes these networks: neither the group nor the layer is "
        f"tested against the others. The parts sum to R(a) to within {significant(np.nanmax(error), 1)} nats, "
        f"{percent(share, 2)} of it at most."
    )
    figure = Figure(
        "theory-attribution",
        partial(_draw, drawn(results)),
        f"R(a) at {percent(sparsity)} split over the layers: the path integral of the gradient from the dense to the "
        "pruned network, layer by layer. Parts above zero hurt; the diamond is R(a). Means over seeds.",
        "Stacked bars of the harm of each group by layer",
    )
    by_size = [int(i) for i in np.argsort(-np.abs(mean)) if mean[i] != 0]
    parts = path[:, worst], first[:, worst], (first + second)[:, worst]
    table = Table(
        ("layer", "its part of R(a)", "Δᵀg alone", "with ½ΔᵀHΔ"),
        tuple(
            (leaves[i], *(cell(results, part[:, i], "layer_harm") for part in parts)) for i in by_size[:_MOST_LAYERS]
        ),
        f"{results.group_names[worst]} at {percent(sparsity)}: the part of each layer, exact and by Taylor’s first and "
        f"second order at the dense network, the largest first. Nats, {means_caption(len(results.seeds))}.",
    )
    return Section(_ATTRIBUTION, (sentence, figure, table))


def _leaves(results: Results) -> list[str]:
    return (results.measures or {})["attribution"]["leaves"]


def _draw(results: Results) -> Drawing | None:
    s, groups = headline_index(results), groups_to_draw(results)
    observed = seed_means(measured(results, "attribution", "observed")[s])[groups]
    path = seed_means(np.moveaxis(measured(results, "attribution", "path")[s], 0, 1))[groups]
    large = np.any(np.abs(path) > 0, 0)
    if not np.isfinite(observed).any() or not large.any():
        return None
    names = [name for name, shown in zip(_leaves(results), large, strict=True) if shown]
    rows = np.arange(len(groups))
    shades = PALETTE[:-1] if len(names) < len(PALETTE) else mpl.colormaps["viridis"](np.linspace(0, 0.95, len(names)))
    figure = Drawing((WIDTH, 1.5 + 0.36 * len(rows)))
    axes = figure.subplots()
    up, down = np.zeros(len(rows)), np.zeros(len(rows))
    for shade, name, part in zip(shades, names, np.nan_to_num(path[:, large]).T, strict=False):
        axes.barh(rows, part, left=np.where(part >= 0, up, down), height=0.62, color=shade, label=name)
        up, down = up + np.maximum(part, 0), down + np.minimum(part, 0)
    axes.scatter(observed, rows, marker="D", s=26, color="white", edgecolor="#111111", zorder=4, label="R(a)")
    axes.axvline(0, color="#666666", lw=0.8)
    axes.set_yticks(rows, [results.group_names[g] for g in groups])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"contribution to R(a) at {share_pruned(theory_of(results).sparsities[s])} (nats)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


_SPARSITIES = "A sparsity for each layer to spare the group hurt most"


def sparsities(results: Results) -> Section | None:
    """The effect of layer sparsities chosen for the group hurt most."""
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
        return Section(_SPARSITIES, ("No group has a finite harm to spare it.",))
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
    return Section(_SPARSITIES, (sentence, table))


def _largest(harm: np.ndarray) -> np.ndarray:
    """[R] the harm of the group hurt most on average."""
    return harm[:, int(np.nanargmax(seed_means(harm)))]
