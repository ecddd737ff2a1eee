"""The norms of the members' gradients beside the norm of their mean."""

from collections.abc import Mapping

import numpy as np

from jaxprune.quantities import cell, means_caption
from jaxprune.reporting.page import Section, Table
from jaxprune.reporting.theory_values import has, measured, theory_of
from jaxprune.results import Results


def member_gradients(results: Results) -> Section | None:
    """How far the gradients of a group's members cancel out."""
    if not has(results, "examples"):
        return None
    each, together = measured(results, "examples", "mean_of_norms"), theory_of(results).gradient_norm
    ratio = np.where(together > 0, each / np.where(together > 0, together, 1), np.nan)
    columns = {
        "mean of ‖∇ℓ‖": (each, "norm"),
        "‖g‖ = ‖mean of ∇ℓ‖": (together, "gradient_norm"),
        "ratio": (ratio, "ratio"),
    }
    note = "A ratio of 1 means that all members pull the same way; a large one, that they cancel out."
    table = table_of_groups(results, columns, f"{means_caption(len(results.seeds)).capitalize()}. {note}")
    return Section("Do the members of a group pull the same way?", (table,))


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
