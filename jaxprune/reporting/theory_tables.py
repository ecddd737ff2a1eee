"""The tables of what was measured at the dense network, which the report and the page of the theory both have."""

from typing import Any

import numpy as np

from jaxprune.reporting.cells import cell
from jaxprune.reporting.many import beyond_ends, order_of_groups
from jaxprune.reporting.numbers import NONE, p_value, percent, significant
from jaxprune.reporting.results import Results
from jaxprune.reporting.theory_findings import PREDICTORS, overflowed, predictor_test, present
from jaxprune.theory import PredictorTest


def theory_tables(results: Results) -> dict[str, Any]:
    """What the template of the tables is filled with; nothing in any of them where the theory was not measured."""
    return {
        "theory": _at_dense(results),
        "bounds": _bounds(results),
        "predictors": _predictors(results),
        "theory_split": results.theory.split if results.theory else "",
    }


def convergence(results: Results, values: np.ndarray, converged: np.ndarray, group: int) -> str:
    """Whether the eigenvalue of a group met its tolerance in every seed, in a word.

    Args:
      results: Which groups there are.
      values: [R, G].
      converged: [R, G].
      group: Which one.
    """
    if not present(results)[group]:
        return "no examples"
    if results.group_names[group] in overflowed(results, values):
        return "NOT FINITE"
    return "yes" if np.all(converged[:, group] == 1) else "NO"


def _at_dense(results: Results) -> list[dict[str, Any]]:
    theory = results.theory
    if theory is None:
        return []
    order = order_of_groups(results)
    return [
        {
            "group": results.group_names[g],
            "more": beyond_ends(place, len(order)),
            "size": results.group_sizes[theory.split][g],
            "gradient_norm": cell(results, theory.gradient_norm[:, g], "gradient_norm"),
            "eigenvalue": cell(results, theory.eigenvalue[:, g], "eigenvalue"),
            "residual": worst(theory.residual[:, g]),
            "converged": convergence(results, theory.eigenvalue, theory.converged, g),
            "matvecs": f"{np.mean(theory.matvecs[:, g]):.0f}",
            "margin": cell(results, theory.margin[:, g], "margin"),
            "closeness": cell(results, theory.closeness[:, g], "closeness"),
        }
        for place, g in enumerate(order)
    ]


def worst(residuals: np.ndarray) -> str:
    """The largest over seeds, to one digit."""
    return significant(np.max(residuals), 1) if np.isfinite(residuals).all() else NONE


def _bounds(results: Results) -> list[dict[str, Any]]:
    theory = results.theory
    if theory is None:
        return []
    rows = []
    for i, sparsity in enumerate(theory.sparsities):
        for g, name in enumerate(results.group_names):
            observed, bound = theory.observed[i, :, g], theory.bound[i, :, g]
            known = np.isfinite(observed) & np.isfinite(bound)
            rows.append(
                {
                    "sparsity": sparsity,
                    "group": name,
                    "observed": cell(results, observed, "excessive_loss"),
                    "first": cell(results, theory.first_order[i, :, g], "first_order"),
                    "second": cell(results, theory.second_order[i, :, g], "second_order"),
                    "bound": cell(results, bound, "bound"),
                    "ratio": f"{bound.mean() / observed.mean():,.3g}" if observed.mean() > 0 and known.all() else NONE,
                    "holds": f"{int(np.sum(known & (observed <= bound)))} of {int(known.sum())}",
                    "converged": convergence(results, theory.eigenvalue, theory.converged, g),
                }
            )
    return rows


def tested_correlation(test: PredictorTest, predictor: int) -> str:
    """A rank correlation over the groups with its p, adjusted for all predictors at that sparsity."""
    if not np.isfinite(test.correlation[predictor]):
        return NONE
    return f"{test.correlation[predictor]:+.2f} ({p_value(test.adjusted_p[predictor])})"


def _predictors(results: Results) -> dict[str, Any] | None:
    if results.theory is None or len(results.group_names) < 3:
        return None
    tests = [predictor_test(results, s) for s in range(len(results.theory.sparsities))]
    rows = [
        {"name": name, "cells": [{"mean": tested_correlation(test, k), "spread": "", "seeds": ""} for test in tests]}
        for k, name in enumerate(PREDICTORS.values())
    ]
    return {"sparsities": [percent(s) for s in results.theory.sparsities], "rows": rows}
