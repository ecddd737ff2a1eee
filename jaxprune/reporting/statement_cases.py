"""Every checked case of the theory's statements, by seed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from jaxprune.numbers import percent
from jaxprune.reporting.theory_values import measured, theory_of
from jaxprune.results import Results
from jaxprune.text import name_some
from jaxprune.theory import Eigenvalue, Taylor
from jaxprune.theory.statements import Statement, corollary1, theorem1

TITLES = {
    "Proposition 2": "Proposition 2, corrected",
    "multiclass": "Theorem 2, corrected, any number of labels",
    "logit": "Theorem 2, corrected, two labels",
    "printed": "Theorem 2 as printed",
    "Proposition 1, norms": "Proposition 1, |D_a|‖g_a‖ = |D_b|‖g_b‖",
    "Proposition 1, directions": "Proposition 1, cos(g_a, g_b) = −1",
    "Theorem 1": "Theorem 1, without remainder",
    "Theorem 1, term of first order": "Theorem 1, term gᵀΔ ≤ ‖g‖‖Δ‖",
    "Theorem 1, term of second order": "Theorem 1, term ½ΔᵀHΔ ≤ ½λ(H)‖Δ‖²",
}


@dataclass(frozen=True)
class Checked:
    """A statement in all its cases; arrays [cases, R].

    Attributes:
      title: What people read.
      labels: Of the cases, such as a group and a sparsity.
      left: NaN where there is nothing to compare.
      right: Of the same shape.
      holds: Whether it does, but for rounding.
      assumed: Whether everything that it rests on is so.
      assumptions: What is assumed -> whether it is so.
      kind: What a case is: "cases" of groups and sparsities, or single "examples".
    """

    title: str
    labels: tuple[str, ...]
    left: np.ndarray
    right: np.ndarray
    holds: np.ndarray
    assumed: np.ndarray
    assumptions: Mapping[str, np.ndarray]
    kind: str = "cases"

    @property
    def known(self) -> np.ndarray:
        """The cases where there are two sides to compare."""
        return np.isfinite(self.left) & np.isfinite(self.right)


def checked(results: Results) -> list[Checked]:
    """Every statement that was checked, those of the bound first."""
    found = [_of_pruning(results, statement) for statement in _along_pruning(results)]
    for measure in ("cosines", "outputs"):
        statements: dict[str, Any] = (results.measures or {}).get(measure, {}).get("statements", {})
        found += [_of_dense(results, measure, name) for name in statements]
    return found


def _along_pruning(results: Results) -> list[Statement]:
    """Theorem 1, its terms and Corollary 1; [S, R, G], sparsities rising."""
    theory, measures = theory_of(results), results.measures or {}
    order = np.argsort(theory.sparsities)
    eigenvalue = Eigenvalue(theory.eigenvalue, theory.residual, theory.converged == 1, theory.matvecs)
    terms = Taylor(*(values[order] for values in (theory.first_order, theory.second_order, theory.observed)))
    found = [*theorem1(theory.gradient_norm, eigenvalue, theory.distance[order][..., None], terms)]
    if len(order) > 1:
        looked_at = "pruned" in measures
        nested = measured(results, "pruned", "nested") == 1 if looked_at else np.zeros(len(order) - 1, bool)
        statement = corollary1(theory.bound[order], theory.eigenvalue, nested)
        if not looked_at:
            known = "the masks are known to be nested (the measure “pruned” tells)"
            unknown = replace(statement.assumptions[0], text=known)
            statement = replace(statement, assumptions=(unknown, *statement.assumptions[1:]))
        found.append(statement)
    return found


def _of_pruning(results: Results, statement: Statement) -> Checked:
    levels = [percent(s) for s in np.sort(theory_of(results).sparsities)]
    if len(statement.left) < len(levels):
        levels = [f"{low} to {high}" for low, high in pairwise(levels)]
    labels = tuple(f"{level}, {group}" for level in levels for group in results.group_names)
    shape = np.shape(statement.left)

    def cases(values: Any) -> np.ndarray:
        return np.moveaxis(np.broadcast_to(np.asarray(values), shape), 1, -1).reshape(-1, shape[1])

    left, right, holds, assumed = (cases(getattr(statement, part)) for part in ("left", "right", "holds", "assumed"))
    return Checked(
        TITLES.get(statement.name, statement.name),
        labels,
        left,
        right,
        holds,
        assumed,
        {assumption.text: cases(assumption.holds).astype(bool) for assumption in statement.assumptions},
    )


def _of_dense(results: Results, measure: str, name: str) -> Checked:
    """A statement at the dense network from plain values, seeds first."""
    stored = (results.measures or {})[measure]["statements"][name]
    left = measured(results, measure, "statements", name, "left")

    def cases(values: Any) -> np.ndarray:
        array = np.array(values, dtype=float)
        array = array.reshape(len(array), *(1,) * (left.ndim - array.ndim), *array.shape[1:])
        return np.broadcast_to(array, left.shape).reshape(len(left), -1).T

    return Checked(
        TITLES.get(name, name),
        _labels(results.group_names, name, left.shape[1:]),
        cases(stored["left"]),
        cases(stored["right"]),
        np.equal(cases(stored["holds"]), 1),
        np.equal(cases(stored["assumed"]), 1),
        {text: np.equal(cases(holds), 1) for text, holds in stored.get("assumptions", {}).items()},
        kind="examples" if _is_of_examples(name) else "cases",
    )


def _is_of_examples(name: str) -> bool:
    """Whether the cases of a statement are single examples."""
    return name.startswith("Proposition 3")


def _labels(groups: list[str], name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    if not shape:
        return (name_some(groups, separator=" and "),)
    if _is_of_examples(name):
        return tuple(f"example {i}" for i in range(shape[0]))
    if len(shape) == 2:
        return tuple(f"{a}, {b}" for a in groups for b in groups)
    return tuple(groups)
