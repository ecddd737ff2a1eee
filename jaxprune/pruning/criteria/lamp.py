"""LAMP, layer-adaptive magnitudes (Lee et al. 2021)."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.pruning.criterion import Criterion
from jaxprune.types import Array, Params, Scores


def lamp() -> Criterion:
    """w² / Σ w'² over the weights of its layer that are no smaller.

    Within a layer the order is that of the magnitudes, so that LAMP decides how much of each layer goes under one
    threshold for all layers (Lee et al. 2021, eq. 4). Equal magnitudes have equal scores.
    """
    return Criterion(_score)


def _score(params: Params, **_: Any) -> Scores:
    return jax.tree.map(_of_layer, params)


@jax.jit
def _of_layer(values: Array) -> Array:
    flat = jnp.abs(jnp.ravel(values)).astype(jnp.promote_types(values.dtype, jnp.float32))
    # The score does not change with the scale of the layer, and the square of a tiny weight would be 0.
    largest = jnp.max(flat, initial=0)
    squares = jnp.square(flat / jnp.where(largest > 0, largest, 1))
    order = jnp.argsort(squares)
    ascending = squares[order]
    no_smaller = jnp.cumsum(ascending[::-1])[::-1]
    # Weights that are equal share the sum at the first of them: "no smaller" means all of them, in whatever order.
    place = jnp.arange(flat.size)
    begins = jnp.concatenate([jnp.ones(min(1, flat.size), bool), ascending[1:] != ascending[:-1]])
    first = jax.lax.cummax(jnp.where(begins, place, 0))
    denominator = no_smaller[first]
    scores = ascending / jnp.where(denominator > 0, denominator, 1)
    return jnp.zeros_like(scores).at[order].set(scores, unique_indices=True).reshape(values.shape)
