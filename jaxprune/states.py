"""Checks of random keys and statistics, and keys of one kind."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.errors import UserError
from jaxprune.types import Stats

_KEY = "give jax.random.key(0), or jax.random.split(jax.random.key(0), R) for R replicas"


def check_key(key: Any) -> None:
    """Raise unless `key` is a random key or an array of them.

    Raises:
      UserError: It is an integer, None or another array; the message says how keys are made.
    """
    dtype = getattr(key, "dtype", None)
    if dtype is None:
        raise UserError(f"key: {key!r} is no random key; {_KEY}")
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return
    words = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape
    if dtype != jnp.uint32 or np.shape(key)[-1:] != words:
        raise UserError(f"key: an array of {dtype} of shape {np.shape(key)} is no random key; {_KEY}")


def typed_key(key: jax.Array) -> jax.Array:
    """A typed key from a typed or a raw one.

    The trailing axis of a raw key would be taken for an axis of replicas.
    """
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def check_has_stats(stats: Stats, expected: Stats) -> None:
    """Raise where a network with statistics is given none.

    Args:
      stats: Those that the network is given.
      expected: Of the structure that it needs.

    Raises:
      UserError: None are given, and some are needed.
    """
    if expected and not stats:
        raise UserError(
            "stats: the network needs its statistics, and has none; give those of params, stats = network.init(key) to "
            "training.init_state(params, tx, stats) and network.freeze(stats)"
        )


def check_stats(before: Stats, after: Stats) -> None:
    """Raise if a network changes the structure of its statistics.

    Raises:
      UserError: The state was made without the network's statistics, or with others.
    """
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise UserError(
            "state.stats: the network returns other statistics than the state has; give those of params, stats = "
            "network.init(key) to training.init_state(params, tx, stats)"
        )
