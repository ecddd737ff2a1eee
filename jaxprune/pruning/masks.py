"""Masks from scores: exact to one weight, and deterministic on ties."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.trees import leaf_path
from jaxprune.types import Array, Masks, Params, PyTree, Scores


def global_masks(scores: Scores, sparsity: float | Array, prunable: PyTree = None, masks: Masks | None = None) -> Masks:
    """Prune the lowest scores of all layers together.

    Exactly `round(sparsity * N)` of the N prunable weights are pruned. Among equal scores at the threshold, those
    that come first (in the order of the leaves, then row-major) are pruned first. The threshold is found by bisection
    on the bit pattern of the scores, which keeps their order: 32 counts in place of a sort, and only counts are
    summed over devices.

    Args:
      scores: Float arrays; the lowest is pruned first.
      sparsity: The share to prune, in [0, 1); may be traced.
      prunable: Bools with the structure of `scores`, as from `prunable`; None for all of them.
      masks: What is pruned already (False), which goes first and counts; None for nothing.

    Returns:
      Masks with the structure of `scores`, True = kept; all True for leaves that are not prunable.

    Raises:
      UserError: The sparsity is outside [0, 1) or below what is pruned already, or a score is NaN or infinite (checked
        outside of jit).

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> params = {"kernel": jnp.array([[0.5, -3.0], [2.0, 0.1]])}
      >>> pruning.global_masks(pruning.magnitude().score(params), 0.5)["kernel"].tolist()
      [[False, True], [True, False]]
    """
    return _masks(scores, sparsity, prunable, masks, together=True)


def layerwise_masks(
    scores: Scores, sparsity: float | Array, prunable: PyTree = None, masks: Masks | None = None
) -> Masks:
    """Prune the lowest scores of each layer.

    Exactly `round(sparsity * size)` weights of every prunable leaf. Ties, arguments, result and errors as for
    `global_masks`.
    """
    return _masks(scores, sparsity, prunable, masks, together=False)


def apply_masks(params: Params, masks: Masks) -> Params:
    """The parameters with pruned weights set to 0."""
    return jax.tree.map(lambda p, m: jnp.where(m, p, jnp.zeros_like(p)), params, masks)


def check_sparsity(sparsity: float | Array, where: str = "sparsity") -> None:
    """Raise a `UserError` unless 0 <= sparsity < 1 (checked outside of jit)."""
    if not isinstance(sparsity, Tracer) and not 0 <= sparsity < 1:
        raise UserError(f"{where}: {sparsity} is outside [0, 1); 0.9 prunes nine weights of ten")


def units_to_prune(sparsity: float | Array, size: int) -> Array:
    """[] int32, the nearest whole number of units."""
    return (
        jnp.round(sparsity * size).astype(jnp.int32)
        if isinstance(sparsity, Tracer)
        else jnp.int32(round(float(sparsity) * size))
    )


def _masks(scores: Scores, sparsity: float | Array, prunable: PyTree, masks: Masks | None, *, together: bool) -> Masks:
    check_sparsity(sparsity)
    leaves, treedef = jax.tree.flatten(scores)
    chosen = [True] * len(leaves) if prunable is None else treedef.flatten_up_to(prunable)
    kept = [None] * len(leaves) if masks is None else treedef.flatten_up_to(masks)
    picked = [leaf for leaf, prune in zip(leaves, chosen, strict=True) if prune]
    known = [mask for mask, prune in zip(kept, chosen, strict=True) if prune]
    _check_finite(scores, chosen)
    if together:
        pruned = units_to_prune(sparsity, sum(leaf.size for leaf in picked))
        result = iter(keep_all_but_lowest(picked, pruned, known))
    else:
        counts = [units_to_prune(sparsity, leaf.size) for leaf in picked]
        result = (keep_all_but_lowest([s], n, [m])[0] for s, n, m in zip(picked, counts, known, strict=True))
    chosen_masks = [next(result) if prune else jnp.ones(s.shape, bool) for s, prune in zip(leaves, chosen, strict=True)]
    return jax.tree.unflatten(treedef, chosen_masks)


@jax.jit
def keep_all_but_lowest(scores: list[Array], pruned: Array, masks: Sequence[Array | None]) -> list[Array]:
    """Masks that are False at exactly the `pruned` lowest scores.

    What `masks` has pruned already counts as lower than every score.
    """
    # One width for all: the bits of a float32 and of a float64 are not in one order. bfloat16 widens without loss.
    wide = any(leaf.dtype == jnp.float64 for leaf in scores)
    width, unsigned = (64, jnp.uint64) if wide else (32, jnp.uint32)
    keys = [_ordered_bits(leaf.astype(jnp.float64 if wide else jnp.float32), unsigned) for leaf in scores]
    # No finite score has the key 0.
    keys = [key if mask is None else jnp.where(mask, key, unsigned(0)) for key, mask in zip(keys, masks, strict=True)]

    def count(predicate: Callable[[Array], Array]) -> Array:
        return sum((jnp.sum(predicate(key), dtype=jnp.int32) for key in keys), start=jnp.int32(0))

    def raise_bit(i: Array, threshold: Array) -> Array:
        higher = threshold | (unsigned(1) << (width - 1 - i).astype(unsigned))
        return jnp.where(count(lambda key: key < higher) < pruned, higher, threshold)

    # The largest t with fewer than `pruned` keys below it is the pruned-th smallest key.
    threshold = jax.lax.fori_loop(0, width, raise_bit, unsigned(0))
    ties = pruned - count(lambda key: key < threshold)
    masks = []
    for key in keys:
        equal = (key == threshold).reshape(-1)
        rank = jnp.cumsum(equal, dtype=jnp.int32)  # 1 for the first of the ties in this leaf
        drop = equal & (rank <= ties)
        ties = ties - jnp.minimum(ties, rank[-1] if rank.size else 0)
        masks.append(((key.reshape(-1) >= threshold) & ~drop).reshape(key.shape))
    return masks


def _ordered_bits(scores: Array, unsigned: type) -> Array:
    """Unsigned integers in the order of the floats; -0.0 equals 0.0."""
    bits = jax.lax.bitcast_convert_type(scores, unsigned)
    # By the bits, not by scores == 0, which is true of denormals as well where a processor flushes them.
    bits = jnp.where(bits << 1 == 0, unsigned(0), bits)
    top = unsigned(1) << unsigned(scores.dtype.itemsize * 8 - 1)
    return jnp.where(bits & top != 0, ~bits, bits | top)


def _check_finite(scores: Scores, chosen: list[bool]) -> None:
    for (path, leaf), prune in zip(jax.tree_util.tree_leaves_with_path(scores), chosen, strict=True):
        if prune and not isinstance(leaf, Tracer) and not bool(jnp.isfinite(leaf).all()):
            raise UserError(
                f"the scores of {leaf_path(path)} hold NaN or infinite values; "
                "the parameters may have diverged: train with a lower learning rate"
            )
