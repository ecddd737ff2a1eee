"""Figures and tables of many groups: the worst and the best."""

import numpy as np

from jaxprune.reporting.findings import headline, interval
from jaxprune.reporting.results import Results

MOST_GROUPS = 50  # that a figure or a table shows one below the other
_OF_EACH = 10  # of the groups hurt most, and of those hurt least, where there are more
MOST_ANSWERED = 24  # rows of the figure of the answer
MOST_LABELS = 14  # lines of a figure that are named at their ends


def is_many(results: Results) -> bool:
    """Whether there are more groups than a figure or a table shows."""
    return len(results.group_names) > MOST_GROUPS


def order_of_groups(results: Results) -> list[int]:
    """The order of the groups in tables; many are sorted by harm."""
    return _by_harm(results)[0].tolist() if is_many(results) else list(range(len(results.group_names)))


def groups_to_draw(results: Results) -> np.ndarray:
    """The groups in a figure: all, or the ten at each end."""
    if not is_many(results):
        return np.arange(len(results.group_names))
    order, known = _by_harm(results)
    return np.array([g for place, g in enumerate(order) if not beyond_ends(place, known) and place < known])


def beyond_ends(place: int, count: int) -> bool:
    """Whether a row of a long sorted table is in its middle."""
    return count > MOST_GROUPS and _OF_EACH <= place < count - _OF_EACH


def _by_harm(results: Results) -> tuple[np.ndarray, int]:
    """The groups, hurt most first and those without examples last, and how many have examples."""
    split, sparsity = headline(results)
    harm = interval(results, results.audit("pruned", sparsity, split).impact.excessive_loss).mean
    known = np.isfinite(harm)
    return np.argsort(np.where(known, -harm, np.inf), kind="stable"), int(known.sum())
