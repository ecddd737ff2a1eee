"""Erdős-Rényi-Kernel: large layers are pruned more (Evci et al. 2020)."""

import math
from collections.abc import Sequence
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.allocations.counts import apportion, masks_by_count, sizes_and_pruned, whole
from jaxprune.pruning.masks import check_sparsity
from jaxprune.pruning.selection import flags
from jaxprune.types import Array, Masks, PyTree, Scores

_FAINTEST = 1e-30  # of a layer's weight in float32: above 0, so that every layer can be filled
_OF_SHAPES: set[Allocation] = set()


def erk(*, scale: float = 1.0, kernel_dims: bool = True) -> Allocation:
    """ERK: a layer keeps a share that grows with (Σ dims / Π dims)^scale.

    The total is exact: `round(sparsity * N)` of the N units are pruned, where others round each layer down and miss it
    by up to a unit a layer. A higher sparsity prunes all that a lower one does. The dims are those of the units: for
    blocks, the numbers of blocks along the axes. Where more of a layer is pruned already than its share, the other
    layers keep more.

    Args:
      scale: The exponent; 0 gives every layer the same share.
      kernel_dims: Whether all axes count (ERK), or the last two alone (Erdős-Rényi), so not the height and width of a
        convolution.

    Returns:
      The allocation; the same function for the same options.

    Raises:
      UserError: The scale is negative or not finite.
    """
    _check_scale(scale)
    return _erk(float(scale), bool(kernel_dims))


def erk_levels(
    shapes: Sequence[Sequence[int]], sparsity: float | Array, *, scale: float = 1.0, kernel_dims: bool = True
) -> Array:
    """The sparsity of every layer by ERK (Evci et al. 2020, §3).

    Layer l keeps min(1, ε p_l) of its N_l units, with p_l = (Σ dims / Π dims)^scale and the one ε for which the layers
    keep (1 - sparsity) Σ N_l. Setting layers dense in turn until ε p ≤ 1 for the others, as it is usually computed,
    ends at the same ε.

    Example:
      >>> from jaxprune import pruning
      >>> pruning.erk_levels([(2, 4), (3, 6), (2, 4, 6)], 0.5).round(3).tolist()
      [0.0, 0.31, 0.655]

    Args:
      shapes: L shapes; one with a 0 in it holds nothing, and has the level 0.
      sparsity: The share of all units to prune, in [0, 1); may be traced.
      scale: The exponent, at least 0.
      kernel_dims: Whether all axes count, or the last two alone.

    Returns:
      [L] levels in [0, 1), float64 of numpy; of jax for a traced sparsity.

    Raises:
      UserError: The sparsity is outside [0, 1), or the scale is negative or not finite.
    """
    check_sparsity(sparsity)
    _check_scale(scale)
    xp = jnp if isinstance(sparsity, Tracer) else np
    sizes = np.array([math.prod(shape) for shape in shapes], float)
    p = _shares(shapes, scale, kernel_dims)
    if not sizes.sum():
        return xp.zeros(len(sizes))
    # K(ε) = Σ N min(1, ε p) is concave and piecewise linear, with a piece for each number of layers that are dense,
    # those with the largest p first. So ε(K) is the largest of the pieces, each solved for ε: there is nothing to
    # iterate, and nothing depends on the sparsity but K, which may be traced.
    order = np.argsort(-p, kind="stable")
    order = order[sizes[order] > 0]
    dense = np.concatenate([[0], np.cumsum(sizes[order])[:-1]])
    others = np.cumsum((p * sizes)[order][::-1])[::-1]
    kept = (1 - sparsity) * sizes.sum()
    epsilon = xp.max((kept - dense) / others)
    return xp.where(sizes > 0, 1 - xp.minimum(1, epsilon * p), 0)


@cache
def _erk(scale: float, kernel_dims: bool) -> Allocation:
    def erk_masks(
        scores: Scores, sparsity: float | Array, prunable: PyTree = None, masks: Masks | None = None
    ) -> Masks:
        check_sparsity(sparsity)
        leaves = jax.tree.leaves(scores)
        shapes = [leaf.shape for leaf, prune in zip(leaves, flags(scores, prunable), strict=True) if prune]
        sizes, already = sizes_and_pruned(scores, prunable, masks)
        total = whole(sparsity, sum(sizes))
        _check_reachable(sparsity, total, already, sum(sizes))
        weights = np.maximum(_shares(shapes, scale, kernel_dims) * np.array(sizes), _FAINTEST).astype(np.float32)
        units = np.array(sizes, np.int32)
        kept = apportion(weights, units - already, sum(sizes) - total)
        return masks_by_count(scores, list(units - kept), prunable, masks)

    _OF_SHAPES.add(erk_masks)
    return erk_masks


def reads_shapes(allocation: Allocation) -> bool:
    """Return whether an allocation is ERK, which reads shapes.

    They say nothing of units that have no layer of their own, such as the channels of several layers.
    """
    return allocation in _OF_SHAPES


def _shares(shapes: Sequence[Sequence[int]], scale: float, kernel_dims: bool) -> np.ndarray:
    """The p of every layer, [L], divided by the largest.

    The division changes ε alone.
    """
    dims = [tuple(shape) if kernel_dims else tuple(shape)[-2:] for shape in shapes]
    # In logarithms: a high scale would make all of them vanish. An array without axes is one unit, with p = 1.
    logs = np.array([math.log(max(sum(d), 1)) - math.log(max(math.prod(d), 1)) for d in dims]) * scale
    return np.exp(logs - logs.max(initial=-np.inf)) if len(logs) else logs


def _check_scale(scale: float) -> None:
    if not 0 <= scale < math.inf:
        raise UserError(f"scale: {scale} is not a finite number of at least 0; ERK takes 1")


def _check_reachable(sparsity: float | Array, total: int | Array, already: Array, size: int) -> None:
    if isinstance(total, Tracer) or isinstance(already, Tracer):
        return
    pruned = int(already.sum())
    if total < pruned:
        raise UserError(
            f"sparsity: {float(sparsity):g} is below the {pruned / size:.9g} that masks have pruned already, "
            "the lowest within reach; ask for that or more"
        )
