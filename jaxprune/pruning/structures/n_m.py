"""N:M: N of M consecutive weights along the reduction axis are kept."""

import operator
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.counting import units_to_prune
from jaxprune.pruning.finite_scores import check_finite
from jaxprune.pruning.masks import check_sparsity, layerwise_masks
from jaxprune.pruning.matching import optional_masks
from jaxprune.pruning.patterns import pattern_values, values_of
from jaxprune.pruning.selection import flags
from jaxprune.pruning.structure import Structure
from jaxprune.trees import leaf_names, leaf_path, named_leaves
from jaxprune.types import Array, Masks, Params, PyTree, Scores

_REDUCTION = -2  # of a flax kernel [..., in, out]
_Axes = tuple[tuple[str, int | tuple[int, ...]], ...]  # pattern -> the axis, or all axes that a product sums over


def n_m(*, m: int = 4, axis: int | Mapping[str, Any] | Sequence[str] | None = None) -> Structure:
    """N:M sparsity, the pattern that sparse tensor cores compute with.

    The sparsity decides N = m (1 - sparsity): 2:4 is m = 4 with a sparsity of 0.5. The groups are of `m` consecutive
    weights along the axis that a matrix product sums over, as hardware wants: `in` of a dense kernel [in, out], and
    that of a convolution [height, width, in, out] at every place of its window. In each group the N highest scores are
    kept; of equal scores the first is pruned first, as by `global_masks`. Every layer gets the same share, so this
    structure is its own allocation. A traced sparsity is rounded to the nearest whole N.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> params = {"kernel": jnp.array([[1.0, 9.0], [2.0, 8.0], [3.0, 7.0], [4.0, 6.0]])}
      >>> pruned, masks = pruning.prune(params, 0.5, criterion=pruning.magnitude(), structure=pruning.n_m())
      >>> pruned["kernel"].tolist()
      [[0.0, 9.0], [0.0, 8.0], [3.0, 0.0], [4.0, 0.0]]

    Args:
      m: Weights in a group, at least 2.
      axis: The axis of the groups where it is not the last but one: of all layers; or path pattern -> axis; or the
        same as texts, such as "attention/query/kernel=0"; or a tree with the structure of the parameters. Where several
        axes are given, which are all that a product sums over, it is the one beside the axes of outputs: 2 of (0, 1, 2)
        for a convolution [height, width, in, out]. For networks of any library it is
        `axis={k.path: k.reduction_axes for k in kernels(apply, params, x)}`.

    Returns:
      The structure; the same object for the same options. It raises a `UserError` that names every layer whose axis `m`
      does not divide, a sparsity that is not a whole N, and, outside of jit, layers with a group of which more is
      pruned already.

    Raises:
      UserError: `m` is below 2, or an axis is not a whole number.
    """
    if m != int(m) or m < 2:
        raise UserError(f"m: {m} is not a whole number of at least 2; hardware takes 4")
    axes = (("*", axis),) if isinstance(axis, int) else _axes(axis)
    return _n_m(int(m), axes)


def _axes(axis: Mapping[str, Any] | Sequence[str] | None) -> _Axes:
    if isinstance(axis, Mapping) and any(isinstance(value, Mapping) for value in axis.values()):
        leaves = jax.tree_util.tree_leaves_with_path(axis, is_leaf=lambda value: isinstance(value, tuple | list))
        axis = {leaf_path(path): value for path, value in leaves}
    return pattern_values("axis", () if axis is None else axis, _axis, "attention/query/kernel=0")


def _axis(value: Any) -> int | tuple[int, ...]:
    """A whole number, or several; a `ValueError` for anything else."""
    if isinstance(value, tuple | list):
        return tuple(operator.index(axis) for axis in value)
    return int(value) if isinstance(value, str) else operator.index(value)


@cache
def _n_m(m: int, axes: _Axes) -> Structure:
    return Structure(
        masks=partial(_masks, m=m, axes=axes), check=partial(_check, m=m, axes=axes), allocation=layerwise_masks
    )


def _masks(
    scores: Scores,
    sparsity: float | Array,
    prunable: PyTree = None,
    masks: Masks | None = None,
    allocation: Allocation | None = None,
    *,
    m: int,
    axes: _Axes,
) -> Masks:
    del allocation  # its own
    traced = isinstance(sparsity, Tracer)
    _check(scores, prunable, () if traced else (float(sparsity),), m=m, axes=axes)
    check_finite(scores, prunable)
    pruned = units_to_prune(sparsity, m)
    leaves, treedef = jax.tree.flatten(scores)
    before = optional_masks(masks, scores)
    along, chosen = _axis_of_each(scores, axes), flags(scores, prunable)
    result = [
        _keep_highest(s, mask, pruned, m=m, axis=axis) if prune else (jnp.ones_like(s, bool), None)
        for s, mask, prune, axis in zip(leaves, before, chosen, along, strict=True)
    ]
    _check_groups(leaf_names(scores), [overfull for _, overfull in result], sparsity, m)
    return jax.tree.unflatten(treedef, [kept for kept, _ in result])


@partial(jax.jit, static_argnames=("m", "axis"))
def _keep_highest(scores: Array, mask: Array | None, pruned: Array, *, m: int, axis: int) -> tuple[Array, Array | None]:
    """The mask of one leaf, and the number of overfull groups.

    Those are groups of which more is pruned already than is to be.
    """
    axis %= scores.ndim
    groups = (*scores.shape[:axis], scores.shape[axis] // m, m, *scores.shape[axis + 1 :])
    values, place = _in_order(scores).reshape(groups), axis + 1
    live = None if mask is None else jnp.asarray(mask).reshape(groups)
    index = jax.lax.broadcasted_iota(jnp.int32, groups, place)
    # The rank of a weight is the number of those in its group that go before it: what is pruned already, then lower
    # scores, then equal ones that come first. Comparisons with each of the m are fused, where a sort would not be.
    rank = jnp.zeros(groups, jnp.int32)
    for j in range(m):
        other = jax.lax.slice_in_dim(values, j, j + 1, axis=place)
        before = (other < values) | ((other == values) & (j < index))
        if live is not None:
            other_live = jax.lax.slice_in_dim(live, j, j + 1, axis=place)
            before = (~other_live & live) | ((other_live == live) & before)
        rank = rank + before
    kept = rank >= pruned
    if live is None:
        return kept.reshape(scores.shape), None
    overfull = jnp.sum(jnp.sum(~live, axis=place, dtype=jnp.int32) > pruned, dtype=jnp.int32)
    return (kept & live).reshape(scores.shape), overfull


def _in_order(scores: Array) -> Array:
    """Integers in the order of the floats.

    -0.0 equals 0.0, but denormals do not, as they do where a processor flushes them.
    """
    kind, whole = (jnp.float64, jnp.int64) if scores.dtype == jnp.float64 else (jnp.float32, jnp.int32)
    bits = jax.lax.bitcast_convert_type(scores.astype(kind), whole)
    magnitude = bits & jnp.iinfo(whole).max
    return jnp.where(bits < 0, -magnitude, magnitude)


def _axis_of_each(tree: PyTree, axes: _Axes) -> list[int]:
    of_leaves = values_of("axis", axes, leaf_names(tree))
    return [_nearest(axis, leaf.ndim) for axis, leaf in zip(of_leaves, jax.tree.leaves(tree), strict=True)]


def _nearest(axis: int | tuple[int, ...] | None, ndim: int) -> int:
    """Of several axes, the one beside the outputs, in HWIO and OIHW."""
    if axis is None or axis == ():
        return _REDUCTION
    if isinstance(axis, int):
        return axis
    outputs = {*range(ndim)} - {a % ndim for a in axis}
    beside = [a for a in axis if (a % ndim) + 1 in outputs or (a % ndim) - 1 in outputs]
    return (beside or axis)[-1]


def _check(params: Params, prunable: PyTree, sparsities: Sequence[float], *, m: int, axes: _Axes) -> None:
    """Raise unless the sparsities are whole N and `m` divides the axes."""
    for sparsity in sparsities:
        check_sparsity(sparsity)
        if abs(sparsity * m - round(sparsity * m)) > 1e-5 or round(sparsity * m) == m:
            reachable = ", ".join(f"{n / m:.6g}" for n in range(1, m)) if m <= 16 else f"the multiples of 1/{m}"
            raise UserError(
                f"sparsity: {sparsity:g} is not a whole number of each {m} weights; m={m} reaches {reachable}"
            )
    unfit, without = [], []
    for (path, leaf), prune, axis in zip(
        named_leaves(params), flags(params, prunable), _axis_of_each(params, axes), strict=True
    ):
        if not prune:
            continue
        if not -leaf.ndim <= axis < leaf.ndim:
            without.append((axis, f"{path} of shape {leaf.shape}"))
        elif leaf.shape[axis] % m:
            unfit.append((path, f"{leaf.shape[axis]} along axis {axis % leaf.ndim}"))
    if without:
        axis, named = without[0][0], ", ".join(name for _, name in without)
        raise UserError(f"axis: there is no axis {axis} in {named}; -2 is the last but one, the default")
    if unfit:
        named = ", ".join(f"{path} ({why})" for path, why in unfit)
        raise UserError(f"m: {m} does not divide {named}; exclude {', '.join(path for path, _ in unfit)} from pruning")


def _check_groups(paths: list[str], overfull: list[Array | None], sparsity: float | Array, m: int) -> None:
    counts = [
        (path, count)
        for path, count in zip(paths, overfull, strict=True)
        if count is not None and not isinstance(count, Tracer)
    ]
    numbers = jax.device_get([count for _, count in counts])
    if named := ", ".join(f"{n} groups of {path}" for (path, _), n in zip(counts, numbers, strict=True) if n):
        raise UserError(
            f"masks: more of {m} weights than a sparsity of {float(sparsity):g} prunes are pruned already in {named}; "
            "ask for a higher sparsity"
        )
