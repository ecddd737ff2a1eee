"""The optax transformation that keeps pruned weights at exactly zero."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprune.types import Masks


class KeepMaskedState(NamedTuple):
    """The masks, a copy of their own: donating the state must not delete the caller's."""

    masks: Masks


def keep_masked(masks: Masks) -> optax.GradientTransformation:
    """Keeps the weights that `masks` prunes at exactly 0; put it last in an `optax.chain`.

    The update of a pruned weight is minus its value, so that a plain `optax.apply_updates` gives exactly 0 whatever
    momentum or weight decay did before, and also when the weights were not zeroed at the start. The masks live in
    the state (they are saved and sharded with it, and one compiled step serves any masks); `update` reads them there.

    Args:
      masks: Bools with the structure of the parameters, True = kept. May be None where only `update` is used, with
        states that were made with masks.

    Returns:
      The transformation. `update` needs `params`.
    """

    def init(params: optax.Params) -> KeepMaskedState:
        assert jax.tree.structure(masks) == jax.tree.structure(params), "the masks do not have the params' structure"
        return KeepMaskedState(jax.tree.map(lambda m: jnp.array(m, bool), masks))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None
    ) -> tuple[optax.Updates, KeepMaskedState]:
        if params is None:
            raise ValueError("keep_masked needs the parameters: call update(updates, state, params)")
        return jax.tree.map(lambda m, u, p: jnp.where(m, u, -p), state.masks, updates, params), state

    return optax.GradientTransformation(init, update)
