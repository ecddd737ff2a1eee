"""A small vision transformer.

Dosovitskiy et al., "An image is worth 16x16 words" (ICLR 2021), with the sizes of DeiT by option
(Touvron et al., 2021).
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxprune.compat import ModuleDict
from jaxprune.errors import UserError
from jaxprune.models.layers import check_image


class Layer(nnx.Module):
    """Attention and a two-layer perceptron, with pre-normalisation and residual sums."""

    def __init__(self, features: int, heads: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(features, epsilon=1e-6, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, features, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(features, epsilon=1e-6, rngs=rngs)
        self.fc1 = nnx.Linear(features, 4 * features, rngs=rngs)
        self.fc2 = nnx.Linear(4 * features, features, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """[B, T, features] -> [B, T, features]."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False))


class ViT(nnx.Module):
    """Patches as a sequence behind a class token, with learned positions."""

    def __init__(
        self,
        sample: Array,
        num_classes: int,
        *,
        patch: int,
        features: int,
        depth: int,
        heads: int,
        rngs: nnx.Rngs,
    ):
        height, across, channels = check_image("vit", sample, minimum=patch)
        if height % patch or across % patch:
            raise UserError(
                f"model.patch: images of {height} x {across} pixels are not cut evenly by patches of {patch}; "
                "choose a divisor, or resize the images with data.image_size"
            )
        if features % heads:
            raise UserError(
                f"model.heads: {features} features are not divided evenly by {heads} heads; choose a divisor"
            )
        self.patch, self.depth = patch, depth
        self.embedding = nnx.Linear(patch * patch * channels, features, rngs=rngs)
        initial = nnx.initializers.truncated_normal(0.02)
        tokens = 1 + (height // patch) * (across // patch)
        self.token = nnx.Param(initial(rngs.params(), (1, 1, features), jnp.float32))
        self.position = nnx.Param(initial(rngs.params(), (1, tokens, features), jnp.float32))
        self.layers = ModuleDict({f"{i:02d}": Layer(features, heads, rngs=rngs) for i in range(depth)})
        self.norm = nnx.LayerNorm(features, epsilon=1e-6, rngs=rngs)
        self.head = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """[B, H, W, channels] -> logits [B, C]."""
        b, height, width, channels = x.shape
        rows, columns = height // self.patch, width // self.patch
        x = x.reshape(b, rows, self.patch, columns, self.patch, channels).swapaxes(2, 3)
        x = self.embedding(x.reshape(b, rows * columns, -1))
        x = jnp.concatenate([jnp.broadcast_to(self.token[...], (b, 1, x.shape[-1])), x], 1) + self.position[...]
        for i in range(self.depth):
            x = self.layers[f"{i:02d}"](x)
        return self.head(self.norm(x[:, 0]))
