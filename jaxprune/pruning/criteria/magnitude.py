"""Scores of weights: the lowest score is pruned first. Every criterion is `(params, key) -> Scores`."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxprune.states import check_key
from jaxprune.types import Params, Scores


def magnitude(params: Params, key: jax.Array | None = None) -> Scores:
    """|w|, the criterion of the paper: the smallest weights are pruned first.

    Args:
      params: The parameters.
      key: Not used.

    Returns:
      Scores with the structure of `params`.
    """
    return jax.tree.map(jnp.abs, params)


def random(params: Params, key: jax.Array | None) -> Scores:
    """Uniform scores in [0, 1): the control that every criterion must beat.

    Args:
      params: The parameters.
      key: Decides the scores; one stream for each leaf.

    Returns:
      Scores with the structure of `params`, float32.
    """
    check_key(key)
    assert key is not None
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    scores = [jax.random.uniform(k, leaf.shape, jnp.float32) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, scores)


CRITERIA: Mapping[str, Callable[[Params, jax.Array | None], Scores]] = {"magnitude": magnitude, "random": random}
