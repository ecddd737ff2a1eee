"""The sections of the theory's chapter that hold the paper's own figures, for any data set."""

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.reporting.findings import headline
from jaxprune.reporting.laboratory_values import Section, correlations, group_means, measured, shares
from jaxprune.reporting.numbers import percent
from jaxprune.reporting.results import Results
from jaxprune.reporting.theory_findings import not_converged, overflowed, theory_of
from jaxprune.text import name_some


def _related(results: Results, first: str, a: np.ndarray, second: str, b: np.ndarray) -> str:
    pearson, spearman = correlations(group_means(a), group_means(b))
    if np.isnan(pearson):
        few = "groups with different finite numbers" if len(results.group_names) >= 3 else "groups"
        return f"There are too few {few} to correlate {first} with {second}."
    return (
        f"Over the {len(results.group_names)} groups, {first} and {second} correlate by {pearson:+.2f} (Pearson) and "
        f"{spearman:+.2f} (Spearman): a description of these groups, without a test."
    )


def sizes(results: Results) -> Section:
    """Group share and accuracy beside the gradient norm."""
    theory = theory_of(results)
    sizes = np.broadcast_to(np.array(results.group_sizes[theory.split], float), theory.gradient_norm.shape)
    dense = results.metrics["dense", 0.0, headline(results).split].accuracy
    return Section(
        "Group size, accuracy and gradient norm",
        (
            _related(results, "group size", sizes, "‖g‖", theory.gradient_norm),
            _related(results, "dense accuracy", dense, "‖g‖", theory.gradient_norm),
        ),
        "theory-sizes",
        "Left, the paper’s Figure 2: share of the examples beside share of the gradient norms. Right, its Figure 3: "
        "accuracy of the dense network beside the share of the gradient norms."
        f"{' Lines are intervals over seeds.' if len(results.seeds) >= MINIMUM_SEEDS else ''}",
        "Bars of group share, accuracy and gradient norm for each group",
    )


def causes(results: Results) -> Section:
    """What the dense network tells of each group, as the paper draws it."""
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


def correlation(results: Results) -> Section:
    """Gradient norm against the largest eigenvalue."""
    theory = theory_of(results)
    of_gradient, of_curvature = shares(theory.gradient_norm), shares(theory.eigenvalue)
    said = _related(results, "the shares of ‖g‖", of_gradient, "the shares of λ(H)", of_curvature)
    return Section(
        "Do steep groups bend more?",
        (said,),
        "theory-correlation",
        "The paper’s Figure 6: share of the gradient norms against share of the largest eigenvalues. A small point for "
        "each seed, a large one for their mean.",
        "Scatter of gradient norm against top eigenvalue, groups labelled",
    )


def pruned(results: Results) -> Section:
    """Gradient norm and curvature of the pruned networks."""
    theory = theory_of(results)
    values, converged = (measured(results, "pruned", n) for n in ("value", "converged"))
    norm, eigenvalue = group_means(measured(results, "pruned", "gradient_norm"))[-1], group_means(values)[-1]
    before = group_means(theory.gradient_norm), group_means(theory.eigenvalue)
    rose, fell = int(np.sum(norm > before[0])), int(np.sum(eigenvalue < before[1]))
    groups = int(np.sum(np.isfinite(norm) & np.isfinite(eigenvalue)))
    sentences = [
        f"From the dense network to {percent(theory.sparsities[-1])} pruned, ‖g‖ rises for {rose} of {groups} groups "
        f"and λ(H) falls for {fell}. Theorem 1 speaks of the dense network only."
    ]
    if unfinished := int(np.sum(not_converged(results, values, converged))):
        total = int(np.sum(np.isfinite(values)))
        sentences.append(f"{unfinished} of {total} eigenvalues have not converged: λ may be larger.")
    if names := overflowed(results, values):
        sentences.append(f"λ of the pruned networks is not finite for {name_some(names)}: they overflowed.")
    return Section(
        "How pruning moves gradients and curvature",
        tuple(sentences),
        "theory-pruned",
        "The paper’s Figure 4: accuracy, gradient norm and largest eigenvalue of the pruned networks, not retrained.",
        "Lines of accuracy, gradient norm and eigenvalue over sparsity for each group",
    )
