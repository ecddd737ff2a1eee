"""Gradient norm and curvature of the pruned networks: the paper's Figure 4."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.numbers import percent
from jaxprune.quantities import seed_means
from jaxprune.reporting.charts import keep_in_range, over_seeds, percent_axis
from jaxprune.reporting.group_charts import explain_marks, lines
from jaxprune.reporting.page import Figure, Section
from jaxprune.reporting.roles import compressed, dense_metrics, headline
from jaxprune.reporting.shown import drawn
from jaxprune.reporting.style import WIDTH
from jaxprune.reporting.theory_values import has, measured, not_converged, overflowed, theory_of, unfinished_groups
from jaxprune.results import Results
from jaxprune.text import name_some


def pruned_networks(results: Results) -> Section | None:
    """How pruning moves gradients and curvature."""
    if not has(results, "pruned"):
        return None
    theory = theory_of(results)
    values, converged = (measured(results, "pruned", name) for name in ("value", "converged"))
    norm, eigenvalue = seed_means(measured(results, "pruned", "gradient_norm"))[-1], seed_means(values)[-1]
    rose = int(np.sum(norm > seed_means(theory.gradient_norm)))
    fell = int(np.sum(eigenvalue < seed_means(theory.eigenvalue)))
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
    figure = Figure(
        "theory-pruned",
        partial(_draw, drawn(results)),
        "The paper’s Figure 4: accuracy, gradient norm and largest eigenvalue of the pruned networks, not retrained.",
        "Lines of accuracy, gradient norm and eigenvalue over sparsity for each group",
    )
    return Section("How pruning moves gradients and curvature", (*sentences, figure))


def _draw(results: Results) -> Drawing:
    theory, split = theory_of(results), headline(results).split
    pruned = [compressed(results, float(s), split).metrics for s in theory.sparsities]
    values, converged = (measured(results, "pruned", name) for name in ("value", "converged"))
    columns = {
        f"accuracy, {split} split": ("accuracy", [m.accuracy for m in (dense_metrics(results, split), *pruned)]),
        f"‖g‖, {theory.split} split": (
            "gradient_norm", [theory.gradient_norm, *measured(results, "pruned", "gradient_norm")]
        ),
        "λ(H)": ("eigenvalue", [theory.eigenvalue, *values]),
    }  # fmt: skip
    figure = Drawing((WIDTH, 3.3))
    panels = figure.subplots(1, len(columns))
    unfinished = np.stack([unfinished_groups(results), *np.any(not_converged(results, values, converged), 1)])
    for axes, (title, (quantity, along)) in zip(panels, columns.items(), strict=True):
        mean = over_seeds(results, np.stack(along), quantity, axis=1).mean
        lines(results, axes, mean, unfinished if "λ" in title else None)
        keep_in_range(axes, "y", quantity)
        if quantity == "accuracy":
            percent_axis(axes.yaxis)
        axes.set_xticks(range(len(along)), ["0", *(percent(s).removesuffix(" %") for s in theory.sparsities)])
        axes.set_xlabel("% pruned")
        axes.set_title(title)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    explain_marks(figure, unfinished)
    return figure
