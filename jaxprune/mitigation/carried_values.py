"""Arrays that a step needs beside the parameters, kept in the optimiser's state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxprune.errors import UserError
from jaxprune.mitigation.measuring import DenseReference
from jaxprune.types import Array, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HeldState:
    """The state of `hold`: name -> arrays."""

    values: dict[str, Any]


def hold(values: Mapping[str, Any]) -> optax.GradientTransformationExtraArgs:
    """Does nothing to the updates, and keeps arrays in its state: what a step reads besides parameters and batch.

    There they are saved, sharded and mapped over replicas with the rest, and one compiled step serves any values. They
    are the dense network's outputs, the weights of groups, hyperparameters. Chain it with the optimiser.

    Args:
      values: Name -> a pytree of arrays.

    Returns:
      The transformation; `update` takes `held` by name, new values for some of the names.
    """

    def init(params: optax.Params) -> Any:
        # Copies: donating the state must not delete the caller's arrays. Of the array's own type: a weak one would
        # become strong in the first step, and compile the second one anew.
        def copied(value: Any) -> Array:
            return jnp.array(value, jnp.asarray(value).dtype)

        return HeldState({name: jax.tree.map(copied, value) for name, value in values.items()})

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        held: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, Any]:
        changed = {name: value for name, value in (held or {}).items() if name in state.values}
        return updates, HeldState(state.values | changed)

    return optax.GradientTransformationExtraArgs(init, update)


def held_of(opt_state: PyTree) -> dict[str, Any]:
    """Everything that is held within an optimiser state, by name."""
    states = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, HeldState))
    found: dict[str, Any] = {}
    for state in states:
        found |= state.values if isinstance(state, HeldState) else {}
    return found


def held(opt_state: PyTree, name: str) -> Array:
    """One value that is held.

    Raises:
      UserError: There is none of that name.
    """
    values = held_of(opt_state)
    if name not in values:
        raise UserError(
            f"the optimiser state holds no {name!r}; chain the optimiser with mitigation.hold({{{name!r}: ...}})"
        )
    return values[name]


def dense_of(opt_state: PyTree) -> DenseReference | None:
    """The dense network that is held, or None."""
    return held_of(opt_state).get("dense")
