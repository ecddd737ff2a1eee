"""The Lagrangian as an optax transformation: parameters descend, multipliers ascend, both in one state."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxprune.mitigation.constraints import Constraint
from jaxprune.types import Array, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LagrangianState:
    """The state of `lagrangian`.

    Attributes:
      multipliers: [G] float32, one for each group.
      dual: The state of the dual transformation.
      primal: The state of the primal transformation.
      constraint: The constraint, not a leaf: the step that takes the gradient reads it here, so that the two cannot
        differ.
    """

    multipliers: Array
    dual: optax.OptState
    primal: optax.OptState
    constraint: Constraint = field(metadata={"static": True})


def lagrangian(
    primal_tx: optax.GradientTransformation, constraint: Constraint, dual_tx: optax.GradientTransformation
) -> optax.GradientTransformationExtraArgs:
    """Descends on the parameters and ascends on the multipliers of a Lagrangian.

    The gradients given to `update` are those of J + Σ_a λ_a s_a at the multipliers of the state (s_a the surrogate),
    as `make_lagrangian_step` computes them. `dual_tx` is an ordinary optimiser, such as `optax.sgd(1e-3)`: it is
    given minus the violation, so that descending it raises the multiplier of a violated constraint. The sign is not
    the caller's concern. Both updates use the old state (simultaneous), and multipliers of inequalities are projected
    onto λ >= 0.

    It composes with `optax.chain`, schedules and `keep_masked`. Inside `optax.MultiSteps`, which drops named arguments,
    wrap it again as `optax.GradientTransformationExtraArgs(steps.init, steps.update)`; the multipliers then see the
    violation of the last small batch only. A dual optimiser with momentum moves the multiplier of a group on while that
    group is absent; plain `optax.sgd` does not.

    Args:
      primal_tx: The optimiser of the parameters.
      constraint: What is to hold for every group.
      dual_tx: The optimiser of the multipliers.

    Returns:
      The transformation. `update` takes `violation` [G] by name; the multipliers begin at 0.
    """
    primal = optax.with_extra_args_support(primal_tx)
    dual = optax.with_extra_args_support(dual_tx)

    def init(params: optax.Params) -> Any:
        multipliers = jnp.zeros(constraint.num_groups, jnp.float32)
        return LagrangianState(multipliers, dual.init(multipliers), primal.init(params), constraint)

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        violation: Array,
        **extra: Any,
    ) -> tuple[optax.Updates, Any]:
        updates, primal_state = primal.update(updates, state.primal, params, **extra)
        ascent, dual_state = dual.update(-violation.astype(jnp.float32), state.dual, state.multipliers)
        multipliers = optax.apply_updates(state.multipliers, ascent)
        if state.constraint.inequality:
            multipliers = jnp.maximum(multipliers, 0)  # pyright: ignore[reportArgumentType]
        return updates, LagrangianState(multipliers, dual_state, primal_state, state.constraint)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType] (needs violation)


def lagrangian_states(opt_state: PyTree) -> list[LagrangianState]:
    """Every state of `lagrangian` within the state of a chain or a wrapper."""
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, LagrangianState))
    return [leaf for leaf in leaves if isinstance(leaf, LagrangianState)]


def multipliers_of(opt_state: PyTree) -> Array:
    """The multipliers [G] within the state of a transformation that holds exactly one `lagrangian`."""
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
