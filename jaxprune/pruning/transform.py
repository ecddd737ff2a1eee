"""The optax transformation that keeps pruned weights at exactly zero."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprune.errors import UserError
from jaxprune.pruning.matching import matched_masks
from jaxprune.types import Masks, Params


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
      masks: Bools with the structure of the parameters, True = kept; None in place of a leaf keeps all of it. May be
        None where only `update` is used, with states that were made with masks.

    Returns:
      The transformation. `update` needs `params`.

    Raises:
      UserError: From `init`, where the masks do not fit the parameters.
      ValueError: From `update`, without `params`.

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
        return KeepMaskedState(copy_masks(masks, params, "keep_masked"))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None
    ) -> tuple[optax.Updates, KeepMaskedState]:
        return mask_updates(updates, state.masks, needed(params, "keep_masked")), state

    return optax.GradientTransformation(init, update)


def mask_updates(updates: optax.Updates, masks: Masks, params: Params) -> optax.Updates:
    """Updates after which pruned weights are exactly 0: minus their value.

    Args:
      updates: What an optimiser gives.
      masks: Bools, True = kept; a leaf may be None, which keeps all of it.
      params: The parameters before the update.

    Returns:
      The updates.
    """
    leaves, treedef = jax.tree.flatten(params)
    triples = zip(treedef.flatten_up_to(masks), treedef.flatten_up_to(updates), leaves, strict=True)
    return jax.tree.unflatten(treedef, [u if m is None else jnp.where(m, u, -p) for m, u, p in triples])


def copy_masks(masks: Masks, params: Params, where: str) -> Masks:
    """A copy of the masks, once they are known to fit.

    Args:
      masks: Bools with the structure of `params`; a leaf may be None.
      params: The parameters.
      where: The transformation, for the message.

    Raises:
      UserError: They do not fit; it names the first leaf that does not.
    """
    if masks is None:
        raise UserError(f"{where}: the masks do not have the structure of the parameters: they are None; give some")
    try:
        matched = matched_masks(masks, params, none=True)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return jax.tree.unflatten(
        jax.tree.structure(params), [None if mask is None else jnp.array(mask, bool) for mask in matched]
    )


def needed(params: Params | None, where: str) -> Params:
    """The parameters that were given to `update`.

    Raises:
      ValueError: None were given.
    """
    if params is None:
        raise ValueError(f"{where} needs the parameters: call update(updates, state, params)")
    return params
