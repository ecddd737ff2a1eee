"""Samples of inputs: whether one is an example, or a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import models
from jaxprune.types import Array

_BATCH = 3  # a size that is seldom one of the network's own


def gives_logits(program: Callable[[Array], Array], sample: Any) -> bool:
    """Whether a batch of such examples gives logits [B, C].

    Only shapes are computed; lowering may still find a fault.

    Args:
      program: x [B, ...] -> anything.
      sample: One example, or its shape and type.
    """
    x = jax.ShapeDtypeStruct((_BATCH, *np.shape(sample)), jnp.result_type(sample))
    try:
        with models.plain_convolutions():
            # A new function each time: jax would keep its trace, perhaps with native code, for the next one.
            made = jax.eval_shape(lambda x: program(x), x)
    except Exception:  # of any library that the network is written in
        return False
    return len(np.shape(made)) == 2 and np.shape(made)[0] == _BATCH


def first_row(sample: Any) -> jax.ShapeDtypeStruct | None:
    """The shape and type of the first row.

    It is None for a single number.
    """
    shape = np.shape(sample)
    return jax.ShapeDtypeStruct(shape[1:], jnp.result_type(sample)) if shape else None
