"""Names of a pytree's leaves as paths, such as `dense_0/kernel`."""

from typing import Any

import jax

from jaxprune.types import PyTree


def leaf_path(path: tuple[Any, ...]) -> str:
    """A key path of `jax.tree_util` as `dense_0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """The path and value of every leaf, in `jax.tree.leaves` order."""
    return [(leaf_path(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def leaf_names(tree: PyTree) -> list[str]:
    """The paths of all leaves, in the order of `jax.tree.leaves`."""
    return [name for name, _ in named_leaves(tree)]
