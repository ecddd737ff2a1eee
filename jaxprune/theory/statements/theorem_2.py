"""Theorem 2 of Tran et al. 2022: curvature by errors and closeness."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxprune.batches import check_classification
from jaxprune.errors import UserError, unknown
from jaxprune.groups import group_mean
from jaxprune.theory.checks import check_examples
from jaxprune.theory.derivatives.outputs import (
    Outputs,
    binary_logit,
    binary_probability,
    each_logit,
    example_jacobian_norms,
    example_logits,
)
from jaxprune.theory.spectra.lanczos import Eigenvalue, Extremes
from jaxprune.theory.spectra.output_eigenvalues import example_output_eigenvalues
from jaxprune.theory.statements.propositions_2_and_3 import softmax_curvature
from jaxprune.theory.statements.statement import Assumption, Statement
from jaxprune.types import Apply, Array, Batch, Params

_TOLERANCE = 1e-2  # of residuals: the error of an eigenvalue that stands apart is of their square
Form = Literal["logit", "multiclass", "printed"]
FORMS: tuple[Form, ...] = ("logit", "multiclass", "printed")
_NAMES = {
    "logit": "Theorem 2, corrected: two labels, in the logit, with spectral norms",
    "multiclass": "Theorem 2 for any number of labels, in the logits, with spectral norms",
    "printed": "Theorem 2 as printed: in the probability, with largest eigenvalues",
}
_OUTPUTS: dict[str, Outputs] = {"logit": binary_logit, "multiclass": each_logit, "printed": binary_probability}


def theorem2(
    apply: Apply,
    params: Params,
    batch: Batch,
    eigenvalue: Eigenvalue,
    key: jax.Array,
    *,
    num_groups: int,
    form: Form = "multiclass",
    max_iterations: int = 30,
    chunk_size: int = 16,
) -> Statement:
    """Theorem 2: a group's closeness and error bound its curvature.

    With z the logits, p their softmax and J = ∂z/∂θ the Hessian of cross-entropy is mean over D_a of
    Jᵀ(diag p - ppᵀ)J + Σ_k (p_k - y_k) ∇²z_k, hence the forms:

    - "logit", two labels, z = z₁ - z₀: λ_max(H_a) <= mean p(1 - p) ‖∇z‖² + |p - y| ‖∇²z‖₂.
    - "multiclass": λ_max(H_a) <= mean λ_max(diag p - ppᵀ) ‖J‖₂² + Σ_k |p_k - y_k| ‖∇²z_k‖₂.
    - "printed", eq. (6) of the paper, which does not hold: mean f(1 - f) ‖∇f‖² + |f - y| λ_max(∇²f), with f the
      probability. Its f - y and f(1 - f) are derivatives in the logit; and λ(cM) <= |c| λ(M) fails for c < 0, eq. (13).

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples.
      eigenvalue: λ_max(H_a) of the cross-entropy of each group, [G].
      key: Decides the starting vectors of the eigenvalues of ∇²z.
      num_groups: G.
      form: One of the three.
      max_iterations: Products for each eigenvalue of ∇²z.
      chunk_size: Examples at a time.

    Returns:
      A statement over [G]; its terms are "closeness" and "error", the two parts of the right side, and the means of
      "boundary" (p(1 - p), or λ_max(diag p - ppᵀ)), "jacobian_norm" and "output_eigenvalue" (the logits' largest).

    Raises:
      UserError: The form is unknown, or is for two labels and there are more; or a group is out of range.
    """
    batch = check_classification(apply, params, check_examples(batch, num_groups=num_groups))
    logits = example_logits(apply, params, batch)
    p = jax.nn.softmax(logits)
    options: Any = {"outputs": _outputs_of(form, logits.shape[-1]), "chunk_size": chunk_size}
    jacobian = example_jacobian_norms(apply, params, batch, **options)
    bend = example_output_eigenvalues(
        apply, params, batch, key, tolerance=_TOLERANCE, max_iterations=max_iterations, **options
    )
    mean = partial(_mean, batch, num_groups)
    terms = {name: mean(values) for name, values in _terms(form, p, jnp.asarray(batch.y), jacobian, bend).items()}
    right = terms["closeness"] + terms["error"]
    return Statement(
        name=_NAMES[form],
        left=jnp.where(jnp.isfinite(right), eigenvalue.value, jnp.nan),
        right=right,
        terms=terms,
        assumptions=(*_assumptions(form, p, batch, mean), *_convergence(bend, eigenvalue, mean)),
        rounding=1e-3,
    )


def _mean(batch: Batch, num_groups: int, values: Array) -> Array:
    return group_mean(values, batch.group, num_groups, batch.weight, empty=jnp.nan)[0]


def _outputs_of(form: Form, classes: int) -> Outputs:
    """The outputs that the form differentiates."""
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    if form != "multiclass" and classes != 2:
        raise UserError(f"theory: Theorem 2 in the form {form!r} is for two labels, not {classes}")
    return _OUTPUTS[form]


def _terms(form: Form, p: Array, y: Array, jacobian: Array, bend: Extremes) -> dict[str, Array]:
    """Both parts of the right side and their factors, each [N]."""
    error = jnp.abs(p - jax.nn.one_hot(y, p.shape[-1], dtype=p.dtype))
    size = bend.largest.value if form == "printed" else bend.spectral_norm
    boundary = softmax_curvature(p) if form == "multiclass" else p[:, 0] * p[:, 1]
    return {
        "closeness": boundary * jacobian**2,
        "error": jnp.sum(error * size, -1) if form == "multiclass" else error[:, 1] * size[:, 0],
        "boundary": boundary,
        "jacobian_norm": jacobian,
        "output_eigenvalue": jnp.max(size, -1),
    }


def _assumptions(form: Form, p: Array, batch: Batch, mean: Callable[[Array], Array]) -> tuple[Assumption, ...]:
    """The assumptions of the printed form, each [G]."""
    if form != "printed":
        return ()
    positive = mean((p[:, 1] >= jnp.asarray(batch.y)).astype(p.dtype)) == 1
    return (
        Assumption(holds=jnp.zeros_like(positive), text="the loss has slope f - y in the probability f"),
        Assumption(holds=positive, text="f - y is positive for every member, as (13) needs"),
    )


def _convergence(bend: Extremes, eigenvalue: Eigenvalue, mean: Callable[[Array], Array]) -> tuple[Assumption, ...]:
    both = jnp.all(bend.largest.converged & bend.smallest.converged, -1)
    return (
        Assumption(
            holds=mean(both.astype(jnp.float32)) == 1,
            text="the eigenvalues of every member's output Hessian have converged",
        ),
        Assumption(holds=eigenvalue.converged, text="the eigenvalue of the group has converged"),
    )
