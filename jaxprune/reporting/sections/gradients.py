"""Gradients of groups and of their members, and how far they agree."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing
from matplotlib.layout_engine import ConstrainedLayoutEngine

from jaxprune.quantities import QUANTITIES, cell, means_caption, seed_means
from jaxprune.reporting.group_display import groups_to_draw
from jaxprune.reporting.page import Figure, Section, Table
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.style import WIDTH
from jaxprune.reporting.theory_values import has, measured, theory_of
from jaxprune.results import Results

_MOST_CELLS = 12  # groups on a side of a matrix whose numbers can be read
_LETTERS = 90  # that fit side by side below an axis
_text = QUANTITIES["correlation"].text


def cosines(results: Results) -> Section | None:
    """Which groups' gradients point away from each other."""
    if not has(results, "cosines"):
        return None
    cosines, names = _cosines(results), results.group_names
    pairs = [(cosines[a, b], names[a], names[b]) for a in range(len(names)) for b in range(a)]
    known = sorted(pair for pair in pairs if np.isfinite(pair[0]))
    sentences = ["There are no two groups with gradients to compare."]
    if known:
        opposed, (lowest, one, other) = sum(cosine < 0 for cosine, *_ in known), known[0]
        sentences = [
            f"Averaged over these networks, the gradients of {opposed} of {len(known)} pairs of groups point away "
            f"from each other (cosine below 0); {one} and {other} the most ({_text(lowest)})."
            if opposed
            else "Averaged over these networks, the gradients of all groups point the same way; those of "
            f"{one} and {other} are least alike (cosine {_text(lowest)})."
        ]
    if len(names) == 2:
        sentences.append("At a stationary point those of two groups cancel out: a cosine of −1.")
    figure = Figure(
        "theory-cosines",
        partial(_draw, drawn(results)),
        "Cosine between the loss gradients of every two groups at the dense network, mean over seeds. Below 0, a step "
        "that lowers the loss of one raises that of the other.",
        "Matrix of cosines between the gradients of the groups",
    )
    return Section("Do the gradients of the groups oppose each other?", (*sentences, figure))


def _cosines(results: Results) -> np.ndarray:
    """[G, G] means over the seeds."""
    return seed_means(np.moveaxis(measured(results, "cosines", "cosines"), 0, 1))


def _draw(results: Results) -> Drawing | None:
    groups = groups_to_draw(results)
    names = [results.group_names[g] for g in groups]
    values = _cosines(results)[np.ix_(groups, groups)]
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


def members(results: Results) -> Section | None:
    """Norms of the members' gradients beside that of their mean."""
    if not has(results, "examples"):
        return None
    each, together = measured(results, "examples", "mean_of_norms"), theory_of(results).gradient_norm
    ratio = np.where(together > 0, each / np.where(together > 0, together, 1), np.nan)
    columns = {
        "mean of ‖∇ℓ‖": (each, "norm"),
        "‖g‖ = ‖mean of ∇ℓ‖": (together, "gradient_norm"),
        "ratio": (ratio, "ratio"),
    }
    note = "A ratio of 1 means that all point the same way; a large one, that they cancel out."
    table = table_of_groups(results, columns, f"{means_caption(len(results.seeds)).capitalize()}. {note}")
    return Section("Do the gradients of a group’s members agree?", (table,))


def table_of_groups(results: Results, columns: Mapping[str, tuple[np.ndarray, str]], caption: str) -> Table:
    """A row for each group.

    Args:
      results: With the groups.
      columns: Heading -> values [R, G], and their quantity.
      caption: Of the table.
    """
    rows = tuple(
        (name, *(cell(results, values[:, g], quantity) for values, quantity in columns.values()))
        for g, name in enumerate(results.group_names)
    )
    return Table(("group", *columns), rows, caption)
