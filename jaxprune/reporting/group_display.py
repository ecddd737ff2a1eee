"""Which groups tables and figures show, in which order and colour."""

import numpy as np

from jaxprune.numbers import count
from jaxprune.quantities import seed_means
from jaxprune.reporting.page import MOST_ROWS, in_middle
from jaxprune.reporting.roles import audit_of, compressed, headline
from jaxprune.reporting.style import GREY, PALETTE
from jaxprune.results import Results

MOST_LABELS = 14  # lines of a figure that are named at their ends


def is_many(results: Results) -> bool:
    """Return whether there are more groups than a page shows."""
    return len(results.group_names) > MOST_ROWS


def order_of_groups(results: Results) -> list[int]:
    """The order of the groups in tables; many are sorted by harm."""
    return _by_harm(results)[0].tolist() if is_many(results) else list(range(len(results.group_names)))


def groups_to_draw(results: Results) -> np.ndarray:
    """The groups in a figure: all, or those at both ends."""
    if not is_many(results):
        return np.arange(len(results.group_names))
    order, known = _by_harm(results)
    return np.array([g for place, g in enumerate(order[:known]) if not in_middle(place, known)], int)


def ends_drawn(results: Results, most: int = MOST_ROWS) -> str:
    """The end of a caption that names the drawn groups."""
    groups = len(results.group_names)
    return f" Of the {count(groups)} groups, those hurt most and least are drawn." if groups > most else ""


def group_colours(results: Results) -> list[str]:
    """A colour for each group, the same in every figure.

    With more groups than colours, those hurt most before and after retraining and the one hurt least by pruning are
    coloured, the others grey.
    """
    count = len(results.group_names)
    if count <= len(PALETTE):
        return list(PALETTE[:count])
    split, sparsity = headline(results)
    harm = seed_means(compressed(results, sparsity, split).impact.excessive_loss)
    order = [int(g) for g in np.argsort(-harm) if np.isfinite(harm[g])]  # of empty groups there is nothing to show
    marked = order[:2]
    if plain := results.baseline:
        after = seed_means(audit_of(results, plain, sparsity, split).impact.excessive_loss)
        marked += [int(g) for g in np.argsort(-after)[:2]]
    chosen = {order[-1]: PALETTE[0]} | {g: PALETTE[1 + i] for i, g in enumerate(dict.fromkeys(marked))}
    return [chosen.get(g, GREY) for g in range(count)]


def legend_labels(results: Results) -> list[tuple[str | None, str]]:
    """The legend label and the colour of each group."""
    colours = group_colours(results)
    return [
        (name if colour != GREY else None if GREY in colours[:g] else "others", colour)
        for g, (name, colour) in enumerate(zip(results.group_names, colours, strict=True))
    ]


def _by_harm(results: Results) -> tuple[np.ndarray, int]:
    """The groups by falling harm, and how many have examples."""
    split, sparsity = headline(results)
    harm = seed_means(compressed(results, sparsity, split).impact.excessive_loss)
    known = np.isfinite(harm)
    return np.argsort(np.where(known, -harm, np.inf), kind="stable"), int(known.sum())
