"""Which weights may be pruned."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError, unknown
from jaxprune.pruning.matching import matched
from jaxprune.trees import leaf_names, leaf_path
from jaxprune.types import Params, PyTree


def prunable(
    params: Params, include: Sequence[str] | str = (), exclude: Sequence[str] | str = (), *, where: str = ""
) -> PyTree:
    """Select leaves by their path, such as `dense_0/kernel`.

    Without patterns: every float array with at least two axes, so kernels, but neither biases nor the scales of
    norms, nor a transformer's class token and positions (of one network, not of several stacked along a replica axis).

    Args:
      params: The parameters of one network, or their shapes.
      include: Patterns (`*`, `?`, `[...]`) of the leaves to prune, in place of that rule; a text is one pattern.
      exclude: Patterns of the leaves to keep all the same.
      where: What stands before `include` and `exclude` in messages, such as "prune." for settings.

    Returns:
      Python bools with the structure of `params`.

    Raises:
      UserError: A pattern matches no leaf, or nothing is left to prune.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    paths = [leaf_path(path) for path, _ in leaves]
    include, exclude = ([patterns] if isinstance(patterns, str) else patterns for patterns in (include, exclude))
    for argument, patterns in (("include", include), ("exclude", exclude)):
        for pattern in patterns:
            if not any(fnmatchcase(path, pattern) for path in paths):
                raise unknown("parameter", pattern, paths, where=f"{where}{argument}")
    chosen = [
        (any(fnmatchcase(path, p) for p in include) if include else _is_kernel(path, leaf.ndim))
        and jnp.issubdtype(leaf.dtype, jnp.floating)
        and not any(fnmatchcase(path, p) for p in exclude)
        for path, (_, leaf) in zip(paths, leaves, strict=True)
    ]
    if not any(chosen):
        argument, remedy = ("exclude", "narrow") if exclude else ("include", "widen")
        listed = ", ".join(paths)
        raise UserError(f"{where}{argument}: nothing is left to prune among {listed}; {remedy} the patterns")
    return jax.tree.unflatten(treedef, chosen)


def keep_ends(prunable: PyTree, order: Sequence[str], *, first: bool = True, last: bool = True) -> PyTree:
    """Keep the first and the last layer of a network dense.

    An end that is not prunable to begin with is dense already: no other layer takes its place.

    Example:
      >>> from jaxprune import pruning
      >>> chosen = {"head": {"kernel": True}, "body": {"kernel": True}, "stem": {"kernel": True}}
      >>> pruning.keep_ends(chosen, ["stem/kernel", "body/kernel", "head/kernel"])
      {'body': {'kernel': True}, 'head': {'kernel': False}, 'stem': {'kernel': False}}

    Args:
      prunable: Bools with the structure of the parameters, as from `pruning.prunable`.
      order: The paths of the kernels, such as `dense_0/kernel`, in the order in which the network uses them.
      first: Whether the first is kept dense.
      last: Whether the last is kept dense.

    Returns:
      Python bools with the structure of `prunable`.

    Raises:
      UserError: `order` is empty or names a leaf that does not exist, or nothing is left to prune.
    """
    paths = leaf_names(prunable)
    if not order:
        raise UserError("order: it names no kernel, and so neither a first nor a last layer; give their paths")
    for path in order:
        if path not in paths:
            raise unknown("parameter", path, paths, where="order")
    ends = {*([order[0]] if first else []), *([order[-1]] if last else [])}
    leaves, treedef = jax.tree.flatten(prunable)
    chosen = [bool(leaf) and path not in ends for path, leaf in zip(paths, leaves, strict=True)]
    if not any(chosen):
        dense = ", ".join(sorted(ends))
        raise UserError(f"keep_ends: nothing is left to prune with {dense} kept dense; keep one end, or neither")
    return jax.tree.unflatten(treedef, chosen)


def flags(tree: PyTree, prunable: PyTree) -> list[bool]:
    """Whether each leaf may be pruned, in their order; None for all."""
    if prunable is None:
        return [True] * len(jax.tree.leaves(tree))
    return matched(prunable, tree, "prunable: the flags")


def _is_kernel(path: str, axes: int) -> bool:
    # Of transformers: inputs, so to say, and the biases of attention, which have an axis for the heads.
    # Paths of an `nnx.State` end in "value".
    return axes >= 2 and path.removesuffix("/value").rpartition("/")[2] not in ("token", "position", "bias")
