"""Whether the constraints of a comparison hold on new people."""

import numpy as np

from jaxprune.reporting.comparison import Comparison


def constraints_hold(comparison: Comparison) -> list[dict[str, str]]:
    """For each constrained method at the headline sparsity: the largest violation on each split, and where it held."""
    rows = []
    for method, inequality in comparison.inequality.items():
        trial = comparison.chosen.get((method, comparison.headline))
        if trial is None or not trial.violation:
            continue
        # An equality is missed on either side.
        worst = {s: np.max(v if inequality else np.abs(v), -1) for s, v in trial.violation.items()}
        row = {"title": comparison.titles[method], "kind": "inequality" if inequality else "equality"}
        for split, values in worst.items():
            found = comparison.interval(values)
            row[split] = f"{found.mean:+.4f}" if inequality else f"{found.mean:.4f}"
            row[f"{split}_held"] = f"{int(np.sum(values <= 0))} of {len(values)}" if inequality else "–"
        rows.append(row)
    return rows


def constraint_words(comparison: Comparison) -> str:
    """Whether the inequalities that held on the training split hold on the test split; "" without any."""
    if not any(comparison.inequality.values()):
        return ""
    held = missed = 0
    by: list[float] = []
    for method, inequality in comparison.inequality.items():
        trial = comparison.chosen.get((method, comparison.headline))
        if trial is None or not trial.violation or not inequality:
            continue
        worst = {split: np.max(values, -1) for split, values in trial.violation.items()}
        on_train = worst["train"] <= 0
        held += int(on_train.sum())
        missed += int((on_train & (worst["test"] > 0)).sum())
        by += worst["test"][on_train & (worst["test"] > 0)].tolist()
    if not held:
        return "In no seed did an inequality constraint hold on the whole training split."
    if not missed:
        return f"In all {held} cases (method, seed) where an inequality held on the training split, it does on test."
    return (
        f"Of {held} cases (method, seed) where an inequality held on the whole training split, it is broken on "
        f"the test "
        f"split in {missed}, by {np.median(by):.4f} in the median."
    )
