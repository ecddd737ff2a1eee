"""The optax transformation that keeps pruned weights at exactly zero."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprune.trees import leaf_path
from jaxprune.types import Masks


class KeepMaskedState(NamedTuple):
    """A copy of the masks.

    Donating the state must not delete the caller's masks.
    """

    masks: Masks


def keep_masked(masks: Masks) -> optax.GradientTransformation:
    """Keep pruned weights at exactly 0; put it last in an `optax.chain`.

    The update of a pruned weight is minus its value, so that a plain `optax.apply_updates` gives exactly 0 whatever
    momentum or weight decay did before, and also when the weights were not zeroed at the start. The masks live in
    the state (they are saved and sharded with it, and one compiled step serves any masks); `update` reads them there.

    Args:
      masks: Bools with the structure of the parameters, True = kept. May be None where only `update` is used, with
        states that were made with masks.

    Returns:
      The transformation. `update` needs `params`.

    Raises:
      ValueError: From `init`, where the masks do not fit the parameters; from `update`, without `params`.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from jaxprune import pruning
      >>> params, masks = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([True, False])}
      >>> tx = optax.chain(optax.sgd(0.5), pruning.keep_masked(masks))
      >>> updates, _ = tx.update({"w": jnp.array([1.0, 1.0])}, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["w"].tolist()
      [0.5, 0.0]
    """

    def init(params: optax.Params) -> KeepMaskedState:
        if jax.tree.structure(masks) != jax.tree.structure(params):
            raise ValueError(
                "keep_masked: the masks do not have the structure of the parameters; prune these parameters"
            )
        for (path, mask), leaf in zip(jax.tree_util.tree_leaves_with_path(masks), jax.tree.leaves(params), strict=True):
            if jnp.shape(mask) != jnp.shape(leaf):
                raise ValueError(
                    f"keep_masked: the mask of {leaf_path(path)} has shape {jnp.shape(mask)}, the parameter "
                    f"{jnp.shape(leaf)}; prune these parameters"
                )
        return KeepMaskedState(jax.tree.map(lambda m: jnp.array(m, bool), masks))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None
    ) -> tuple[optax.Updates, KeepMaskedState]:
        if params is None:
            raise ValueError("keep_masked needs the parameters: call update(updates, state, params)")
        return jax.tree.map(lambda m, u, p: jnp.where(m, u, -p), state.masks, updates, params), state

    return optax.GradientTransformation(init, update)
