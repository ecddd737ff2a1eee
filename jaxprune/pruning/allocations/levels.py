"""Explicit sparsities of layers."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.allocations.counts import apportion, masks_by_count, sizes_and_pruned, whole
from jaxprune.pruning.masks import check_sparsity
from jaxprune.pruning.patterns import pattern_values, values_of
from jaxprune.pruning.selection import flags
from jaxprune.trees import leaf_names
from jaxprune.types import Array, Masks, PyTree, Scores


def levels(*, levels: Mapping[str, float] | Sequence[str] = ()) -> Allocation:
    """Sparsities by path pattern; the other layers share the rest evenly.

    `round(level * size)` units of a named layer are pruned; the others keep one share of theirs, such that
    `round(sparsity * N)` units are pruned in all.

    Args:
      levels: Pattern (`*`, `?`, `[...]`) of paths -> sparsity in [0, 1), or texts such as "dense_0/*=0.5"; the first
        pattern that matches a layer decides.

    Returns:
      The allocation; the same function for the same options. It raises a `UserError` for a pattern that matches no
      prunable layer, and, outside of jit, for a sparsity that cannot be met.

    Raises:
      UserError: A text is not a pattern and a number, or a level is outside [0, 1).
    """
    named = pattern_values("levels", levels, float, "dense_0/*=0.5")
    for pattern, level in named:
        check_sparsity(level, f"levels: {pattern}")
    return _levels(named)


def masks_by_level(
    scores: Scores, levels: Sequence[float] | Array, prunable: PyTree = None, masks: Masks | None = None
) -> Masks:
    """Prune each prunable leaf to a sparsity of its own.

    Exactly `round(level * size)` units of it, as `layerwise_masks` with one sparsity for all.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> pruning.masks_by_level([jnp.array([3.0, 1.0]), jnp.array([2.0, 4.0])], [0.5, 0.0])
      [Array([ True, False], dtype=bool), Array([ True,  True], dtype=bool)]

    Args:
      scores: Float arrays; the lowest is pruned first.
      levels: [L] sparsities in [0, 1), one for each prunable leaf, in the order of the leaves; may be traced.
      prunable: Bools with the structure of `scores`; None for all.
      masks: What is pruned already, which goes first and counts; None for nothing.

    Returns:
      Masks with the structure of `scores`, True = kept; all True for leaves that are not prunable.

    Raises:
      UserError: The number of levels is not that of the prunable leaves; a level is outside [0, 1), a score is not
        finite, or more of a leaf is pruned already (these checked outside of jit).
    """
    sizes, _ = sizes_and_pruned(scores, prunable, None)
    if len(levels) != len(sizes):
        raise UserError(f"levels: there are {len(levels)} for {len(sizes)} prunable leaves; give one for each")
    for level in levels:
        check_sparsity(level, "levels")
    counts = [whole(level, size) for level, size in zip(levels, sizes, strict=True)]
    return masks_by_count(scores, counts, prunable, masks)


@cache
def _levels(named: tuple[tuple[str, float], ...]) -> Allocation:
    def level_masks(
        scores: Scores, sparsity: float | Array, prunable: PyTree = None, masks: Masks | None = None
    ) -> Masks:
        check_sparsity(sparsity)
        chosen = flags(scores, prunable)
        paths = [path for path, prune in zip(leaf_names(scores), chosen, strict=True) if prune]
        own = values_of("levels", named, paths, what="prunable layer")
        sizes, already = sizes_and_pruned(scores, prunable, masks)
        pruned = np.array([whole(level or 0.0, size) for level, size in zip(own, sizes, strict=True)], np.int32)
        shared = np.array([size if level is None else 0 for level, size in zip(own, sizes, strict=True)], np.int32)
        total, already = whole(sparsity, sum(sizes)), (shared > 0) * already
        if not isinstance(total, Tracer) and not isinstance(already, Tracer):
            held = int(already.sum())
            _check_reachable(total, int(pruned.sum()) + held, int(pruned.sum() + shared.sum()), sum(sizes), held)
        kept = apportion(shared, shared - already, int(shared.sum() + pruned.sum()) - total)
        return masks_by_count(scores, list(pruned + shared - kept), prunable, masks)

    return level_masks


def _check_reachable(total: int | Array, fewest: int, most: int, size: int, held: int) -> None:
    if not fewest <= total <= most:
        reach = _share_of(fewest, size) + (f" to {_share_of(most, size)}" if most > fewest else "")
        raise UserError(
            f"sparsity: {_share_of(int(total), size)} is out of reach of these levels"
            f"{', and of what is pruned already' if held else ''}: they reach {reach}; change the one or the other"
        )


def _share_of(count: int, size: int) -> str:
    """The shortest decimal below 1 that prunes so many units of `size`."""
    shares = (f"{min(round(count / size, digits), 1 - 10.0**-digits):.{digits}g}" for digits in range(1, 16))
    return next((share for share in shares if whole(float(share), size) == count), f"{count / size:.9g}")
