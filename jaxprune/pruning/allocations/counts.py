"""Whole numbers of units for the layers, and their masks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.pruning.masks import keep_all_but_lowest, units_to_prune
from jaxprune.pruning.matching import optional_masks
from jaxprune.pruning.selection import flags
from jaxprune.trees import leaf_path
from jaxprune.types import Array, Masks, PyTree, Scores

_LARGEST = np.float32(np.finfo(np.float32).max).view(np.int32)  # its bits: those of every finite factor are below


@jax.jit
def apportion(weights: Array, capacities: Array, total: int | Array) -> Array:
    """Share a number of units out over the layers, exactly.

    Layer l gets min(capacity_l, round(ε weight_l)) units, with the factor ε for which they sum to the total. Where a
    last few layers would step up at the same ε, the first of them do. No layer loses a unit as the total grows, so that
    masks stay nested: this is the divisor method of Webster, not the largest remainders, which have the paradox of
    Alabama (a layer may get fewer units of a larger total).

    Args:
      weights: [L] float, at least 0.
      capacities: [L] int, the most that each layer takes.
      total: [] int. More than all capacities gives the capacities.

    Returns:
      [L] int32.
    """
    capacities = capacities.astype(jnp.int32)

    def counts(bits: Array) -> Array:
        # Of the factor's bits, which have the order of the factors: adjacent bits are adjacent floats.
        factor = jax.lax.bitcast_convert_type(bits, jnp.float32)
        units, most = jnp.round(factor * weights.astype(jnp.float32)), capacities.astype(jnp.float32)
        # A capacity above 2^24 may be no float32: where the nearest is reached, the layer is full.
        below = jnp.minimum(jnp.where(units < most, units, 0).astype(jnp.int32), capacities)
        return jnp.where(units < most, below, capacities)

    def raise_bit(i: Array, bits: Array) -> Array:
        higher = bits | (jnp.int32(1) << (30 - i).astype(jnp.int32))
        fits = (higher <= _LARGEST) & (jnp.sum(counts(jnp.minimum(higher, _LARGEST)), dtype=jnp.int32) <= total)
        return jnp.where(fits, higher, bits)

    # The largest factor that gives no more than the total; the next float above gives more, or there are no more units.
    bits = jax.lax.fori_loop(0, 31, raise_bit, jnp.int32(0))
    below, above = counts(bits), counts(jnp.minimum(bits + 1, _LARGEST))
    steps = above - below
    before = jnp.cumsum(steps, dtype=jnp.int32) - steps
    return below + jnp.clip(total - jnp.sum(below, dtype=jnp.int32) - before, 0, steps)


def masks_by_count(scores: Scores, counts: Sequence[int | Array], prunable: PyTree, masks: Masks | None) -> Masks:
    """Prune a number of units of each prunable leaf.

    The lowest scores go first, ties as for `global_masks`.

    Args:
      scores: Float arrays.
      counts: [] int32 for each prunable leaf.
      prunable: Bools with the structure of `scores`; None for all.
      masks: What is pruned already, which goes first and counts; None for nothing.

    Raises:
      UserError: A score is not finite, or more is pruned already (checked outside of jit).
    """
    treedef = jax.tree.structure(scores)
    known = optional_masks(masks, scores)
    check_finite(scores, prunable)
    remaining, result = iter(counts), []
    for (path, leaf), mask, prune in zip(
        jax.tree_util.tree_leaves_with_path(scores), known, flags(scores, prunable), strict=True
    ):
        if not prune:
            result.append(jnp.ones_like(leaf, bool))
            continue
        count = next(remaining)
        _check_held(leaf_path(path), mask, count)
        result.append(keep_all_but_lowest([leaf], jnp.asarray(count, jnp.int32), [mask])[0])
    return jax.tree.unflatten(treedef, result)


def sizes_and_held(scores: Scores, prunable: PyTree, masks: Masks | None) -> tuple[list[int], Array]:
    """The units of each prunable leaf, [L], and those pruned already, [L] int32."""
    chosen = flags(scores, prunable)
    sizes = [leaf.size for leaf, prune in zip(jax.tree.leaves(scores), chosen, strict=True) if prune]
    if masks is None:
        return sizes, np.zeros(len(sizes), np.int32)
    known = optional_masks(masks, scores)
    held = [_num_pruned(mask) for mask, prune in zip(known, chosen, strict=True) if prune]
    return sizes, jnp.stack(held) if held else np.zeros(0, np.int32)


def _num_pruned(mask: Array | None) -> Array:
    return jnp.int32(0) if mask is None else jnp.sum(~jnp.asarray(mask), dtype=jnp.int32)


def whole(sparsity: float | Array, size: int) -> int | Array:
    """The nearest whole number of units; traced if the sparsity is."""
    return units_to_prune(sparsity, size) if isinstance(sparsity, Tracer) else round(float(sparsity) * size)


def check_finite(scores: Scores, prunable: PyTree) -> None:
    """Raise a `UserError` for a score that is NaN or infinite (outside of jit)."""
    for (path, leaf), prune in zip(jax.tree_util.tree_leaves_with_path(scores), flags(scores, prunable), strict=True):
        finite = jnp.isfinite(leaf).all() if prune else True  # traced inside of jit, whether or not the scores are
        if not isinstance(finite, Tracer) and not finite:
            raise UserError(
                f"the scores of {leaf_path(path)} hold NaN or infinite values; "
                "the parameters may have diverged: train with a lower learning rate"
            )


def _check_held(path: str, mask: Array | None, count: int | Array) -> None:
    held = 0 if mask is None else jnp.sum(~jnp.asarray(mask), dtype=jnp.int32)
    if mask is not None and not isinstance(held, Tracer) and not isinstance(count, Tracer) and held > count:
        raise UserError(
            f"masks: {held} units of {path} are pruned already, and {int(count)} of its {np.size(mask)} were to be; "
            "ask for a higher sparsity there, or for another allocation"
        )
