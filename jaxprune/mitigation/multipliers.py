"""The Lagrangian as an optax transformation, with multipliers in its state."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.mitigation.buffer import Buffer, empty_buffer
from jaxprune.mitigation.constraints import Constraint
from jaxprune.mitigation.duals import check_ascends
from jaxprune.types import Array, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LagrangianState:
    """The state of `lagrangian`.

    Attributes:
      multipliers: [G], one for each group: float32, or float64 where `jax_enable_x64` is on. In float32 a multiplier
        stands still once its change falls below some 6e-8 of it; a small rate then stops short of the solution.
      dual: The state of the dual transformation.
      primal: The state of the primal transformation.
      constraint: The constraint, not a leaf: the step that takes the gradient reads it here, so that the two cannot
        differ.
      penalty: [] the coefficient c of the augmented Lagrangian; 0 is the plain one.
      tolerance: [] in place of the constraint's own; None for its own.
      buffer: The last examples of each group, where violations are measured on them.
    """

    multipliers: Array
    dual: optax.OptState
    primal: optax.OptState
    constraint: Constraint = field(metadata={"static": True})
    penalty: Array | float = 0.0
    tolerance: Array | None = None
    buffer: Buffer | None = None

    def weights(self, violation: Array) -> Array:
        """[G] weights of the surrogates: λ, or λ + c·violation if augmented.

        The gradient of Σ_a (max(0, λ_a + c g_a)² - λ_a²) / 2c, and of Σ_a λ_a h_a + ½ c h_a² for equalities, is that of
        the surrogates with these weights.
        """
        weights = self.multipliers + self.penalty * violation
        return jnp.maximum(weights, 0) if self.constraint.inequality else weights


def lagrangian(
    primal_tx: optax.GradientTransformation,
    constraint: Constraint,
    dual_tx: optax.GradientTransformation,
    *,
    penalty: Array | float = 0.0,
    buffer: int = 0,
    tolerance: Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Descend on the parameters and ascend on the multipliers of a Lagrangian.

    The gradients given to `update` are those of J + Σ_a w_a s_a (s_a the surrogate, w_a the multiplier, or what the
    augmented Lagrangian makes of it), as `make_lagrangian_step` computes them. `dual_tx` is an ordinary optimiser, such
    as `optax.sgd(1e-3)`, or one of `mitigation.duals`: it is given minus the violation, so that descending it raises
    the multiplier of a violated constraint. The sign is not the caller's concern, and a negative rate is refused.
    Multipliers of inequalities are projected onto λ >= 0. Which multipliers the gradient is taken at (simultaneous,
    alternating, extragradient) is the step's choice.

    It composes with `optax.chain`, schedules and `keep_masked`. Inside `optax.MultiSteps`, which drops named arguments,
    wrap it again as `optax.GradientTransformationExtraArgs(steps.init, steps.update)`; the multipliers then see the
    violation of the last small batch only. A dual optimiser of optax with momentum moves the multiplier of a group on
    while that group is absent; plain `optax.sgd` and `nu_pi` do not.

    Args:
      primal_tx: The optimiser of the parameters.
      constraint: The constraint on every group.
      dual_tx: The optimiser of the multipliers.
      penalty: The coefficient c >= 0 of the augmented Lagrangian.
      buffer: Examples of each group to keep and measure the violation on; 0 measures on the batch.
      tolerance: In place of the constraint's own, as an array: several then train as one program.

    Returns:
      The transformation. `update` takes by name `violation` [G], `present` [G] (the groups it was measured on; None
      for all) and, with a buffer, the new `buffer`; the multipliers begin at 0.

    Raises:
      UserError: The dual optimiser goes the wrong way, or the penalty is negative.
    """
    primal = optax.with_extra_args_support(primal_tx)
    dual = optax.with_extra_args_support(dual_tx)
    check_ascends(dual, constraint.num_groups)
    if not isinstance(penalty, Tracer) and penalty < 0:
        raise UserError(f"penalty: {penalty} is negative; 0 is the plain Lagrangian")

    def init(params: optax.Params) -> Any:
        dtype = jnp.result_type(float)
        multipliers = jnp.zeros(constraint.num_groups, dtype)
        return LagrangianState(
            multipliers=multipliers,
            dual=dual.init(multipliers),
            primal=primal.init(params),
            constraint=constraint,
            penalty=jnp.asarray(penalty, dtype),
            tolerance=None if tolerance is None else jnp.asarray(tolerance, dtype),
            buffer=empty_buffer(constraint.num_groups, buffer) if buffer else None,
        )

    # Pyright: `update` needs the violation.
    return optax.GradientTransformationExtraArgs(init, partial(_advance, primal, dual))  # pyright: ignore


def _advance(
    primal: optax.GradientTransformationExtraArgs,
    dual: optax.GradientTransformationExtraArgs,
    updates: optax.Updates,
    state: LagrangianState,
    params: optax.Params | None = None,
    *,
    violation: Array,
    present: Array | None = None,
    buffer: Buffer | None = None,
    **extra: Any,
) -> tuple[optax.Updates, LagrangianState]:
    """The update of `lagrangian`."""
    updates, primal_state = primal.update(updates, state.primal, params, **extra)
    error = -violation.astype(state.multipliers.dtype)
    climb, dual_state = dual.update(error, state.dual, state.multipliers, present=present)
    multipliers: Any = optax.apply_updates(state.multipliers, climb)
    if state.constraint.inequality:
        multipliers = jnp.maximum(multipliers, 0)
    return updates, replace(
        state,
        multipliers=multipliers,
        dual=dual_state,
        primal=primal_state,
        buffer=state.buffer if buffer is None else buffer,
    )


def lagrangian_states(opt_state: PyTree) -> list[LagrangianState]:
    """Every state of `lagrangian` within an optimiser state."""
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, LagrangianState))
    return [leaf for leaf in leaves if isinstance(leaf, LagrangianState)]


def multipliers_of(opt_state: PyTree) -> Array:
    """The multipliers [G] of the one `lagrangian` within an optimiser state."""
    return only_lagrangian_state(opt_state).multipliers


def only_lagrangian_state(opt_state: PyTree) -> LagrangianState:
    """The one state of `lagrangian` within `opt_state`.

    Raises:
      ValueError: There is none, or more than one.
    """
    states = lagrangian_states(opt_state)
    if len(states) != 1:
        raise ValueError(
            f"the optimiser state holds {len(states)} Lagrangian states; build it with one lagrangian(...)"
        )
    return states[0]
