"""The sections of the theory's chapter on what the dense network is like: its gradients, spectra and members."""

from dataclasses import replace

import numpy as np

from jaxprune.reporting.cells import Cell, cell, means_caption
from jaxprune.reporting.laboratory_values import Section, group_means, measured
from jaxprune.reporting.numbers import percent, significant
from jaxprune.reporting.results import Results
from jaxprune.reporting.theory_findings import theory_of
from jaxprune.reporting.theory_tables import convergence, worst


def cosines(results: Results) -> Section:
    """Cosines between the gradients of the groups."""
    cosines, names = group_means(np.moveaxis(measured(results, "cosines", "cosines"), 0, 1)), results.group_names
    pairs = [(cosines[a, b], names[a], names[b]) for a in range(len(names)) for b in range(a)]
    known = sorted(pair for pair in pairs if np.isfinite(pair[0]))
    sentences = ("There are no two groups with gradients to compare.",)
    if known:
        opposed, (lowest, one, other) = sum(c < 0 for c, *_ in known), known[0]
        said = (
            f"In the mean over these networks, the gradients of all groups point the same way; those of {one} and "
            f"{other} are least alike (cosine {lowest:+.2f})."
        )
        if opposed:
            said = (
                f"In the mean over these networks, the gradients of {opposed} of {len(known)} pairs of groups point "
                f"away from each other (cosine below 0); {one} and {other} the most ({lowest:+.2f})."
            )
        sentences = (said,)
    if len(names) == 2:
        sentences += ("At a stationary point those of two groups would cancel out: a cosine of −1.",)
    return Section(
        "Do the groups pull against each other?",
        sentences,
        "theory-cosines" if known else "",
        "Cosine between the loss gradients of every two groups at the dense network, mean over seeds. Below 0, a step "
        "that lowers the loss of one raises that of the other.",
        "Matrix of cosines between the gradients of the groups",
    )


def spectra(results: Results) -> Section:
    """Both ends of every group's spectrum with their residuals, and the trace with its error."""
    rows = []
    for g, name in enumerate(results.group_names):
        cells: list[str | Cell] = [name]
        for end, quantity in _ENDS.items():
            values, residual, converged = (measured(results, "spectra", end, n) for n in _PARTS)
            word = convergence(results, values, converged, g)
            mark = {"NO": " (not converged)", "NOT FINITE": " (not finite)"}.get(word, "")
            number = cell(results, values[:, g], quantity)
            cells += [replace(number, spread=f"{number.spread}{mark}".lstrip()), worst(residual[:, g])]
        trace, error = (measured(results, "spectra", part)[:, g] for part in ("trace", "trace_error"))
        cells += [cell(results, trace, "trace"), significant(np.sqrt(np.mean(error**2)), 1)]
        rows.append(tuple(cells))
    lowest = group_means(measured(results, "spectra", "smallest", "value"))
    negative, known = int(np.sum(lowest < 0)), int(np.sum(np.isfinite(lowest)))
    ends = ("λ_max(H)", "λ_min(H)", "λ_max(Gauss-Newton)")
    return Section(
        "Both ends of the spectrum, and the trace",
        (f"The Hessians of {negative} of {known} groups are indefinite (λ_min < 0, mean over seeds).",),
        headings=("group", *(h for end in ends for h in (end, "residual")), "tr(H)", "its standard error"),
        rows=tuple(rows),
        note=f"{_means(results)}; residuals are the worst over seeds. Lanczos; XTrace with the same "
        f"{int(measured(results, 'spectra', 'products'))} products for every group, or exactly where these suffice; "
        "its standard error is up to a third too small.",
    )


_PARTS = ("value", "residual", "converged")
_ENDS = {"largest": "eigenvalue", "smallest": "eigenvalue", "gauss_newton": "gauss_newton_eigenvalue"}  # -> quantity


def density(results: Results) -> Section:
    """How the eigenvalues of every group's Hessian are distributed."""
    above, below = (measured(results, "density", f"{sign}_share") for sign in ("positive", "negative"))
    if not np.isfinite(above).any():
        return Section("Where the eigenvalues lie", ("No group has a Hessian with finite numbers.",))
    most = int(np.nanargmax(above))
    rows = tuple(
        (name, *(percent(share[g], 3) for share in (above, below))) for g, name in enumerate(results.group_names)
    )
    return Section(
        "Where the eigenvalues lie",
        (
            "In these networks, the share of the eigenvalues above a thousandth of the largest is greatest for "
            f"{results.group_names[most]} ({percent(above[most], 3)}): a description, without an interval.",
        ),
        "theory-density",
        "Density of the eigenvalues of each group’s Hessian, stochastic Lanczos quadrature over all seeds, on "
        "logarithmic axes (that of the eigenvalues is linear around zero). "
        f"{int(measured(results, 'density', 'steps'))} Lanczos steps from each start.",
        "Spectral density of the Hessian of each group",
        ("group", "eigenvalues above 0", "below 0"),
        rows,
        "Shares of all eigenvalues that are farther from 0 than a thousandth of the largest modulus: one quadrature "
        "over all seeds, so that there is no interval over them.",
    )


def examples(results: Results) -> Section:
    """The mean of the norms of the examples' gradients beside the norm of their mean."""
    each, together = measured(results, "examples", "mean_of_norms"), theory_of(results).gradient_norm
    ratio = np.where(together > 0, each / np.where(together > 0, together, 1), np.nan)
    columns = ((each, "norm"), (together, "gradient_norm"), (ratio, "ratio"))
    rows = tuple(
        (name, *(cell(results, values[:, g], quantity) for values, quantity in columns))
        for g, name in enumerate(results.group_names)
    )
    return Section(
        "Do the members of a group pull the same way?",
        headings=("group", "mean of ‖∇ℓ‖", "‖g‖ = ‖mean of ∇ℓ‖", "ratio"),
        rows=rows,
        note=f"{_means(results)}. A ratio of 1 means that all members pull the same way; a large one, that they cancel "
        "out.",
    )


def distances(results: Results) -> Section:
    """Four measures of the distance to the decision boundary."""
    columns = {
        "margin": "margin p₁ − p₂",
        "closeness": "closeness 1 − ‖p‖²",
        "radius": "Cohen’s radius",
        "distance": "linear distance",
    }
    kinds = ("margin", "closeness", "distance", "distance")
    found = {name: measured(results, "distances", name) for name in columns}
    rows = tuple(
        (
            name,
            *(cell(results, found[measure][:, g], quantity) for measure, quantity in zip(columns, kinds, strict=True)),
        )
        for g, name in enumerate(results.group_names)
    )
    return Section(
        "Four distances to the decision boundary",
        headings=("group", *columns.values()),
        rows=rows,
        note=f"Means over members; {means_caption(len(results.seeds))}; the last two in units of the normalised "
        "inputs. The paper does not say which it used.",
    )


def outputs(results: Results) -> Section:
    """What Proposition 2 and Theorem 2 are made of: closeness, error, and how the logits move and bend."""
    found = (results.laboratory or {})["outputs"]

    def column(statement: str, part: str) -> np.ndarray:
        stored = found["statements"].get(statement, {}).get(part)
        missing = np.full((len(results.seeds), len(results.group_names)), np.nan)
        return missing if stored is None else measured(results, "outputs", "statements", statement, part)

    columns = {
        "closeness λ(diag p − ppᵀ)": column("multiclass", "boundary"),
        "error ‖p − y‖": column("Proposition 2", "error"),
        "‖∂z/∂θ‖₂": column("Proposition 2", "jacobian_norm"),
        "‖∇²z‖₂": column("multiclass", "output_eigenvalue"),
        "λ(H) of these": column("multiclass", "left"),
        "its limit": column("multiclass", "right"),
        "by closeness": column("multiclass", "closeness"),
        "by error": column("multiclass", "error"),
    }
    if "logit" in found["statements"]:
        columns["limit in one logit"] = column("logit", "right")
    rows = tuple(
        (
            name,
            f"{found['counts'][g]:,}",
            *(cell(results, values[:, g], _kind(title)) for title, values in columns.items()),
        )
        for g, name in enumerate(results.group_names)
    )
    return Section(
        "Closeness and error: what bends a group’s loss",
        headings=("group", "n", *columns),
        rows=rows,
        note="Theorem 2, corrected: λ(H) is at most the mean of closeness × ‖∂z/∂θ‖₂² (the part “by closeness”) plus "
        "that of the errors of the labels × ‖∇²z‖₂ (the part “by error”). Means over a few members of each group; "
        f"{means_caption(len(results.seeds))}; ‖∇²z‖₂ is the largest of the logits’.",
    )


def _kind(column: str) -> str:
    """The quantity in a column of the table of `outputs`: all but the eigenvalue are norms or sums of them."""
    return "eigenvalue" if column.startswith("λ(H)") else "norm"


def _means(results: Results) -> str:
    return means_caption(len(results.seeds)).capitalize()
