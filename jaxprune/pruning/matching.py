"""Trees of the same leaves, matched by structure or path."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError
from jaxprune.trees import leaf_path, named_leaves
from jaxprune.types import Array, Masks, Params, PyTree, Scores


def matched(tree: PyTree, like: PyTree, what: str, *, none: bool = False) -> list[Any]:
    """The leaves of a tree, in the order of those of another.

    The nodes may be of other classes, as those of the state of an `nnx.Optimizer` are: leaves are then matched by their
    paths, and the "/value" at the end of those of an `nnx.State` counts for nothing.

    Args:
      tree: The tree.
      like: The tree whose leaves decide the order.
      what: What the leaves are, for messages, such as "the masks".
      none: Whether a leaf of `tree` may be None.

    Returns:
      A leaf, or None, for each leaf of `like`.

    Raises:
      UserError: The trees differ; it names the first leaf that only one of them has.
    """
    try:
        leaves = jax.tree.structure(like).flatten_up_to(tree)
    except (ValueError, TypeError):
        leaves = None  # other nodes
    if leaves is not None and _are_leaves(leaves, none=none):
        return leaves
    by_path = {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_none)}
    paths = [path.removesuffix("/value") for path, _ in named_leaves(like)]
    for path in paths:
        if path not in by_path or (by_path[path] is None and not none):
            raise _unlike(what, f"there is none for {path}")
    if extra := [path for path, leaf in by_path.items() if leaf is not None and path not in {*paths}]:
        raise _unlike(what, f"there is no parameter {extra[0]}")
    return [by_path[path] for path in paths]


def matched_masks(masks: Masks, params: Params, *, none: bool = False) -> list[Any]:
    """The masks of the parameters, in the order of their leaves.

    Args:
      masks: The masks, as for `matched`.
      params: The parameters.
      none: Whether a mask may be None.

    Raises:
      UserError: The structures or the shapes differ; it names the first leaf where they do.
    """
    ordered = matched(masks, params, "the masks", none=none)
    for (path, leaf), mask in zip(named_leaves(params), ordered, strict=True):
        if mask is not None and jnp.shape(mask) != jnp.shape(leaf):
            raise UserError(
                f"the mask of {path} has shape {jnp.shape(mask)}, the parameter {jnp.shape(leaf)}; "
                "prune these parameters"
            )
    return ordered


def optional_masks(masks: Masks | None, scores: Scores) -> list[Array | None]:
    """The mask of each leaf, None where nothing is pruned already.

    Args:
      masks: The masks, of which a leaf may be None; None for nothing.
      scores: Arrays of the same shapes.

    Raises:
      UserError: As from `matched_masks`.
    """
    leaves = jax.tree.leaves(scores)
    return [None] * len(leaves) if masks is None else matched_masks(masks, scores, none=True)


def _are_leaves(leaves: list[Any], *, none: bool) -> bool:
    present = [leaf for leaf in leaves if leaf is not None]
    return (none or len(present) == len(leaves)) and jax.tree_util.all_leaves(present)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _name(path: tuple[Any, ...]) -> str:
    return leaf_path(path).removesuffix("/value")


def _unlike(what: str, why: str) -> UserError:
    return UserError(f"{what} do not have the structure of the parameters: {why}; make them of these parameters")
