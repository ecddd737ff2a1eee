"""Sparse training from the start: static masks, SET and RigL."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxprune.errors import UserError
from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.criteria.random import random
from jaxprune.pruning.masks import apply_masks, check_sparsity, layerwise_masks
from jaxprune.pruning.matching import matched, matched_masks
from jaxprune.pruning.oneshot import prune
from jaxprune.pruning.schedules import check_times, is_due
from jaxprune.pruning.selection import flags
from jaxprune.pruning.selection import prunable as select_prunable
from jaxprune.pruning.sparsify import SparsifyState, mask_gradients
from jaxprune.pruning.thresholds import keep_all_but_lowest
from jaxprune.pruning.transform import mask_updates, needed
from jaxprune.pruning.updates import key_data, key_of_step
from jaxprune.replicas import only_when
from jaxprune.states import check_key, typed_key
from jaxprune.types import Array, Masks, Params, PyTree, Scores

# (updates, params, key) -> scores of the weights that may grow; the highest grow first.
Growth = Callable[[optax.Updates, Params, jax.Array], Scores]


class _Regrowth(NamedTuple):
    """When masks are updated, by how much, and what grows."""

    begin: int
    end: int
    every: int
    fraction: optax.ScalarOrSchedule
    growth: Growth


def static_sparse(
    inner: optax.GradientTransformation,
    sparsity: float,
    *,
    key: jax.Array,
    allocation: Allocation = layerwise_masks,
    prunable: PyTree = None,
) -> optax.GradientTransformationExtraArgs:
    """Train under random masks that never change: the control for `rigl`.

    It goes last (outermost) in an `optax.chain`.

    Args:
      inner: Any optax transformation.
      sparsity: The share to prune, in [0, 1).
      key: Decides the masks.
      allocation: How the sparsity is shared out over the layers.
      prunable: Bools with the structure of the parameters; None for the rule of `pruning.prunable`.

    Returns:
      The transformation, as `rigl`.
    """
    return _sparse_training(inner, sparsity, key, allocation, prunable, None)


def sparse_evolution(
    inner: optax.GradientTransformation,
    sparsity: float,
    *,
    key: jax.Array,
    begin: int = 0,
    end: int,
    every: int = 100,
    fraction: optax.ScalarOrSchedule | None = None,
    allocation: Allocation = layerwise_masks,
    prunable: PyTree = None,
) -> optax.GradientTransformationExtraArgs:
    """SET: weights are dropped, and others grow at random.

    Mocanu et al. (2018), algorithm 1, with the decay of `rigl`. It goes last (outermost) in an `optax.chain`.

    Args:
      inner: As for `rigl`.
      sparsity: As for `rigl`.
      key: Decides the first masks and what grows.
      begin: As for `rigl`.
      end: As for `rigl`.
      every: As for `rigl`.
      fraction: As for `rigl`.
      allocation: As for `rigl`.
      prunable: As for `rigl`.

    Returns:
      The transformation, as `rigl`.

    Raises:
      UserError: As `rigl` does.
    """

    def growth(updates: optax.Updates, params: Params, key: jax.Array) -> Scores:
        return random().score(params, key=key)

    regrowth = _regrowth(begin, end, every, fraction, growth)
    return _sparse_training(inner, sparsity, key, allocation, prunable, regrowth)


def rigl(
    inner: optax.GradientTransformation,
    sparsity: float,
    *,
    key: jax.Array,
    begin: int = 0,
    end: int,
    every: int = 100,
    fraction: optax.ScalarOrSchedule | None = None,
    allocation: Allocation = layerwise_masks,
    prunable: PyTree = None,
) -> optax.GradientTransformationExtraArgs:
    """RigL: weights are dropped, and others grow by their gradient.

    Evci et al. (2020), algorithm 1. At an update of the masks, a fraction f(t) of each layer's kept weights, those with
    the smallest |w|, is dropped; as many grow among all that are then not kept, where the gradient of the dense layer
    is largest. As in the paper, a weight that was just dropped may grow; it then stays as it was. Every layer keeps its
    number of weights exactly. Weights that grow begin at 0, and everything that the optimiser remembers of them begins
    anew: in whatever state of it, leaves that lie at a parameter's path and have its shape are taken for that
    parameter's. The optimiser's step is taken at updates of the masks too, by the weights that were kept and stay so.

    The masks of `init` are in `state.masks`; the first update applies them, so begin with
    `apply_masks(params, state.masks)` to be sparse from the first gradient on. It goes last (outermost) in an
    `optax.chain`; for the rest, as `sparsify`.

    Args:
      inner: Any optax transformation; it sees the gradient of the kept weights alone.
      sparsity: The share to prune, in [0, 1).
      key: Decides the first masks, which are random.
      begin: The first step that updates masks; the number of a step is that of the updates before it.
      end: The last one.
      every: Steps from one update of the masks to the next.
      fraction: f(t), in [0, 1], a number or an optax schedule, whose values are clamped; None for 0.3 falling to 0 at
        `end` along a cosine.
      allocation: How the sparsity is shared out over the layers.
      prunable: Bools with the structure of the parameters; None for the rule of `pruning.prunable`.

    Returns:
      The transformation. `update` needs `params`, and hands named arguments on to `inner`.

    Raises:
      UserError: The sparsity, the fraction or a step is out of range, or the key is none.
      ValueError: From `update`, without `params`.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from jaxprune import pruning
      >>> params = {"kernel": jnp.ones((4, 5)), "bias": jnp.zeros(5)}
      >>> tx = pruning.rigl(optax.adam(1e-3), 0.8, key=jax.random.key(0), end=300, every=100)
      >>> state = tx.init(params)
      >>> params = pruning.apply_masks(params, state.masks)
      >>> int((params["kernel"] != 0).sum())
      4
    """

    def growth(updates: optax.Updates, params: Params, key: jax.Array) -> Scores:
        return jax.tree.map(jnp.abs, updates)

    regrowth = _regrowth(begin, end, every, fraction, growth)
    return _sparse_training(inner, sparsity, key, allocation, prunable, regrowth)


def _regrowth(begin: int, end: int, every: int, fraction: optax.ScalarOrSchedule | None, growth: Growth) -> _Regrowth:
    check_times(begin, end, every)
    if fraction is None:
        return _Regrowth(begin, end, every, optax.cosine_decay_schedule(0.3, max(end, 1)), growth)
    if not callable(fraction) and not isinstance(fraction, Tracer) and not 0 <= np.asarray(fraction) <= 1:
        raise UserError(f"fraction: {fraction} is outside [0, 1]; 0.3 drops three of ten kept weights")
    return _Regrowth(begin, end, every, fraction, growth)


def _sparse_training(
    inner: optax.GradientTransformation,
    sparsity: float,
    key: jax.Array,
    allocation: Allocation,
    prunable: PyTree,
    regrowth: _Regrowth | None,
) -> optax.GradientTransformationExtraArgs:
    inner = optax.with_extra_args_support(inner)
    check_sparsity(sparsity)
    check_key(key)

    def init(params: optax.Params) -> SparsifyState:
        _, masks = prune(
            params, sparsity, criterion=random(), allocation=allocation, prunable=prunable, key=typed_key(key)
        )
        return SparsifyState(jnp.zeros((), jnp.int32), masks, key_data(key), inner.init(params))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra: Any
    ) -> tuple[optax.Updates, SparsifyState]:
        params = needed(params, "sparse training")
        masks = state.masks
        if regrowth is None:
            steps, inner_state = inner.update(mask_gradients(updates, masks), state.inner, params, **extra)
            return mask_updates(steps, masks, params), state._replace(step=state.step + 1, inner=inner_state)

        def renewed(of: _Regrowth = regrowth) -> Masks:
            fraction = of.fraction(state.step) if callable(of.fraction) else of.fraction
            scores = of.growth(updates, params, key_of_step(state.key, state.step, key))
            chosen = select_prunable(params) if prunable is None else prunable
            return drop_and_grow(params, masks, scores, fraction, chosen)

        new_masks = only_when(is_due(state.step, regrowth.begin, regrowth.end, regrowth.every), renewed, masks)
        # Those that take this step: what grew is 0 and has no gradient yet; what is pruned has nothing to remember.
        # Beginning anew is outside of the condition, which would copy the whole state at every step, and before the
        # optimiser's step, with which it fuses.
        stay = jax.tree.map(jnp.logical_and, new_masks, masks)
        anew = reset_moments(state.inner, inner.init(apply_masks(params, stay)), stay)
        steps, inner_state = inner.update(mask_gradients(updates, stay), anew, params, **extra)
        return mask_updates(steps, stay, params), SparsifyState(state.step + 1, new_masks, state.key, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def drop_and_grow(params: Params, masks: Masks, growth: Scores, fraction: ArrayLike, prunable: PyTree = None) -> Masks:
    """Masks with a fraction of each layer's kept weights replaced.

    Args:
      params: The parameters; of the kept, those with the smallest |w| are dropped.
      masks: Bools with the structure of `params`, True = kept.
      growth: Scores of at least 0; of what is then not kept, the highest grow.
      fraction: Of the kept weights, in [0, 1], to which it is clamped; may be traced. The number is rounded down.
      prunable: Bools with the structure of `params`; None for all.

    Returns:
      Masks that keep as many weights of every layer as before.

    Raises:
      UserError: The masks, the scores or the flags do not fit the parameters.
    """
    leaves, treedef = jax.tree.flatten(params)
    scores = matched(growth, params, "growth: the scores")
    layers = zip(leaves, matched_masks(masks, params), scores, flags(params, prunable), strict=True)
    return treedef.unflatten([_replace(p, m, s, fraction) if prune else m for p, m, s, prune in layers])


def _replace(params: Array, mask: Array, growth: Array, fraction: ArrayLike) -> Array:
    pruned = mask.size - jnp.sum(mask, dtype=jnp.int32)
    kept = mask.size - pruned
    # A schedule may leave [0, 1]. To drop more than is kept would make weights grow that replace none.
    dropped = jnp.clip(jnp.floor(fraction * kept).astype(jnp.int32), 0, kept)
    # What is pruned already goes first and counts, so that exactly `dropped` of the kept go.
    (stay,) = keep_all_but_lowest([jnp.abs(params)], pruned + dropped, [mask])
    # The same with the roles exchanged: of what does not stay, all but `dropped` remain out; what stays counts first.
    (grown,) = keep_all_but_lowest([growth], jnp.int32(mask.size) - dropped, [~stay])
    return stay | grown


def reset_moments(state: PyTree, fresh: PyTree, keep: Masks) -> PyTree:
    """An optimiser's state with the entries of some weights begun anew.

    The moments of a parameter are recognised without knowing the optimiser: a leaf whose path ends in the path of a
    parameter, and whose shape is that parameter's. Others (counters, factored moments) stay as they are.

    Args:
      state: The state of any optax transformation.
      fresh: Its state at the beginning, from `init`.
      keep: Bools with the structure of the parameters, False where entries begin anew.

    Returns:
      The state.
    """
    by_path = dict(jax.tree_util.tree_leaves_with_path(keep))

    def one(path: tuple[Any, ...], value: Any, new: Any) -> Any:
        # The longest ending first: of {"a": {"w": ...}, "w": ...} it is a/w that `mu/a/w` belongs to.
        endings = (path[start:] for start in range(len(path) + 1))
        mask = next((by_path[ending] for ending in endings if ending in by_path), None)
        if mask is None or jnp.shape(mask) != jnp.shape(value):
            return value
        return jnp.where(mask, value, new)

    return jax.tree_util.tree_map_with_path(one, state, fresh)
