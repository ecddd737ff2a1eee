"""Measurements at the dense network that explain the harm."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxprune import theory
from jaxprune.results.plain import to_arrays, to_plain


@dataclass(frozen=True, repr=False)
class TheoryResults:
    """The theory's values by seed and group, dense and pruned.

    At the dense networks [R, G] or [R]; by sparsity [S, R, G] or [S, R].

    Attributes:
      split: The split it was measured on.
      gradient_norm: [R, G] ‖g_a‖.
      overall_gradient_norm: [R] ‖Σ_a p_a g_a‖, the gradient of the whole loss: 0 at a stationary point.
      eigenvalue: [R, G] λ(H_a).
      residual: [R, G] of the eigenvalue.
      converged: [R, G] whether Lanczos met its tolerance.
      matvecs: [R, G] Hessian-vector products taken.
      margin: [R, G] mean gap of the two largest probabilities.
      closeness: [R, G] mean 1 - ‖p‖².
      sparsities: [S].
      distance: [S, R] ‖Δ‖.
      first_order: [S, R, G] g_aᵀΔ.
      second_order: [S, R, G] ½ΔᵀH_aΔ.
      observed: [S, R, G] R(a) of the network pruned once, on the same split.
    """

    split: str
    gradient_norm: np.ndarray
    overall_gradient_norm: np.ndarray
    eigenvalue: np.ndarray
    residual: np.ndarray
    converged: np.ndarray
    matvecs: np.ndarray
    margin: np.ndarray
    closeness: np.ndarray
    sparsities: np.ndarray
    distance: np.ndarray
    first_order: np.ndarray
    second_order: np.ndarray
    observed: np.ndarray

    def __repr__(self) -> str:
        return f"TheoryResults({self.split}; sparsities {self.sparsities.tolist()}; [R, G] = {list(self.margin.shape)})"

    @property
    def bound(self) -> np.ndarray:
        """[S, R, G] the two terms of Theorem 1."""
        statement = theory.bound(self.gradient_norm, self.eigenvalue, self.distance[..., None], self.observed)
        return np.asarray(statement.right)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`, the bound included."""
        return to_plain(vars(self)) | {"bound": to_plain(self.bound)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TheoryResults":
        """The theory from what `to_json` gave."""
        names = [name for name in cls.__dataclass_fields__ if name != "split"]
        return cls(split=values["split"], **{name: to_arrays(values[name]) for name in names})
