"""Hessians of the group losses: products with vectors, and the ends of their spectra."""

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
    """λ_max and λ_min, algebraic, of each group's curvature matrix, all groups in one compiled program.

    Args:
      operator: The curvature, made by `group_operator`.
      key: Decides the starting vectors, each half of them; the other half is the group's gradient.
      tolerance: Of the residual, as `extreme_eigenvalues` has it.
      max_iterations: The largest number of products for each group.
      memory: Bytes for the Lanczos vectors; where they do not suffice the search is restarted, which takes more
        products. Four vectors for each group are held at least.
      both: Whether to go on until both ends have converged; otherwise λ_min is what came with λ_max.

    Returns:
      Both ends, each with value, residual, converged and matvecs [G]; NaN and not converged for a group without
      examples.

    Raises:
      UserError: `max_iterations` is below 1.
    """
    check_key(key)
    held = vectors_within(memory, operator.num_groups, operator.num_params, operator.dtype.itemsize)
    return _group_extreme_eigenvalues(
        operator,
        key,
        tolerance,
        max_iterations=max_iterations,
        max_vectors=held if held < max_iterations else None,
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
    """λ(H_a), the largest algebraic eigenvalue of each group's Hessian, as Theorem 1 of Tran et al. 2022 wants it.

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
        # As much of a random direction, which misses nothing, as of the gradient, which is near to the largest; on one
        # side, that they do not cancel where there are few parameters.
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


def _where_present(found: Eigenvalue, size: Array) -> Eigenvalue:
    """NaN and not converged for a group without examples: the operator 0 stands in for a matrix that is not there."""
    missing = jnp.asarray(size) <= 0
    value, residual = (jnp.where(missing, jnp.nan, leaf) for leaf in (found.value, found.residual))
    return Eigenvalue(value, residual, found.converged & ~missing, found.matvecs)
