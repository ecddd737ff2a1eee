"""One threshold for all layers, or one share for each."""

import jax
import jax.numpy as jnp

from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.masks import global_masks, layerwise_masks
from jaxprune.pruning.selection import flags
from jaxprune.types import Array, Masks, PyTree, Scores


def together(*, normalise: bool = False) -> Allocation:
    """One threshold for the scores of all layers.

    Args:
      normalise: Whether the scores of each layer are first divided by their L2 norm, so that layers of large weights
        are not spared for that alone. jaxpruner does so unless told otherwise; here the scores are taken as they are
        unless told otherwise, as in the definition of global pruning.

    Returns:
      `global_masks`, or that of the normalised scores.
    """
    return _normalised_masks if normalise else global_masks


def layerwise() -> Allocation:
    """The same share of every layer."""
    return layerwise_masks


def _normalised_masks(
    scores: Scores, sparsity: float | Array, prunable: PyTree = None, masks: Masks | None = None
) -> Masks:
    leaves, treedef = jax.tree.flatten(scores)
    scaled = [_normalise(s) if prune else s for s, prune in zip(leaves, flags(scores, prunable), strict=True)]
    return global_masks(jax.tree.unflatten(treedef, scaled), sparsity, prunable, masks)


@jax.jit
def _normalise(scores: Array) -> Array:
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    # By the largest first: the squares of small scores vanish, and those of large ones overflow. Scores that are all 0
    # stay so; NaN stays NaN, and is found by the check of the masks.
    largest = jnp.max(jnp.abs(scores), initial=0)
    scaled = scores / jnp.where(largest == 0, 1, largest)
    norm = jnp.sqrt(_sum_of_squares(scaled))
    return scaled / jnp.where(norm == 0, 1, norm).astype(scaled.dtype)


def _sum_of_squares(values: Array) -> Array:
    """[] float32, of values in [-1, 1], in whole numbers.

    The sum of floats depends on their order, and so on the number of devices, and with it the order of scores of
    several layers. Squares are rounded to 2^-31, an error of at most `size` times half of that in all.
    """
    digits = (values.astype(jnp.float32) ** 2 * 2.0**31).astype(jnp.uint32)
    # In parts of a few bits, of each of which a uint32 holds the sum.
    bits = min(16, 32 - values.size.bit_length())
    parts = [digits >> shift & (2**bits - 1) for shift in range(0, 32, bits)]
    sums = [jnp.sum(part, dtype=jnp.uint32).astype(jnp.float32) for part in parts]
    return sum((part * 2.0 ** (i * bits - 31) for i, part in enumerate(sums)), start=jnp.float32(0))
