"""The chapter of the report on the theory in detail: what was measured, in sentences and tables."""

from collections.abc import Callable

import numpy as np

from jaxprune.reporting import findings
from jaxprune.reporting.laboratory_values import (
    Section,
    correlations,
    group_means,
    headline_index,
    measured,
    shares,
    theory_of,
)
from jaxprune.reporting.laboratory_verdicts import scores, statements, tightness
from jaxprune.reporting.results import Results

_MOST_LAYERS = 20


def chapter(results: Results) -> list[Section]:
    """The sections for what was measured; none where no further measure was asked for."""
    if results.theory is None or not results.laboratory:
        return []
    made = [_WRITE[name](results) for name in ("sizes", "causes", "correlation")]
    made += [_WRITE[name](results) for name in results.laboratory if name in _WRITE]
    return [*made, statements(results), tightness(results), scores(results)]


def _related(results: Results, first: str, a: np.ndarray, second: str, b: np.ndarray) -> str:
    pearson, spearman = correlations(group_means(a), group_means(b))
    if np.isnan(pearson):
        return f"There are too few groups to correlate {first} with {second}."
    return f"Over the {len(results.group_names)} groups, {first} and {second} correlate by {pearson:+.2f} (Pearson) and {spearman:+.2f} (Spearman)."  # noqa: E501


def _sizes(results: Results) -> Section:
    theory = theory_of(results)
    sizes = np.broadcast_to(np.array(results.group_sizes[theory.split], float), theory.gradient_norm.shape)
    dense = results.metrics["dense", 0.0, findings.headline(results).split].accuracy
    return Section(
        "Group size, accuracy and gradient norm",
        (
            _related(results, "group size", sizes, "‖g‖", theory.gradient_norm),
            _related(results, "dense accuracy", dense, "‖g‖", theory.gradient_norm),
        ),
        "theory-sizes",
        "Left, the paper’s Figure 2: share of the examples beside share of the gradient norms. Right, its Figure 3: "
        "accuracy of the dense network beside the share of the gradient norms. Lines are intervals over seeds.",
        "Bars of group share, accuracy and gradient norm for each group",
    )


def _causes(results: Results) -> Section:
    theory = theory_of(results)
    return Section(
        "Gradients, the boundary and curvature",
        (
            _related(results, "the margin p₁ − p₂", theory.margin, "λ(H)", theory.eigenvalue),
            "Each measure but accuracy and margin is divided by its sum over the groups, as in the paper.",
        ),
        "theory-causes",
        "The unpruned network, as in the paper’s Figures 5, 12 and 13: gradient norm, largest Hessian eigenvalue, "
        "distance to the decision boundary (mean margin) and accuracy of each group.",
        "Bars of gradient norm, eigenvalue, margin and accuracy for each group",
    )


def _correlation(results: Results) -> Section:
    theory = theory_of(results)
    return Section(
        "Do steep groups bend more?",
        (_related(results, "the shares of ‖g‖", shares(theory.gradient_norm), "of λ(H)", shares(theory.eigenvalue)),),
        "theory-correlation",
        "The paper’s Figure 6: share of the gradient norms against share of the largest eigenvalues. A small point for "
        "each seed, a large one for their mean.",
        "Scatter of gradient norm against top eigenvalue, groups labelled",
    )


def _pruned(results: Results) -> Section:
    norm = measured(results, "pruned", "gradient_norm").mean(1)
    eigenvalue = measured(results, "pruned", "value").mean(1)
    theory = theory_of(results)
    rose = int(np.sum(norm[-1] > group_means(theory.gradient_norm)))
    fell = int(np.sum(eigenvalue[-1] < group_means(theory.eigenvalue)))
    groups = len(results.group_names)
    text = (
        f"From the dense network to {theory.sparsities[-1]:.0%} pruned, ‖g‖ rises for {rose} of {groups} groups and "
        f"λ(H) falls for {fell}. Theorem 1 speaks of the dense network only."
    )
    values, converged = (measured(results, "pruned", n) for n in ("value", "converged"))
    unfinished = int(np.sum((converged != 1) & np.isfinite(values)))
    marked = f"{unfinished} of {values.size} eigenvalues have not converged: λ may be larger."
    return Section(
        "How pruning moves gradients and curvature",
        (text, *([marked] if unfinished else [])),
        "theory-pruned",
        "The paper’s Figure 4: accuracy, gradient norm and largest eigenvalue of the pruned networks, not retrained.",
        "Lines of accuracy, gradient norm and eigenvalue over sparsity for each group",
    )


def _cosines(results: Results) -> Section:
    cosines, names = measured(results, "cosines", "cosines").mean(0), results.group_names
    pairs = [(cosines[a, b], names[a], names[b]) for a in range(len(names)) for b in range(a)]
    known = sorted(pair for pair in pairs if np.isfinite(pair[0]))
    sentences = ("There are no two groups with gradients to compare.",)
    if known:
        opposed, (lowest, one, other) = sum(c < 0 for c, *_ in known), known[0]
        text = (
            f"No two groups’ gradients point away from each other; {one} and {other} are least alike ({lowest:+.2f})."
        )
        if opposed:
            text = (
                f"The gradients of {opposed} of {len(known)} pairs of groups point away from each other (cosine below "
                f"0); {one} and {other} the most ({lowest:+.2f})."
            )
        sentences = (text,)
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


def _spectra(results: Results) -> Section:
    rows = []
    for g, name in enumerate(results.group_names):
        cells = [name]
        for end in ("largest", "smallest", "gauss_newton"):
            values = measured(results, "spectra", end, "value")[:, g]
            converged = measured(results, "spectra", end, "converged")[:, g].all()
            cells.append(f"{np.mean(values):.3g}" + ("" if converged else " (not converged)"))
        trace, error = (measured(results, "spectra", part)[:, g] for part in ("trace", "trace_error"))
        cells.append(f"{np.mean(trace):.3g} ± {np.sqrt(np.mean(error**2)):.1g}")
        rows.append(tuple(cells))
    lowest = group_means(measured(results, "spectra", "smallest", "value"))
    negative = [n for n, low in zip(results.group_names, lowest, strict=True) if low < 0]
    text = f"The Hessians of {len(negative)} of {len(rows)} groups are indefinite (λ_min < 0, mean over seeds)."
    return Section(
        "Both ends of the spectrum, and the trace",
        (text,),
        headings=("group", "λ_max(H)", "λ_min(H)", "λ_max(Gauss-Newton)", "tr(H) ± standard error"),
        rows=tuple(rows),
        note="Means over seeds. Lanczos; XTrace with the same "
        f"{int(measured(results, 'spectra', 'products'))} products for every group.",
    )


def _density(results: Results) -> Section:
    positive = measured(results, "density", "positive_share")
    most = int(np.nanargmax(positive))
    return Section(
        "Where the eigenvalues lie",
        (
            "The share of the eigenvalues that are above a thousandth of the largest is greatest for "
            f"{results.group_names[most]} ({positive[most]:.1%}).",
        ),
        "theory-density",
        "Density of the eigenvalues of each group’s Hessian, stochastic Lanczos quadrature over all seeds, on "
        "logarithmic axes (that of the eigenvalues is linear around zero). "
        f"{int(measured(results, 'density', 'steps'))} Lanczos steps from each start.",
        "Spectral density of the Hessian of each group",
    )


def _examples(results: Results) -> Section:
    mean_of_norms = group_means(measured(results, "examples", "mean_of_norms"))
    norm_of_mean = group_means(theory_of(results).gradient_norm)
    rows = tuple(
        (name, f"{m:.3g}", f"{n:.3g}", f"{m / n:.1f}" if n > 0 else "–")
        for name, m, n in zip(results.group_names, mean_of_norms, norm_of_mean, strict=True)
    )
    return Section(
        "Do the members of a group pull the same way?",
        headings=("group", "mean of ‖∇ℓ‖", "‖g‖ = ‖mean of ∇ℓ‖", "ratio"),
        rows=rows,
        note="A ratio of 1 means that all members pull the same way; a large one, that they cancel out.",
    )


def _distances(results: Results) -> Section:
    columns = {
        "margin": "margin p₁ − p₂",
        "closeness": "closeness 1 − ‖p‖²",
        "radius": "Cohen’s radius",
        "distance": "linear distance",
    }
    found = {name: group_means(measured(results, "distances", name)) for name in columns}
    rows = tuple(
        (name, *(f"{found[measure][g]:.3f}" for measure in columns)) for g, name in enumerate(results.group_names)
    )
    return Section(
        "Four distances to the decision boundary",
        headings=("group", *columns.values()),
        rows=rows,
        note="Means over members and seeds; the last two in units of the normalised inputs. The paper does not say "
        "which it used.",
    )


def _attribution(results: Results) -> Section:
    path, leaves = measured(results, "attribution", "path"), (results.laboratory or {})["attribution"]["leaves"]
    observed = measured(results, "attribution", "observed")
    s = headline_index(results)
    mean = path[s].mean(0)
    worst = int(np.nanargmax(observed[s].mean(0)))
    layer = int(np.nanargmax(mean[worst]))
    missed = np.nanmax(np.abs(observed[s] - path[s].sum(-1)))
    sparsity = theory_of(results).sparsities[s]
    first, second = (measured(results, "attribution", n)[s].mean(0)[worst] for n in ("first_order", "second_order"))
    by_size = [i for i in np.argsort(-np.abs(mean[worst])) if mean[worst, i] != 0]
    rows = tuple(
        (leaves[i], f"{mean[worst, i]:+.3f}", f"{first[i]:+.3f}", f"{first[i] + second[i]:+.3f}")
        for i in by_size[:_MOST_LAYERS]
    )
    text = (
        f"At {sparsity:.0%}, {results.group_names[worst]} is hurt most ({observed[s].mean(0)[worst]:+.3f} nats); "
        f"{leaves[layer]} contributes most of that ({mean[worst, layer]:+.3f}). The parts sum to R(a) to within "
        f"{missed:.1g} nats."
    )
    return Section(
        "Which layers hurt whom",
        (text,),
        "theory-attribution",
        f"R(a) at {sparsity:.0%} split over the layers: the path integral of the gradient from the dense to the pruned "
        "network, layer by layer. Parts above zero hurt; the diamond is R(a). Means over seeds.",
        "Stacked bars of the harm of each group by layer",
        ("layer", "its part of R(a)", "Δᵀg alone", "with ½ΔᵀHΔ"),
        rows,
        f"{results.group_names[worst]} at {sparsity:.0%}: the part of each layer, exact and by Taylor’s first and "
        "second order at the dense network, the largest first. Nats, means over seeds.",
    )


def _sparing(results: Results) -> Section:
    sparing = (results.laboratory or {})["sparing"]
    harm, spared = (measured(results, "sparing", n).mean(1) for n in ("harm", "spared_harm"))
    rows, better, worse = [], 0, 0
    for s, sparsity in enumerate(theory_of(results).sparsities):
        g = int(sparing["group"][s])
        levels = ", ".join(f"{n} {q:.0%}" for n, q in zip(sparing["layers"], sparing["allocation"][s], strict=True))
        better += spared[s, g] < harm[s, g]
        worse += np.nanmax(spared[s]) > np.nanmax(harm[s])
        cells = (
            f"{harm[s, g]:+.3f}",
            f"{spared[s, g]:+.3f}",
            f"{np.nanmax(harm[s]):+.3f}",
            f"{np.nanmax(spared[s]):+.3f}",
        )
        rows.append((f"{sparsity:.0%}", results.group_names[g], *cells, f"{sparing['reached'][s]:.0%}", levels))
    text = (
        "For the group hurt most at each sparsity, a sparsity for each layer was chosen by the harm of pruning the "
        "layers one at a time, and tried: the group is hurt less than by the run’s own pruning at "
        f"{better} of {len(rows)} sparsities. "
        + (
            f"At {worse} of them the largest harm of any group is greater instead."
            if worse
            else "No group is then hurt more than that group was."
        )
    )
    return Section(
        "A sparsity for each layer that would spare it",
        (text,),
        headings=("pruned", "group", "its R", "its R, spared", "largest R", "largest R, spared", "reached", "layers"),
        rows=tuple(rows),
        note="Means over seeds, on the theory’s split, without retraining.",
    )


_WRITE: dict[str, Callable[[Results], Section]] = {
    "sizes": _sizes,
    "causes": _causes,
    "correlation": _correlation,
    "pruned": _pruned,
    "cosines": _cosines,
    "spectra": _spectra,
    "density": _density,
    "examples": _examples,
    "distances": _distances,
    "attribution": _attribution,
    "sparing": _sparing,
}
