"""Largest and smallest eigenvalues of the groups' curvature."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxprune.losses import cross_entropy
from jaxprune.states import check_key
from jaxprune.theory.chunks import Chunks
from jaxprune.theory.derivatives.operators import (
    MEMORY,
    Curvature,
    GroupOperator,
    everywhere,
    group_operator,
    group_slopes,
    vectors_within,
)
from jaxprune.theory.spectra.lanczos import Eigenvalue, Extremes, extreme_eigenvalues, unit
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params


def group_extreme_eigenvalues(
    operator: GroupOperator,
    key: jax.Array,
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 50,
    memory: int = MEMORY,
    both: bool = True,
) -> Extremes:
    """The algebraic λ_max and λ_min of each group's curvature matrix.

    All groups are searched in one compiled program.

    Args:
      operator: The curvature, made by `group_operator`.
      key: Decides one half of each starting vector; the other half is the group's gradient.
      tolerance: Of the residual, as in `extreme_eigenvalues`.
      max_iterations: The largest number of products for each group.
      memory: Bytes for the Lanczos vectors; where they are too few the search is restarted, which takes more products.
        At least four vectors are kept for each group.
      both: Search until both ends have converged; otherwise λ_min is the value reached when λ_max has.

    Returns:
      Both ends, each with value, residual, converged and matvecs [G]; NaN and not converged for a group without
      examples.

    Raises:
      UserError: `max_iterations` is below 1.
    """
    check_key(key)
    room = vectors_within(memory, operator.num_groups, operator.num_params, operator.dtype.itemsize)
    return _group_extreme_eigenvalues(
        operator,
        key,
        tolerance,
        max_iterations=max_iterations,
        max_vectors=room if room < max_iterations else None,
        both=both,
    )


def group_top_eigenvalues(
    apply: Apply,
    params: Params,
    batch: Batch | Chunks,
    *,
    num_groups: int,
    key: jax.Array,
    tolerance: float = 1e-3,
    max_iterations: int = 50,
    loss: ExampleLoss = cross_entropy,
    curvature: Curvature = "hessian",
    memory: int = MEMORY,
) -> Eigenvalue:
    """The largest algebraic eigenvalue λ(H_a) of each group's Hessian.

    The λ of Theorem 1 (Tran et al. 2022, eq. 4).

    All groups advance together in one compiled program.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples, or chunks of them made by `by_group` (for use under vmap).
      num_groups: G.
      key: Decides the starting vectors.
      tolerance: Of the residual, relative to the value.
      max_iterations: The largest number of Hessian-vector products for each group.
      loss: Per-example loss.
      curvature: "hessian" or "gauss_newton".
      memory: Bytes for the linearised products and, as much again, for the Lanczos vectors.

    Returns:
      Value, residual, converged and matvecs, each [G]; NaN and not converged for a group without examples.

    Raises:
      UserError: As `group_operator` does, or `max_iterations` is below 1.

    Example:
      One weight θ, loss log(1 + exp(-θx)) for label 1: at θ = 0 an example's curvature is x² / 4.

      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxprune import theory
      >>> from jaxprune.types import Batch
      >>> def apply(theta, x):
      ...     return jnp.concatenate([jnp.zeros_like(x), theta * x], axis=-1)
      >>> batch = Batch(x=jnp.array([[2.0], [2.0], [8.0]]), y=jnp.array([1, 1, 1]), group=jnp.array([0, 0, 1]))
      >>> top = theory.group_top_eigenvalues(apply, jnp.zeros(()), batch, num_groups=2, key=jax.random.key(0))
      >>> top.value.tolist(), top.converged.tolist()
      ([1.0, 16.0], [True, True])
    """
    operator = group_operator(
        apply, params, batch, num_groups=num_groups, loss=loss, curvature=curvature, memory=memory
    )
    return group_extreme_eigenvalues(
        operator, key, tolerance=tolerance, max_iterations=max_iterations, memory=memory, both=False
    ).largest


@partial(jax.jit, static_argnames=("max_iterations", "max_vectors", "both"))
def _group_extreme_eigenvalues(
    operator: GroupOperator,
    key: jax.Array,
    tolerance: float,
    *,
    max_iterations: int,
    max_vectors: int | None,
    both: bool,
) -> Extremes:
    def search(operator: GroupOperator, key: jax.Array, tolerance: float) -> Extremes:
        # Half a random direction, which is orthogonal to no eigenvector, and half the gradient, which lies near the
        # leading ones. The gradient is turned to the side of the random half, so that they cannot cancel.
        random = unit(jax.random.normal(key, (operator.num_groups, operator.num_params), operator.dtype))
        slope = unit(group_slopes(operator))
        side = jnp.where(jnp.sum(random * slope, 1, keepdims=True) < 0, -1, 1).astype(slope.dtype)
        return extreme_eigenvalues(
            operator,
            random + side * slope,
            tolerance=tolerance,
            max_iterations=max_iterations,
            max_vectors=max_vectors,
            both=both,
        )

    return Extremes(
        *(_where_present(end, operator.chunks.size) for end in everywhere(search, operator, key, tolerance))
    )


def _where_present(end: Eigenvalue, size: Array) -> Eigenvalue:
    """The eigenvalues, NaN and not converged for a group without examples.

    The operator is 0 for such a group, which has no matrix.
    """
    missing = jnp.asarray(size) <= 0
    value, residual = (jnp.where(missing, jnp.nan, leaf) for leaf in (end.value, end.residual))
    return Eigenvalue(value=value, residual=residual, converged=end.converged & ~missing, matvecs=end.matvecs)
