"""Straight-through pruning: the gradient of masked weights trains dense ones."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.masks import apply_masks
from jaxprune.pruning.schedules import SparsitySchedule
from jaxprune.pruning.structure import Structure
from jaxprune.pruning.transform import mask_updates, needed
from jaxprune.pruning.updates import MaskUpdate, all_kept, key_data
from jaxprune.replicas import only_when
from jaxprune.types import Array, Masks, Params, PyTree


class StraightThroughState(NamedTuple):
    """The dense weights and the masks, beside the state of the optimiser.

    Attributes:
      step: [] int32, updates done.
      latent: The dense parameters.
      masks: Bools with the structure of the parameters, True = kept; of the latent ones after the last update.
      key: The data of the random key, () where none was given.
      inner: The state of the wrapped transformation.
    """

    step: Array
    latent: Params
    masks: Masks
    key: Array | tuple[()]
    inner: PyTree


def straight_through(
    inner: optax.GradientTransformation,
    criterion: Criterion,
    schedule: SparsitySchedule,
    *,
    allocation: Allocation | None = None,
    structure: Structure | None = None,
    prunable: PyTree = None,
    key: jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Train dense weights behind sparse ones, along a schedule.

    The parameters that the caller sees are w ⊙ mask, pruned weights exactly 0. The gradient there, of pruned weights
    too, updates the dense w, which the state holds (Bengio et al. 2013; Zhou et al. 2021 for N:M). Masks are found anew
    from w every time, so pruned weights come back. After the end of the schedule, masks are still updated every
    `schedule.every` steps, at the target.

    Args:
      inner: Any optax transformation; it sees the whole gradient, and w as the parameters.
      criterion: As for `sparsify`; scores are those of w after the update, its gradients those of this step.
      schedule: As for `sparsify`.
      allocation: As for `prune`.
      structure: As for `prune`.
      prunable: As for `prune`.
      key: Decides random scores, with the number of the step.

    Returns:
      The transformation, which goes last (outermost) in a chain. `update` needs `params`, and hands named arguments on.

    Raises:
      UserError: As `sparsify` does.
      ValueError: From `update`, without `params`.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from jaxprune import pruning
      >>> params = {"kernel": jnp.array([[3.0, -1.0], [0.5, 2.0]])}
      >>> tx = pruning.straight_through(optax.sgd(1.0), pruning.magnitude(), pruning.at_once(0.5))
      >>> updates, state = tx.update({"kernel": jnp.zeros((2, 2))}, tx.init(params), params)
      >>> optax.apply_updates(params, updates)["kernel"].tolist()
      [[3.0, 0.0], [0.0, 2.0]]
      >>> state.latent["kernel"].tolist()
      [[3.0, -1.0], [0.5, 2.0]]
    """
    inner = optax.with_extra_args_support(inner)
    updated = MaskUpdate(criterion, schedule, allocation, structure, prunable, key)
    updated.check()

    def init(params: optax.Params) -> StraightThroughState:
        updated.check_params(params)
        latent = jax.tree.map(jnp.array, params)  # a copy: donating the state must not delete the parameters
        return StraightThroughState(
            jnp.zeros((), jnp.int32), latent, all_kept(params), key_data(key), inner.init(params)
        )

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, StraightThroughState]:
        params = needed(params, "straight_through")
        steps, inner_state = inner.update(updates, state.inner, state.latent, **extra)
        latent = optax.apply_updates(state.latent, steps)

        def renewed() -> Masks:
            return updated.masks(latent, None, step=state.step, grads=updates, key_data=state.key, extra=extra)[1]

        after = (state.step > schedule.end) & ((state.step - schedule.begin) % schedule.every == 0)
        masks = only_when(schedule.due(state.step) | after, renewed, state.masks)
        shown = mask_updates(jax.tree.map(jnp.subtract, latent, params), masks, params)
        return shown, StraightThroughState(state.step + 1, latent, masks, state.key, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def straight_through_params(params: Params, masks: Masks) -> Params:
    """Masked parameters whose gradient goes to the dense ones.

    For the loss of your own training loop: `loss(straight_through_params(params, masks))`.

    Args:
      params: The dense parameters.
      masks: Bools with the structure of `params`, True = kept.

    Returns:
      w ⊙ mask; its derivative by w is taken to be 1 for pruned weights too.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> w, mask = jnp.array([1.0, 2.0]), jnp.array([True, False])
      >>> def loss(w):
      ...     return jnp.sum((pruning.straight_through_params(w, mask) - 3.0) ** 2)
      >>> jax.grad(loss)(w).tolist()
      [-4.0, -6.0]
    """
    return _masked(params, masks)


@jax.custom_jvp
def _masked(params: Params, masks: Masks) -> Params:
    return apply_masks(params, masks)


@partial(_masked.defjvp)
def _masked_jvp(primals: Any, tangents: Any) -> tuple[Params, Params]:
    return _masked(*primals), tangents[0]
