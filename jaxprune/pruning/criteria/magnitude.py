"""Magnitude pruning."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.pruning.criterion import Criterion
from jaxprune.types import Params, Scores


def magnitude() -> Criterion:
    """|w|, the criterion of the paper: the smallest weights are pruned first."""
    return Criterion(_score)


def _score(params: Params, **_: Any) -> Scores:
    return jax.tree.map(jnp.abs, params)
