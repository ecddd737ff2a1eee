"""Arrays beside the parameters, kept in the optimiser state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxprune.errors import UserError
from jaxprune.mitigation.dense import DenseReference
from jaxprune.types import Array, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CarryState:
    """The state of `carry`: name -> arrays."""

    values: dict[str, Any]


def carry(values: Mapping[str, Any]) -> optax.GradientTransformationExtraArgs:
    """Keep arrays in the optimiser state; updates pass unchanged.

    There they are saved, sharded and mapped over replicas with the rest, and one compiled step serves any values. They
    are the dense network's outputs, the weights of groups, hyperparameters. Chain it with the optimiser.

    Args:
      values: Name -> a pytree of arrays.

    Returns:
      The transformation; `update` takes `carried` by name: new values for some of the names.
    """

    def init(params: optax.Params) -> Any:
        # Copies: donating the state must not delete the caller's arrays. Of the array's own type: a weak one would
        # become strong in the first step, and compile the second one anew.
        def copied(value: Any) -> Array:
            return jnp.array(value, jnp.asarray(value).dtype)

        return CarryState({name: jax.tree.map(copied, value) for name, value in values.items()})

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        carried: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, Any]:
        changed = {name: value for name, value in (carried or {}).items() if name in state.values}
        return updates, CarryState(state.values | changed)

    return optax.GradientTransformationExtraArgs(init, update)


def carried(opt_state: PyTree) -> dict[str, Any]:
    """All carried values within an optimiser state, by name."""
    states = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, CarryState))
    values: dict[str, Any] = {}
    for state in states:
        values |= state.values if isinstance(state, CarryState) else {}
    return values


def carried_value(opt_state: PyTree, name: str) -> Array:
    """One carried value.

    Raises:
      UserError: There is none of that name.
    """
    values = carried(opt_state)
    if name not in values:
        raise UserError(
            f"the optimiser state carries no {name!r}; chain the optimiser with mitigation.carry({{{name!r}: ...}})"
        )
    return values[name]


def dense_of(opt_state: PyTree) -> DenseReference | None:
    """The carried dense network, or None."""
    return carried(opt_state).get("dense")
