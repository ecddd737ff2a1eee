"""Which layers hurt whom: the harm split over the layers."""

from functools import partial

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.numbers import percent, share_pruned, significant
from jaxprune.quantities import amount, cell, means_caption, seed_means
from jaxprune.reporting.group_display import groups_to_draw
from jaxprune.reporting.page import Figure, Section, Table
from jaxprune.reporting.shown import drawn
from jaxprune.reporting.style import PALETTE, WIDTH
from jaxprune.reporting.theory_values import has, headline_index, measured, theory_of
from jaxprune.results import Results

_TITLE = "Which layers hurt whom"
_MOST_LAYERS = 20
_SMALL_HARM = 1e-3  # nats: errors are given as shares of no less


def layer_attribution(results: Results) -> Section | None:
    """R(a) at the headline sparsity, split over the layers."""
    if not has(results, "attribution"):
        return None
    s = headline_index(results)
    observed, path, first, second = (
        measured(results, "attribution", n)[s] for n in ("observed", "path", "first_order", "second_order")
    )
    harm = np.where(np.isfinite(seed_means(path.sum(-1))), seed_means(observed), np.nan)
    if not np.isfinite(harm).any():
        return Section(_TITLE, ("No group has a finite harm to split.",))
    sparsity, worst, leaves = theory_of(results).sparsities[s], int(np.nanargmax(harm)), _leaves(results)
    mean = seed_means(path[:, worst])
    layer = int(np.nanargmax(mean))
    error = np.abs(observed - path.sum(-1))
    share = np.nanmax(error / np.maximum(np.abs(observed), _SMALL_HARM))
    sentence = (
        f"By loss and in the mean over these networks, {results.group_names[worst]} is hurt most at "
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
    return Section(_TITLE, (sentence, figure, table))


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
