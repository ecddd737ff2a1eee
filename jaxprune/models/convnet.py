"""The small convolutional network of the paper's Table 2."""

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from jaxprune.models.layers import Conv, check_image, max_pool
from jaxprune.models.mlp import MLP
from jaxprune.types import Array


class ConvNet(nnx.Module):
    """3x3 convolutions with ReLU and 2x2 max-pooling, then dense layers."""

    def __init__(
        self, sample: Array, num_classes: int, *, channels: Sequence[int], hidden: Sequence[int], rngs: nnx.Rngs
    ):
        height, width, features = check_image("convnet", sample, minimum=2 ** len(channels))
        self.depth = len(channels)
        for i, wider in enumerate(channels):
            setattr(self, f"conv_{i}", Conv(features, wider, rngs=rngs))
            height, width, features = height // 2, width // 2, wider
        self.head = MLP(np.zeros((height, width, features)), num_classes, hidden=hidden, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """[B, H, W, channels] -> logits [B, C]."""
        for i in range(self.depth):
            x = max_pool(jax.nn.relu(getattr(self, f"conv_{i}")(x)))
        return self.head(x)
