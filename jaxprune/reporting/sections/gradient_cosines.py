"""Cosines between the gradients of the groups."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing
from matplotlib.layout_engine import ConstrainedLayoutEngine

from jaxprune.quantities import QUANTITIES, seed_means
from jaxprune.reporting.group_display import groups_to_draw
from jaxprune.reporting.page import Figure, Section
from jaxprune.reporting.shown import drawn
from jaxprune.reporting.style import WIDTH
from jaxprune.reporting.theory_values import has, measured
from jaxprune.results import Results

_MOST_CELLS = 12  # groups on a side of a matrix whose numbers can be read
_LETTERS = 90  # that fit side by side below an axis
_text = QUANTITIES["correlation"].text


def gradient_cosines(results: Results) -> Section | None:
    """Which groups' gradients point away from each other."""
    if not has(results, "cosines"):
        return None
    cosines, names = _means(results), results.group_names
    pairs = [(cosines[a, b], names[a], names[b]) for a in range(len(names)) for b in range(a)]
    known = sorted(pair for pair in pairs if np.isfinite(pair[0]))
    sentences = ["There are no two groups with gradients to compare."]
    if known:
        opposed, (lowest, one, other) = sum(cosine < 0 for cosine, *_ in known), known[0]
        sentences = [
            f"In the mean over these networks, the gradients of {opposed} of {len(known)} pairs of groups point away "
            f"from each other (cosine below 0); {one} and {other} the most ({_text(lowest)})."
            if opposed
            else "In the mean over these networks, the gradients of all groups point the same way; those of "
            f"{one} and {other} are least alike (cosine {_text(lowest)})."
        ]
    if len(names) == 2:
        sentences.append("At a stationary point those of two groups would cancel out: a cosine of −1.")
    figure = Figure(
        "theory-cosines",
        partial(_draw, drawn(results)),
        "Cosine between the loss gradients of every two groups at the dense network, mean over seeds. Below 0, a step "
        "that lowers the loss of one raises that of the other.",
        "Matrix of cosines between the gradients of the groups",
    )
    return Section("Do the groups pull against each other?", (*sentences, figure))


def _means(results: Results) -> np.ndarray:
    """[G, G] means over the seeds."""
    return seed_means(np.moveaxis(measured(results, "cosines", "cosines"), 0, 1))


def _draw(results: Results) -> Drawing | None:
    groups = groups_to_draw(results)
    names = [results.group_names[g] for g in groups]
    values = _means(results)[np.ix_(groups, groups)]
    if np.isfinite(values).sum() <= len(names):
        return None
    figure = Drawing((WIDTH, 1.4 + 0.36 * len(names)), layout=ConstrainedLayoutEngine(w_pad=0.12))
    axes = figure.subplots()
    off_diagonal = np.where(np.eye(len(names), dtype=bool), np.nan, values)
    image = axes.imshow(off_diagonal, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    if len(names) <= _MOST_CELLS:
        for a, b in np.argwhere(np.isfinite(off_diagonal)):
            colour = "white" if abs(values[a, b]) > 0.6 else "#222222"
            axes.text(b, a, _text(values[a, b]), ha="center", va="center", fontsize=8, color=colour)
    places, crowded = range(len(names)), sum(map(len, names)) > _LETTERS
    axes.set_xticks(places, names, **({"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if crowded else {}))
    axes.set_yticks(places, names)
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="cosine of the gradients", pad=0.02)
    return figure
