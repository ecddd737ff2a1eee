"""A multi-layer perceptron."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from jaxprune.types import Array


class MLP(nnx.Module):
    """Dense layers with ReLU between them; inputs of any shape are flattened."""

    def __init__(self, sample: Array, num_classes: int, *, hidden: Sequence[int], rngs: nnx.Rngs):
        widths = [math.prod(np.shape(sample)), *hidden, num_classes]
        self.depth = len(widths) - 1
        for i in range(self.depth):
            layer = nnx.Linear(widths[i], widths[i + 1], kernel_init=nnx.initializers.he_normal(), rngs=rngs)
            setattr(self, f"dense_{i}", layer)

    def __call__(self, x: Array) -> Array:
        """[B, ...] -> logits [B, C]."""
        x = x.reshape(x.shape[0], -1)
        for i in range(self.depth):
            x = getattr(self, f"dense_{i}")(x if i == 0 else jax.nn.relu(x))
        return x
