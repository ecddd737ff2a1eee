"""Random pruning."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.pruning.criterion import Criterion
from jaxprune.states import check_key
from jaxprune.types import Params, Scores


def random() -> Criterion:
    """Uniform scores in [0, 1), float32: the control for every criterion."""
    return Criterion(_score, frozenset({"key"}))


def _score(params: Params, *, key: jax.Array, **_: Any) -> Scores:
    check_key(key)
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    scores = [jax.random.uniform(k, leaf.shape, jnp.float32) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, scores)
