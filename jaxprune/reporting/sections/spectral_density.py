"""How the eigenvalues of every group's Hessian are distributed."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from jaxprune.numbers import percent
from jaxprune.reporting.group_display import group_colours, legend_labels
from jaxprune.reporting.page import Figure, Section, Table
from jaxprune.reporting.shown import drawn
from jaxprune.reporting.style import GREY, WIDTH
from jaxprune.reporting.theory_values import has, measured, theory_of
from jaxprune.results import Results

_TITLE = "Where the eigenvalues lie"


def spectral_density(results: Results) -> Section | None:
    """The density of the eigenvalues, and the shares above and below 0."""
    if not has(results, "density"):
        return None
    above, below = (measured(results, "density", f"{sign}_share") for sign in ("positive", "negative"))
    if not np.isfinite(above).any():
        return Section(_TITLE, ("No group has a Hessian with finite numbers.",))
    most = int(np.nanargmax(above))
    figure = Figure(
        "theory-density",
        partial(_draw, drawn(results)),
        "Density of the eigenvalues of each group’s Hessian, stochastic Lanczos quadrature over all seeds, on "
        "logarithmic axes (that of the eigenvalues is linear around zero). "
        f"{int(measured(results, 'density', 'steps'))} Lanczos steps from each start.",
        "Spectral density of the Hessian of each group",
    )
    table = Table(
        ("group", "eigenvalues above 0", "below 0"),
        tuple((name, percent(above[g], 3), percent(below[g], 3)) for g, name in enumerate(results.group_names)),
        "Shares of all eigenvalues that are farther from 0 than a thousandth of the largest modulus: one quadrature "
        "over all seeds, so that there is no interval over them.",
    )
    sentence = (
        "In these networks, the share of the eigenvalues above a thousandth of the largest is greatest for "
        f"{results.group_names[most]} ({percent(above[most], 3)}): a description, without an interval."
    )
    return Section(_TITLE, (sentence, figure, table))


def _draw(results: Results) -> Drawing | None:
    grid, height = measured(results, "density", "grid"), measured(results, "density", "density")
    if not np.isfinite(height).any():
        return None
    figure = Drawing((WIDTH, 3.4))
    axes = figure.subplots()
    for values, colour in zip(height, group_colours(results), strict=True):
        axes.plot(grid, values, color=colour, lw=1.4 if colour != GREY else 0.9)
    axes.set_yscale("log")
    axes.set_ylim(np.nanmax(height) * 1e-6, np.nanmax(height) * 2)
    axes.set_xscale("symlog", linthresh=float(measured(results, "density", "width")) * 3)
    axes.set_xlabel(f"eigenvalue of the group’s Hessian, {theory_of(results).split} split")
    axes.set_ylabel("density")
    handles = [Line2D([], [], color=colour, lw=2, label=label) for label, colour in legend_labels(results) if label]
    figure.legend(handles=handles, loc="outside upper center", ncols=5)
    return figure
