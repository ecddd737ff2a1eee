"""Blocks: tiles of a kernel live or die together."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError, unknown
from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.finite_scores import check_finite
from jaxprune.pruning.matching import optional_masks
from jaxprune.pruning.selection import flags
from jaxprune.pruning.structure import Structure
from jaxprune.trees import named_leaves
from jaxprune.types import Array, Masks, Params, PyTree, Scores

# Name -> the score of blocks from those of their weights, [..., rows, height, columns, width].
POOLS: Mapping[str, Callable[[Array], Array]] = {
    "mean": lambda scores: jnp.mean(scores, (-3, -1)),
    "max": lambda scores: jnp.max(scores, (-3, -1)),
    "l2": lambda scores: jnp.sqrt(jnp.sum(scores**2, (-3, -1))),
}


def blocks(*, height: int = 4, width: int = 4, pool: str = "mean") -> Structure:
    """Blocks of `height` inputs by `width` outputs of a kernel.

    They tile the last two axes, [in, out] of a flax kernel; a convolution [height, width, in, out] has such tiles at
    every place of its window. A block has one score, pooled from those of its weights, and the allocation sees one unit
    for each block: the sparsity counts blocks, which all have one size, and so weights as well. A weight that is pruned
    already adds 0 to its block's score, and stays pruned in a block that is kept; a block is pruned already where all
    of it is.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> params = {"kernel": jnp.array([[1.0, 2.0, 9.0, 0.0], [3.0, 4.0, 5.0, 0.0]])}
      >>> tiles = pruning.blocks(height=2, width=2)
      >>> pruned, masks = pruning.prune(params, 0.5, criterion=pruning.magnitude(), structure=tiles)
      >>> pruned["kernel"].tolist()
      [[0.0, 0.0, 9.0, 0.0], [0.0, 0.0, 5.0, 0.0]]

    Args:
      height: Inputs in a block, at least 1.
      width: Outputs in a block, at least 1.
      pool: "mean" of the scores, right for those that add up, such as a predicted rise of the loss; "max"; or "l2",
        the root of the sum of squares.

    Returns:
      The structure; the same object for the same options. It raises a `UserError` that names every layer which the
      blocks do not tile.

    Raises:
      UserError: A size is not a whole number of at least 1, or the pool is unknown.
    """
    for name, size in (("height", height), ("width", width)):
        if size != int(size) or size < 1:
            raise UserError(f"{name}: {size} is not a whole number of at least 1")
    if pool not in POOLS:
        raise unknown("pool", pool, POOLS, where="pool", listed=True)
    return _blocks(int(height), int(width), pool)


@cache
def _blocks(height: int, width: int, pool: str) -> Structure:
    size = (height, width)
    return Structure(masks=partial(_masks, size=size, pool=pool), check=partial(_check, size=size))


def _masks(
    scores: Scores,
    sparsity: float | Array,
    prunable: PyTree,
    masks: Masks | None,
    allocation: Allocation,
    *,
    size: tuple[int, int],
    pool: str,
) -> Masks:
    _check(scores, prunable, (), size=size)
    check_finite(scores, prunable)
    leaves, treedef = jax.tree.flatten(scores)
    chosen = flags(scores, prunable)
    before = optional_masks(masks, scores)
    pooled = [
        _pool(s, mask, size=size, pool=pool) if prune else s
        for s, mask, prune in zip(leaves, before, chosen, strict=True)
    ]
    alive = None
    if masks is not None:
        alive = treedef.unflatten(
            [_alive(m, size=size) if p and m is not None else m for m, p in zip(before, chosen, strict=True)]
        )
    kept = allocation(treedef.unflatten(pooled), sparsity, prunable, alive)
    units = zip(treedef.flatten_up_to(kept), before, chosen, strict=True)
    return treedef.unflatten([_expand(unit, mask, size=size) if p else unit for unit, mask, p in units])


def _tiles(array: Array, size: tuple[int, int]) -> Array:
    """[..., in, out] as [..., in / height, height, out / width, width]."""
    *leading, rows, columns = array.shape
    return array.reshape(*leading, rows // size[0], size[0], columns // size[1], size[1])


@partial(jax.jit, static_argnames=("size", "pool"))
def _pool(scores: Array, mask: Array | None, *, size: tuple[int, int], pool: str) -> Array:
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    return POOLS[pool](_tiles(scores if mask is None else jnp.where(mask, scores, 0), size))


@partial(jax.jit, static_argnames="size")
def _alive(mask: Array, *, size: tuple[int, int]) -> Array:
    return jnp.any(_tiles(mask, size), (-3, -1))


@partial(jax.jit, static_argnames="size")
def _expand(kept: Array, mask: Array | None, *, size: tuple[int, int]) -> Array:
    whole = jnp.repeat(jnp.repeat(kept, size[0], -2), size[1], -1)
    return whole if mask is None else whole & mask


def _check(params: Params, prunable: PyTree, sparsities: Sequence[float], *, size: tuple[int, int]) -> None:
    """Raise unless the blocks tile every prunable layer."""
    del sparsities  # the allocation's matter
    unfit = [
        (path, " x ".join(map(str, leaf.shape[-2:])))
        for (path, leaf), prune in zip(named_leaves(params), flags(params, prunable), strict=True)
        if prune and (leaf.ndim < 2 or leaf.shape[-2] % size[0] or leaf.shape[-1] % size[1])
    ]
    if unfit:
        named = ", ".join(f"{path} ({shape})" for path, shape in unfit)
        raise UserError(
            f"height, width: blocks of {size[0]} x {size[1]} do not tile {named}; "
            f"exclude {', '.join(path for path, _ in unfit)} from pruning"
        )
