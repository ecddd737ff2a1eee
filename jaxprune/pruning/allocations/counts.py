"""Whole numbers of units for the layers, and their masks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.pruning.counting import units_to_prune
from jaxprune.pruning.finite_scores import check_finite
from jaxprune.pruning.matching import optional_masks
from jaxprune.pruning.selection import flags
from jaxprune.pruning.thresholds import keep_all_but_lowest
from jaxprune.trees import leaf_names
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
    paths, chosen, before = leaf_names(scores), flags(scores, prunable), optional_masks(masks, scores)
    check_finite(scores, prunable)
    _check_pruned({path: mask for path, mask, prune in zip(paths, before, chosen, strict=True) if prune}, counts)
    leaves, treedef = jax.tree.flatten(scores)
    remaining, result = iter(counts), []
    for leaf, mask, prune in zip(leaves, before, chosen, strict=True):
        if prune:
            result.append(keep_all_but_lowest([leaf], jnp.asarray(next(remaining), jnp.int32), [mask])[0])
        else:
            result.append(jnp.ones_like(leaf, bool))
    return treedef.unflatten(result)


def sizes_and_pruned(scores: Scores, prunable: PyTree, masks: Masks | None) -> tuple[list[int], Array]:
    """Count the units of each prunable leaf.

    Returns:
      [L] the units, and [L] int32, those that are pruned already.
    """
    chosen = flags(scores, prunable)
    sizes = [leaf.size for leaf, prune in zip(jax.tree.leaves(scores), chosen, strict=True) if prune]
    if masks is None:
        return sizes, np.zeros(len(sizes), np.int32)
    before = optional_masks(masks, scores)
    already = [_num_pruned(mask) for mask, prune in zip(before, chosen, strict=True) if prune]
    return sizes, jnp.stack(already) if already else np.zeros(0, np.int32)


def _num_pruned(mask: Array | None) -> Array:
    return jnp.int32(0) if mask is None else jnp.sum(~jnp.asarray(mask), dtype=jnp.int32)


def whole(sparsity: float | Array, size: int) -> int | Array:
    """The nearest whole number of units; traced if the sparsity is."""
    return units_to_prune(sparsity, size) if isinstance(sparsity, Tracer) else round(float(sparsity) * size)


def _check_pruned(masks: dict[str, Array | None], counts: Sequence[int | Array]) -> None:
    """Raise if a leaf has more pruned already than asked for."""
    layers = [
        (path, np.size(mask), _num_pruned(mask), number)
        for (path, mask), number in zip(masks.items(), counts, strict=True)
        if mask is not None
    ]
    plain = [layer for layer in layers if not any(isinstance(number, Tracer) for number in layer[2:])]
    numbers = jax.device_get([layer[2:] for layer in plain])
    for (path, size, *_), (already, number) in zip(plain, numbers, strict=True):
        if already > number:
            raise UserError(
                f"masks: {already} units of {path} are pruned already, and {int(number)} of its {size} were to be; "
                "ask for a higher sparsity there, or for another allocation"
            )
