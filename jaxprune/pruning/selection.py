"""Which weights may be pruned."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError, unknown
from jaxprune.trees import leaf_path
from jaxprune.types import Params, PyTree


def prunable(params: Params, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> PyTree:
    """Selects leaves by their path, such as `dense_0/kernel`.

    Without patterns: every float array with at least two axes, so kernels, but neither biases nor the scales of
    norms, nor a transformer's class token and positions
    (of one network, not of several stacked along a replica axis).

    Args:
      params: The parameters of one network, or their shapes.
      include: Patterns (`*`, `?`, `[...]`) of the leaves to prune, in place of that rule.
      exclude: Patterns of the leaves to keep all the same.

    Returns:
      Python bools with the structure of `params`.

    Raises:
      UserError: A pattern matches no leaf, or nothing is left to prune.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(params)
    paths = [leaf_path(path) for path, _ in leaves]
    for setting, patterns in (("prune.include", include), ("prune.exclude", exclude)):
        for pattern in patterns:
            if not any(fnmatchcase(path, pattern) for path in paths):
                raise unknown("parameter", pattern, paths, where=setting)
    chosen = [
        (any(fnmatchcase(path, p) for p in include) if include else _is_kernel(path, leaf.ndim))
        and jnp.issubdtype(leaf.dtype, jnp.floating)
        and not any(fnmatchcase(path, p) for p in exclude)
        for path, (_, leaf) in zip(paths, leaves, strict=True)
    ]
    if not any(chosen):
        raise UserError(f"prune.include: nothing is left to prune among {', '.join(paths)}; widen the patterns")
    return jax.tree.unflatten(treedef, chosen)


def _is_kernel(path: str, axes: int) -> bool:
    return axes >= 2 and path.rpartition("/")[2] not in ("token", "position")  # of transformers: inputs, so to say
