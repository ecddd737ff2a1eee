"""Propositions 2 and 3 and Theorem 2 of Tran et al. 2022: gradients and curvature by errors and closeness."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.batches import check_classification
from jaxprune.errors import UserError, unknown
from jaxprune.examples import map_examples
from jaxprune.groups import group_mean
from jaxprune.losses import cross_entropy
from jaxprune.theory.checks import check_examples, check_labels
from jaxprune.theory.derivatives.gradients import group_gradient_norms
from jaxprune.theory.derivatives.outputs import (
    Outputs,
    binary_logit,
    binary_probability,
    each_logit,
    example_jacobian_norms,
    example_output_eigenvalues,
)
from jaxprune.theory.spectra.lanczos import Eigenvalue, Extremes
from jaxprune.theory.statements.statement import Assumption, Statement
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params

_TOLERANCE = 1e-2  # of residuals: the error of an eigenvalue that stands apart is of their square
Form = Literal["logit", "multiclass", "printed", "printed_logit"]
FORMS: tuple[Form, ...] = ("logit", "multiclass", "printed", "printed_logit")
_NAMES = {
    "logit": "Theorem 2, corrected: two labels, in the logit, with spectral norms",
    "multiclass": "Theorem 2 for any number of labels, in the logits, with spectral norms",
    "printed": "Theorem 2 as printed: in the probability, with largest eigenvalues",
    "printed_logit": "Theorem 2 in the logit, with largest eigenvalues as printed",
}


class Proposition3(NamedTuple):
    """Closeness to the boundary has a maximum on it, each over [N].

    Attributes:
      binary: p(1 - p) <= ¼ for two labels, with equality on the boundary; None for more.
      multiclass: λ_max(diag p - ppᵀ) <= min(1 - ‖p‖², max_k 2 p_k (1 - p_k)).
      half: λ_max(diag p - ppᵀ) <= ½.
    """

    binary: Statement | None
    multiclass: Statement
    half: Statement


def proposition2(
    apply: Apply,
    params: Params,
    batch: Batch,
    *,
    num_groups: int,
    loss: ExampleLoss = cross_entropy,
    gradient_norm: Array | None = None,
    chunk_size: int = 16,
) -> Statement:
    """Proposition 2, corrected: ‖g_a‖ <= mean over D_a of ‖∇_z ℓ‖ ‖∇_θ z‖₂.

    For cross-entropy ∇_z ℓ = softmax(z) - onehot(y), the error of the paper, and for the squared error
    ‖z - onehot(y)‖² it is twice the error. The paper writes ∇_θ f of the soft outputs f; ∇ℓ = f - y is true of the
    logits z, so the other factor has to be theirs: the spectral norm of the Jacobian ∂z/∂θ.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples.
      num_groups: G.
      loss: Per-example loss, of the logits and the label.
      gradient_norm: [G] ‖g_a‖ of these examples, where it is known (and under vmap); None to compute it.
      chunk_size: Examples at a time in the Jacobians, whose memory is chunk_size * C * P numbers.

    Returns:
      A statement over [G]; its terms are the mean error and the mean norm of the Jacobian.

    Raises:
      UserError: There are no examples, or one is of a group that there is not.
    """
    batch = check_examples(batch, num_groups=num_groups)
    check_labels(apply, params, batch.x, batch.y, batch.weight)
    jacobian = example_jacobian_norms(apply, params, batch, chunk_size=chunk_size)
    logits = _all_logits(apply, params, batch)
    slope = jax.grad(lambda z: jnp.sum(loss(z, jnp.asarray(batch.y))))(logits)
    error = jnp.linalg.norm(slope, axis=-1)
    left = gradient_norm
    if left is None:
        left = group_gradient_norms(apply, params, batch, num_groups=num_groups, loss=loss)
    means = [_mean(values, batch, num_groups) for values in (error * jacobian, error, jacobian)]
    left = jnp.where(jnp.isfinite(means[0]), left, jnp.nan)
    terms = {"error": means[1], "jacobian_norm": means[2]}
    return Statement(left, means[0], "Proposition 2, corrected", "<=", terms)


def proposition3(probabilities: Array) -> Proposition3:
    """Proposition 3: f(1 - f) is largest, ¼, at f = ½ and smallest, 0, at 0 and 1; and its form for many labels.

    Args:
      probabilities: [N, C], rows summing to 1.

    Returns:
      The statements.
    """
    p = jnp.asarray(probabilities)
    closeness = softmax_curvature(p)
    limit = jnp.minimum(1 - jnp.sum(p**2, -1), jnp.max(2 * p * (1 - p), -1))
    binary = None
    if p.shape[-1] == 2:
        spread = p[:, 0] * p[:, 1]
        binary = Statement(spread, jnp.full_like(spread, 0.25), "Proposition 3")
    multiclass = Statement(closeness, limit, "Proposition 3 for any number of labels", rounding=1e-4)
    return Proposition3(binary, multiclass, Statement(closeness, jnp.full_like(closeness, 0.5), "Proposition 3, limit"))


def softmax_curvature(probabilities: Array) -> Array:
    """λ_max(diag p - ppᵀ), the largest curvature of cross-entropy in the logits, [N] from [N, C]."""
    p = jnp.asarray(probabilities)
    matrices = jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None, :]
    return jnp.maximum(jnp.linalg.eigvalsh(matrices)[:, -1], 0)


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
    """Theorem 2: the curvature of a group is bounded by its closeness to the boundary and its error.

    With z the logits, p their softmax and J = ∂z/∂θ the Hessian of cross-entropy is mean over D_a of
    Jᵀ(diag p - ppᵀ)J + Σ_k (p_k - y_k) ∇²z_k, hence the forms that hold:

    - "logit", two labels, z = z₁ - z₀: λ_max(H_a) <= mean p(1 - p) ‖∇z‖² + |p - y| ‖∇²z‖₂.
    - "multiclass": λ_max(H_a) <= mean λ_max(diag p - ppᵀ) ‖J‖₂² + Σ_k |p_k - y_k| ‖∇²z_k‖₂.

    And those of the paper, eq. (6), which do not (`printed_counter_example`):

    - "printed": mean f(1 - f) ‖∇f‖² + |f - y| λ_max(∇²f), with f the probability. Its derivatives of the loss,
      f - y and f(1 - f), are those in the logit; and λ(cM) <= |c| λ(M) fails for negative c, eq. (13).
    - "printed_logit": the same with z in place of f, in which (13) alone is wrong.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples.
      eigenvalue: λ_max(H_a) of the cross-entropy of each group, [G].
      key: Decides the starting vectors of the eigenvalues of ∇²z.
      num_groups: G.
      form: One of the four.
      max_iterations: Products for each eigenvalue of ∇²z.
      chunk_size: Examples at a time.

    Returns:
      A statement over [G]; its terms are "closeness" and "error", the two parts of the right side, and the means of
      "boundary" (p(1 - p), or λ_max(diag p - ppᵀ)), "jacobian_norm" and "output_eigenvalue" (the logits' largest).

    Raises:
      UserError: The form is not known, or is that of two labels and there are more; or a group is out of range.
    """
    batch = check_examples(batch, num_groups=num_groups)
    batch = check_classification(apply, params, batch)
    logits = _all_logits(apply, params, batch)
    outputs = _outputs_of(form, logits.shape[-1])
    p = jax.nn.softmax(logits)
    jacobian = example_jacobian_norms(apply, params, batch, outputs=outputs, chunk_size=chunk_size)
    bend = example_output_eigenvalues(
        apply, params, batch, key,
        outputs=outputs, tolerance=_TOLERANCE, max_iterations=max_iterations, chunk_size=chunk_size,
    )  # fmt: skip
    parts = _parts(form, p, jnp.asarray(batch.y), jacobian, bend) | _factors(form, p, jacobian, bend)
    terms = {name: _mean(values, batch, num_groups) for name, values in parts.items()}
    right = terms["closeness"] + terms["error"]
    left = jnp.where(jnp.isfinite(right), eigenvalue.value, jnp.nan)
    assumptions = (*_assumptions(form, p, batch, num_groups), *_converged(bend, eigenvalue, batch, num_groups))
    return Statement(left, right, _NAMES[form], "<=", terms, assumptions, 1e-3)


def _parts(form: Form, p: Array, y: Array, jacobian: Array, bend: Extremes) -> dict[str, Array]:
    """The two parts of the right side for every example, each [N]."""
    error = jnp.abs(p - jax.nn.one_hot(y, p.shape[-1], dtype=p.dtype))
    size = bend.largest.value if form.startswith("printed") else bend.spectral_norm
    if form == "multiclass":
        return {"closeness": softmax_curvature(p) * jacobian**2, "error": jnp.sum(error * size, -1)}
    return {"closeness": p[:, 0] * p[:, 1] * jacobian**2, "error": error[:, 1] * size[:, 0]}


def _factors(form: Form, p: Array, jacobian: Array, bend: Extremes) -> dict[str, Array]:
    """What the two parts are made of, for every example, each [N]."""
    size = bend.largest.value if form.startswith("printed") else bend.spectral_norm
    boundary = softmax_curvature(p) if form == "multiclass" else p[:, 0] * p[:, 1]
    return {"boundary": boundary, "jacobian_norm": jacobian, "output_eigenvalue": jnp.max(size, -1)}


def _outputs_of(form: Form, classes: int) -> Outputs:
    """What the form differentiates."""
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    if form != "multiclass" and classes != 2:
        raise UserError(f"theory: Theorem 2 in the form {form!r} is of two labels, not {classes}")
    return {"multiclass": each_logit, "printed": binary_probability}.get(form, binary_logit)


def printed_counter_example() -> tuple[Apply, Params, Batch]:
    """A network of one example for which Theorem 2 fails as printed: the case of its step (13).

    z = ½(θ₁² - 2θ₂²) at θ = 0 with label 1: p - y = -½, ∇z = 0, ∇²z = diag(1, -2). So H = diag(-½, 1) and λ_max = 1,
    while the printed right side is |p - y| λ_max(∇²z) = ½ in the logit, and ⅛ in the probability. With the spectral
    norm it is 1, which is attained.

    Returns:
      The network, its parameters, and the example.
    """
    batch = Batch(jnp.ones((1, 1)), jnp.array([1]), jnp.array([0]), jnp.ones(1))
    return _saddle, jnp.zeros(2), batch


def _saddle(params: Params, x: Array) -> Array:
    logit = (params[0] ** 2 - 2 * params[1] ** 2) / 2 * x
    return jnp.concatenate([jnp.zeros_like(logit), logit], -1)


def _assumptions(form: Form, p: Array, batch: Batch, num_groups: int) -> tuple[Assumption, ...]:
    """What the printed forms take for granted."""
    found = []
    if form == "printed":
        found.append(Assumption(jnp.zeros(num_groups, bool), "the loss has slope f - y in the probability f"))
    if form.startswith("printed"):
        above = _mean((p[:, 1] >= jnp.asarray(batch.y)).astype(p.dtype), batch, num_groups) == 1
        found.append(Assumption(above, "f - y is positive for every member, as (13) needs"))
    return tuple(found)


def _converged(bend: Extremes, eigenvalue: Eigenvalue, batch: Batch, num_groups: int) -> tuple[Assumption, ...]:
    ends = jnp.all(bend.largest.converged & bend.smallest.converged, -1)
    each = _mean(ends.astype(jnp.float32), batch, num_groups) == 1
    return (
        Assumption(each, "the eigenvalues of every member's output Hessian have converged"),
        Assumption(eigenvalue.converged, "the eigenvalue of the group has converged"),
    )


def _mean(values: Array, batch: Batch, num_groups: int) -> Array:
    return group_mean(values, batch.group, num_groups, batch.weight, empty=jnp.nan)[0]


def _all_logits(apply: Apply, params: Params, batch: Batch, chunk_size: int = 512) -> Array:
    with jax.default_matmul_precision("highest"):
        return map_examples(lambda x: apply(params, x), batch.x, chunk_size)
