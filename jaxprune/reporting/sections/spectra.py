"""Both ends of every group's spectrum, and the trace."""

from dataclasses import replace

import numpy as np

from jaxprune.numbers import significant
from jaxprune.quantities import Cell, cell, means_caption, seed_means
from jaxprune.reporting.page import Section, Table
from jaxprune.reporting.theory_values import convergence, has, largest_residual, measured
from jaxprune.results import Results

# End of the spectrum -> its heading and quantity.
_ENDS = {
    "largest": ("λ_max(H)", "eigenvalue"),
    "smallest": ("λ_min(H)", "eigenvalue"),
    "gauss_newton": ("λ_max(Gauss-Newton)", "gauss_newton_eigenvalue"),
}
_MARKS = {"NO": " (not converged)", "NOT FINITE": " (not finite)"}


def spectra(results: Results) -> Section | None:
    """Both ends of the spectrum with their residuals, and the trace with its error."""
    if not has(results, "spectra"):
        return None
    rows = tuple((name, *_row(results, g)) for g, name in enumerate(results.group_names))
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


def _row(results: Results, g: int) -> list[str | Cell]:
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
