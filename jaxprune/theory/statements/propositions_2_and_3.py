"""Propositions 2 and 3 of Tran et al. 2022: gradients, and closeness."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.groups import group_mean
from jaxprune.losses import cross_entropy
from jaxprune.theory.checks import check_examples, check_labels
from jaxprune.theory.derivatives.gradients import group_gradient_norms
from jaxprune.theory.derivatives.outputs import example_jacobian_norms, example_logits
from jaxprune.theory.statements.statement import Statement
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params


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
      UserError: There are no examples, or a group is out of range.
    """
    batch = check_examples(batch, num_groups=num_groups)
    check_labels(apply, params, batch.x, batch.y, batch.weight)
    jacobian = example_jacobian_norms(apply, params, batch, chunk_size=chunk_size)
    logits = example_logits(apply, params, batch)
    slope = jax.grad(lambda z: jnp.sum(loss(z, jnp.asarray(batch.y))))(logits)
    error = jnp.linalg.norm(slope, axis=-1)
    left = gradient_norm
    if left is None:
        left = group_gradient_norms(apply, params, batch, num_groups=num_groups, loss=loss)

    def mean(values: Array) -> Array:
        return group_mean(values, batch.group, num_groups, batch.weight, empty=jnp.nan)[0]

    right = mean(error * jacobian)
    return Statement(
        name="Proposition 2, corrected",
        left=jnp.where(jnp.isfinite(right), left, jnp.nan),
        right=right,
        terms={"error": mean(error), "jacobian_norm": mean(jacobian)},
    )


def proposition3(probabilities: Array) -> Proposition3:
    """Proposition 3: f(1 - f) is largest at f = ½.

    It is smallest at 0 and 1; also in the form for any number of labels.

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
        variance = p[:, 0] * p[:, 1]
        binary = Statement(name="Proposition 3", left=variance, right=jnp.full_like(variance, 0.25))
    return Proposition3(
        binary=binary,
        multiclass=Statement(name="Proposition 3 for any number of labels", left=closeness, right=limit, rounding=1e-4),
        half=Statement(name="Proposition 3, limit", left=closeness, right=jnp.full_like(closeness, 0.5)),
    )


def softmax_curvature(probabilities: Array) -> Array:
    """The largest curvature of cross-entropy in the logits, [N].

    λ_max(diag p - ppᵀ) for probabilities p, the rows of [N, C].
    """
    p = jnp.asarray(probabilities)
    matrices = jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None, :]
    return jnp.maximum(jnp.linalg.eigvalsh(matrices)[:, -1], 0)
