"""Pruning during training, as a wrapper of any optax transformation."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.schedules import SparsitySchedule
from jaxprune.pruning.structure import Structure
from jaxprune.pruning.transform import copy_masks, mask_updates, needed
from jaxprune.pruning.updates import MaskUpdate, all_kept, filled, key_data
from jaxprune.replicas import only_when
from jaxprune.types import Array, Masks, Params, PyTree


class SparsifyState(NamedTuple):
    """The masks, beside the state of the optimiser.

    Attributes:
      step: [] int32, updates done.
      masks: Bools with the structure of the parameters, True = kept.
      key: The data of the random key, () where none was given.
      inner: The state of the wrapped transformation.
    """

    step: Array
    masks: Masks
    key: Array | tuple[()]
    inner: PyTree


def sparsify(
    inner: optax.GradientTransformation,
    criterion: Criterion,
    schedule: SparsitySchedule,
    *,
    allocation: Allocation | None = None,
    structure: Structure | None = None,
    prunable: PyTree = None,
    masks: Masks | None = None,
    key: jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Prune along a schedule while an optimiser trains.

    What is pruned stays pruned. Pruned weights are exactly 0 after a plain `optax.apply_updates`, whatever momentum or
    weight decay do. Scores are taken where the gradient was: at the parameters before the update. The optimiser sees
    the gradient of the kept weights, 0 for the others. Steps that update no masks compute no scores, also where
    replicas are mapped over by `vmap`, and the update of masks is part of the one compiled program.

    It goes last (outermost) in an `optax.chain`: `optax.scale` after it would change updates that leave exact zeros.
    `optax.MultiSteps` goes around it, so that the steps of the schedule are applied updates.

    Args:
      inner: Any optax transformation, such as `optax.adam(1e-3)`.
      criterion: The criterion, such as `magnitude()`. "gradients" are those that the wrapper sees, of one batch; what
        else it needs is given to `update` by name: `apply`, `batch`, `num_groups`, `loss`.
      schedule: The schedule, such as `cubic(0.9, end=1000, every=100)`; `gradual` makes one of any optax schedule.
      allocation: As for `prune`.
      structure: As for `prune`.
      prunable: As for `prune`.
      masks: What is pruned already and stays so; None for nothing.
      key: Decides random scores, with the number of the step.

    Returns:
      The transformation. `update` needs `params`, and hands named arguments on to `inner`.

    Raises:
      UserError: The criterion needs a key, or the allocation is not the one that it is defined for; from `init`, where
        the structure or the masks do not fit the parameters; from `update`, where the criterion needs an argument.
      ValueError: From `update`, without `params`.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from jaxprune import pruning
      >>> params = {"kernel": jnp.array([[3.0, -1.0], [0.5, 2.0]]), "bias": jnp.zeros(2)}
      >>> schedule = pruning.cubic(0.75, end=2)
      >>> tx = pruning.sparsify(optax.sgd(0.1), pruning.magnitude(), schedule)
      >>> state = tx.init(params)
      >>> for _ in range(3):
      ...     updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
      ...     params = optax.apply_updates(params, updates)
      >>> int((params["kernel"] != 0).sum()), params["bias"].shape
      (1, (2,))
    """
    inner = optax.with_extra_args_support(inner)
    updated = MaskUpdate(criterion, schedule, allocation, structure, prunable, key)
    updated.check()

    def init(params: optax.Params) -> SparsifyState:
        updated.check_params(params)
        start = all_kept(params) if masks is None else filled(copy_masks(masks, params, "sparsify"), params)
        return SparsifyState(jnp.zeros((), jnp.int32), start, key_data(key), inner.init(params))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, SparsifyState]:
        params = needed(params, "sparsify")
        new_masks, correction = _update_masks(updated, updates, state, params, extra)
        steps, inner_state = inner.update(mask_gradients(updates, new_masks), state.inner, params, **extra)
        if correction is not None:
            steps = jax.tree.map(jnp.add, steps, correction)
        return mask_updates(steps, new_masks, params), SparsifyState(state.step + 1, new_masks, state.key, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _update_masks(
    updated: MaskUpdate, updates: optax.Updates, state: Any, params: Params, extra: dict[str, Any]
) -> tuple[Masks, Params | None]:
    """The masks after this step, and the correction of kept weights."""
    corrects = updated.criterion.correct is not None

    def renewed() -> tuple[Masks, Params | None]:
        pruned, masks = updated.masks(
            params, state.masks, step=state.step, grads=updates, key_data=state.key, extra=extra
        )
        # A schedule that falls, or starts below what is pruned already, must not let weights regrow.
        masks = jax.tree.map(jnp.logical_and, state.masks, masks)
        return masks, jax.tree.map(jnp.subtract, pruned, params) if corrects else None

    otherwise = (state.masks, jax.tree.map(jnp.zeros_like, params) if corrects else None)
    return only_when(updated.schedule.due(state.step), renewed, otherwise)


def mask_gradients(updates: optax.Updates, masks: Masks) -> optax.Updates:
    """The gradient of the kept weights, 0 for the others."""
    leaves, treedef = jax.tree.flatten(updates)
    pairs = zip(treedef.flatten_up_to(masks), leaves, strict=True)
    return jax.tree.unflatten(treedef, [u if m is None else jnp.where(m, u, jnp.zeros_like(u)) for m, u in pairs])
