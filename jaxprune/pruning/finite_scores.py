"""The check that scores are finite."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.pruning.counting import count
from jaxprune.pruning.selection import flags
from jaxprune.trees import named_leaves
from jaxprune.types import Array, PyTree, Scores


def check_finite(scores: Scores, prunable: PyTree) -> None:
    """Raise if a score is NaN or infinite.

    One number a leaf goes to the host, all of them at once.

    Args:
      scores: Float arrays.
      prunable: Bools with the structure of `scores`; None for all. Other leaves may hold anything.

    Raises:
      UserError: It names the first such leaf (outside of jit).
    """
    leaves = [leaf for leaf, prune in zip(named_leaves(scores), flags(scores, prunable), strict=True) if prune]
    counts = zip((path for path, _ in leaves), _counts([leaf for _, leaf in leaves]), strict=True)
    plain = [(path, number) for path, number in counts if not isinstance(number, Tracer)]
    raise_for_counts([path for path, _ in plain], jax.device_get([number for _, number in plain]))


def raise_for_counts(paths: Sequence[str], counts: Sequence[int]) -> None:
    """Raise if a leaf holds scores that are not finite.

    Args:
      paths: The paths of the leaves.
      counts: How many scores of each are NaN or infinite.

    Raises:
      UserError: It names the first such leaf.
    """
    for path, number in zip(paths, counts, strict=True):
        if number:
            raise UserError(
                f"the scores of {path} hold NaN or infinite values; "
                "the parameters may have diverged: train with a lower learning rate"
            )


@jax.jit
def _counts(leaves: list[Array]) -> list[Array]:
    return [count_not_finite(leaf) for leaf in leaves]


def count_not_finite(scores: Array) -> Array:
    """[] int32, how many scores are NaN or infinite."""
    return count(~jnp.isfinite(scores))[0]
