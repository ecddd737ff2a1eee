"""Masks from scores: exact to one weight, and deterministic on ties."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.pruning.counting import count, units_to_prune
from jaxprune.pruning.finite_scores import count_not_finite, raise_for_counts
from jaxprune.pruning.matching import matched_masks, optional_masks
from jaxprune.pruning.selection import flags
from jaxprune.pruning.selection import prunable as select_prunable
from jaxprune.pruning.thresholds import keep_all_but_lowest
from jaxprune.trees import leaf_path
from jaxprune.types import Array, Masks, Params, PyTree, Scores


def global_masks(scores: Scores, sparsity: float | Array, prunable: PyTree = None, masks: Masks | None = None) -> Masks:
    """Prune the lowest scores of all layers together.

    Exactly `round(sparsity * N)` of the N prunable weights are pruned. Among equal scores at the threshold, those
    that come first (in the order of the leaves, then row-major) are pruned first. The threshold is found by counting,
    not by sorting, to the last bit. Only counts are summed over devices, and masks lie where the scores do.

    Args:
      scores: Float arrays, less than 2^31 scores in all; the lowest is pruned first.
      sparsity: The share to prune, in [0, 1); may be traced, and is then read as a float32 and clamped.
      prunable: Bools with the structure of `scores`, as from `prunable`; None for all of them.
      masks: What is pruned already (False), which stays so and counts; None for nothing.

    Returns:
      Masks with the structure of `scores`, True = kept; all True for leaves that are not prunable.

    Raises:
      UserError: The sparsity is outside [0, 1) or below what is pruned already, or a score is NaN or infinite (checked
        outside of jit; under it, what is pruned already is the least).

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
    """The parameters with pruned weights set to 0.

    Args:
      params: The parameters.
      masks: Bools with the leaves and shapes of `params`, True = kept; those in the state of an optimiser too.

    Raises:
      UserError: The masks do not fit; it names the first leaf that does not.
    """
    leaves, treedef = jax.tree.flatten(params)
    pairs = zip(leaves, matched_masks(masks, params), strict=True)
    return treedef.unflatten([jnp.where(mask, leaf, jnp.zeros_like(leaf)) for leaf, mask in pairs])


def nonzero_masks(params: Params, prunable: PyTree = None) -> Masks:
    """Find the masks of a network that is sparse already.

    Args:
      params: The parameters; exact zeros of either sign count as pruned.
      prunable: Bools with the structure of `params`; None for the rule of `pruning.prunable`.

    Returns:
      Masks with the structure of `params`, True = kept; all True for leaves that are not prunable.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> masks = pruning.nonzero_masks({"kernel": jnp.array([[0.5, 0.0]]), "bias": jnp.zeros(2)})
      >>> masks["kernel"].tolist(), masks["bias"].tolist()
      ([[True, False]], [True, True])
    """
    leaves, treedef = jax.tree.flatten(params)
    chosen = flags(params, select_prunable(params) if prunable is None else prunable)
    # By the bits, not by params != 0, which is false of denormals where a processor flushes them.
    return treedef.unflatten(
        [_not_zero(p) if prune else jnp.ones_like(p, bool) for p, prune in zip(leaves, chosen, strict=True)]
    )


def check_sparsity(sparsity: float | Array, where: str = "sparsity") -> None:
    """Raise a `UserError` unless 0 <= sparsity < 1 (checked outside of jit)."""
    if not isinstance(sparsity, Tracer) and not 0 <= sparsity < 1:
        raise UserError(f"{where}: {sparsity} is outside [0, 1); 0.9 prunes nine weights of ten")


def _masks(scores: Scores, sparsity: float | Array, prunable: PyTree, masks: Masks | None, *, together: bool) -> Masks:
    check_sparsity(sparsity)
    paths, treedef = jax.tree_util.tree_flatten_with_path(scores)
    chosen = flags(scores, prunable)
    by_path = {leaf_path(path): leaf for (path, leaf), prune in zip(paths, chosen, strict=True) if prune}
    before = [mask for mask, prune in zip(optional_masks(masks, scores), chosen, strict=True) if prune]
    leaves = list(by_path.values())
    sizes = {path: leaf.size for path, leaf in by_path.items()}
    units = {"": sum(sizes.values())} if together else {f" of {path}": size for path, size in sizes.items()}
    counts = [units_to_prune(sparsity, size) for size in units.values()]
    if together:
        kept = keep_all_but_lowest(leaves, counts[0], before)
    else:
        kept = [keep_all_but_lowest([s], n, [m])[0] for s, n, m in zip(leaves, counts, before, strict=True)]
    _check(by_path, before, sparsity, units, counts)
    remaining = iter(kept)
    return treedef.unflatten(
        [next(remaining) if prune else jnp.ones_like(s, bool) for (_, s), prune in zip(paths, chosen, strict=True)]
    )


@jax.jit
def _not_zero(array: Array) -> Array:
    unsigned = jnp.dtype(f"uint{array.dtype.itemsize * 8}")
    return jax.lax.bitcast_convert_type(array, unsigned) << 1 != 0


@jax.jit
def _faults(scores: list[Array], masks: Sequence[Array | None]) -> tuple[Array, Array]:
    """Count what is wrong in each leaf, and what is pruned.

    Returns:
      [L], [L] int32, scores that are not finite, and units that are pruned already.
    """
    faulty = [count_not_finite(leaf) for leaf in scores]
    already = [jnp.int32(0) if mask is None else count(~mask)[0] for mask in masks]
    return jnp.stack(faulty), jnp.stack(already)


def _check(
    scores: dict[str, Array],
    masks: Sequence[Array | None],
    sparsity: float | Array,
    units: dict[str, int],
    counts: list[Array],
) -> None:
    """Raise for scores that are not finite or an unreachable target."""
    if not scores:
        return
    numbers = (*_faults(list(scores.values()), masks), *counts)
    if any(isinstance(number, Tracer) for number in numbers):
        return
    faulty, already, *targets = jax.device_get(numbers)
    raise_for_counts(list(scores), faulty)
    sums = already if len(units) == len(scores) else [already.sum()]
    for (where, size), pruned, target in zip(units.items(), sums, targets, strict=True):
        if target < pruned:
            least = _share_of(int(pruned), size)
            raise UserError(
                f"sparsity: {sparsity} is below the {least}{where} that are pruned already; give at least {least}"
            )


def _share_of(pruned: int, size: int) -> float:
    """The shortest decimal below 1 of which `size` has at least `pruned`."""
    shares = (min(round(pruned / size, digits), 1 - 10.0**-digits) for digits in range(2, 16))
    return next((share for share in shares if round(share * size) >= pruned), pruned / size)
