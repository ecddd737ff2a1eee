"""Measures at the dense network: gradients, curvature and boundary."""

import numpy as np

from jaxprune.numbers import count
from jaxprune.quantities import cell, means_caption
from jaxprune.reporting.group_display import order_of_groups
from jaxprune.reporting.page import Section, Table
from jaxprune.reporting.sections.bound import bound_table
from jaxprune.reporting.theory_values import convergence, largest_residual, theory_of
from jaxprune.results import Results

_DENSE = ("gradient_norm", "eigenvalue", "margin", "closeness")


def section(results: Results) -> Section:
    """The dense network and the bound, in numbers."""
    tables = dense_table(results), bound_table(results)
    return Section("The dense network, and the bound of Theorem 1", tables, anchor="dense")


def dense_table(results: Results) -> Table:
    """Gradient norm, eigenvalue with its residual, margin and closeness of every group."""
    theory, rows = theory_of(results), []
    for g in order_of_groups(results):
        norm, eigenvalue, margin, closeness = (cell(results, getattr(theory, name)[:, g], name) for name in _DENSE)
        rows.append(
            (
                results.group_names[g],
                count(results.group_sizes[theory.split][g]),
                norm,
                eigenvalue,
                largest_residual(theory.residual[:, g]),
                convergence(results, theory.eigenvalue, theory.converged, g),
                count(float(np.mean(theory.matvecs[:, g]))),
                margin,
                closeness,
            )
        )
    over = f", {means_caption(len(results.seeds))}" if len(results.seeds) > 1 else ""
    return Table(
        ("group", "n", "‖g‖", "λ(H)", "residual", "converged", "products", "margin", "closeness"),
        tuple(rows),
        f"At the dense network, {theory.split} split{over}. λ is the largest algebraic eigenvalue of the group’s "
        "Hessian, by Lanczos; the residual, which says how far off it may be, is the worst over seeds. The margin "
        "p₁ − p₂ is the distance to the decision boundary, closeness is 1 − ‖p‖².",
        from_worst=True,
    )
