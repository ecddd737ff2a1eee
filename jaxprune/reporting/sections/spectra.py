"""Curvature of each group: spectrum ends, trace and density."""

from dataclasses import replace
from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from jaxprune.numbers import percent, significant
from jaxprune.quantities import Cell, cell, means_caption, seed_means
from jaxprune.reporting.charts import label_powers
from jaxprune.reporting.group_display import group_colours, legend_labels
from jaxprune.reporting.page import Figure, Section, Table
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.style import GREY, WIDTH
from jaxprune.reporting.theory_values import convergence, has, largest_residual, measured, theory_of
from jaxprune.results import Results

# End of the spectrum -> its heading and quantity.
_ENDS = {
    "largest": ("λ_max(H)", "eigenvalue"),
    "smallest": ("λ_min(H)", "eigenvalue"),
    "gauss_newton": ("λ_max(Gauss-Newton)", "gauss_newton_eigenvalue"),
}
_MARKS = {"NO": " (not converged)", "NOT FINITE": " (not finite)"}


def ends(results: Results) -> Section | None:
    """Both ends of the spectrum, and the trace, with errors."""
    if not has(results, "spectra"):
        return None
    rows = tuple((name, *_spectrum(results, g)) for g, name in enumerate(results.group_names))
    lowest = seed_means(measured(results, "spectra", "smallest", "value"))
    negative, known = int(np.sum(lowest < 0)), int(np.sum(np.isfinite(lowest)))
    table = Table(
        ("group", *(h for heading, _ in _ENDS.values() for h in (heading, "residual")), "tr(H)", "its standard error"),
        rows,
        f"{means_caption(len(results.seeds)).capitalize()}; residuals are the worst over seeds. Lanczos; XTrace with "
        f"the same {int(measured(results, 'spectra', 'products'))} products for every group, or exactly where these "
        "suffice; its standard error is up to a third too small.",
    )
    sentence = f"The Hessians of {negative} of {known} groups are indefinite (λ_min < 0, mean over seeds)."
    return Section("Both ends of the spectrum, and the trace", (sentence, table))


def _spectrum(results: Results, g: int) -> list[str | Cell]:
    cells: list[str | Cell] = []
    for end, (_, quantity) in _ENDS.items():
        values, residual, converged = (
            measured(results, "spectra", end, part) for part in ("value", "residual", "converged")
        )
        mark = _MARKS.get(convergence(results, values, converged, g).mean, "")
        number = cell(results, values[:, g], quantity)
        cells += [replace(number, spread=f"{number.spread}{mark}".lstrip()), largest_residual(residual[:, g])]
    trace, error = (measured(results, "spectra", part)[:, g] for part in ("trace", "trace_error"))
    return [*cells, cell(results, trace, "trace"), significant(np.sqrt(np.mean(error**2)), 1)]


_DENSITY = "Where the eigenvalues lie"


def density(results: Results) -> Section | None:
    """The density of the eigenvalues, and the shares above and below 0."""
    if not has(results, "density"):
        return None
    above, below = (measured(results, "density", f"{sign}_share") for sign in ("positive", "negative"))
    if not np.isfinite(above).any():
        return Section(_DENSITY, ("No group has a Hessian with finite numbers.",))
    most = int(np.nanargmax(above))
    figure = Figure(
        "theory-density",
        partial(_draw_density, drawn(results)),
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
    return Section(_DENSITY, (sentence, figure, table))


def _draw_density(results: Results) -> Drawing | None:
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
    label_powers(axes.xaxis)
    label_powers(axes.yaxis)
    axes.set_xlabel(f"eigenvalue of the group’s Hessian, {theory_of(results).split} split")
    axes.set_ylabel("density")
    handles = [Line2D([], [], color=colour, lw=2, label=label) for label, colour in legend_labels(results) if label]
    figure.legend(handles=handles, loc="outside upper center", ncols=5)
    return figure
