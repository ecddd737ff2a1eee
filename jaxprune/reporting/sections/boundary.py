"""The decision boundary: distances to it, and their curvature."""

from dataclasses import replace

import numpy as np

from jaxprune.numbers import count
from jaxprune.quantities import means_caption
from jaxprune.reporting.page import Section
from jaxprune.reporting.sections.gradients import table_of_groups
from jaxprune.reporting.theory_values import has, measured
from jaxprune.results import Results

# Measure -> its heading and quantity.
_DISTANCES = {
    "margin": ("margin p₁ − p₂", "margin"),
    "closeness": ("closeness 1 − ‖p‖²", "closeness"),
    "radius": ("Cohen’s radius", "distance"),
    "distance": ("linear distance", "distance"),
}


def distances(results: Results) -> Section | None:
    """The mean distance of each group's members by four measures."""
    if not has(results, "distances"):
        return None
    columns = {
        heading: (measured(results, "distances", name), quantity) for name, (heading, quantity) in _DISTANCES.items()
    }
    table = table_of_groups(
        results,
        columns,
        f"Means over members; {means_caption(len(results.seeds))}; the last two in units of the normalised inputs. The "
        "paper does not say which it used.",
    )
    return Section("Four distances to the decision boundary", (table,))


# Heading -> statement and part of it, and the quantity.
_COLUMNS = {
    "closeness λ(diag p − ppᵀ)": ("multiclass", "boundary", "norm"),
    "error ‖p − y‖": ("Proposition 2", "error", "norm"),
    "‖∂z/∂θ‖₂": ("Proposition 2", "jacobian_norm", "norm"),
    "‖∇²z‖₂": ("multiclass", "output_eigenvalue", "norm"),
    "λ(H) of these": ("multiclass", "left", "eigenvalue"),
    "its limit": ("multiclass", "right", "norm"),
    "by closeness": ("multiclass", "closeness", "norm"),
    "by error": ("multiclass", "error", "norm"),
    "limit in one logit": ("logit", "right", "norm"),
}


def curvature(results: Results) -> Section | None:
    """Bounds on the loss's curvature by closeness and error."""
    if not has(results, "outputs"):
        return None
    outputs = (results.measures or {})["outputs"]
    statements = outputs["statements"]

    def values(statement: str, part: str) -> np.ndarray:
        if part in statements.get(statement, {}):
            return measured(results, "outputs", "statements", statement, part)
        return np.full((len(results.seeds), len(results.group_names)), np.nan)

    columns = {
        heading: (values(statement, part), quantity)
        for heading, (statement, part, quantity) in _COLUMNS.items()
        if statement != "logit" or statement in statements
    }
    table = table_of_groups(
        results,
        columns,
        "Theorem 2, corrected: λ(H) is at most the mean of closeness × ‖∂z/∂θ‖₂² (the part “by closeness”) plus that "
        "of the errors of the labels × ‖∇²z‖₂ (the part “by error”). Means over a few members of each group; "
        f"{means_caption(len(results.seeds))}; ‖∇²z‖₂ is the largest of the logits’.",
    )
    rows = tuple((row[0], count(n), *row[1:]) for row, n in zip(table.rows, outputs["counts"], strict=True))
    counted = replace(table, headings=("group", "n", *columns), rows=rows)
    return Section("Closeness and error as causes of curvature", (counted,))
