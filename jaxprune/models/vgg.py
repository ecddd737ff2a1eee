"""VGG-19: sixteen convolutions of 3x3 and three dense layers.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition" (ICLR 2015),
configuration E, with normalisation after every convolution. Parameters are named as those of the
reference networks with published weights.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxprune.compat import ModuleDict
from jaxprune.models.layers import Conv, Dropout, average_pool_to, check_image, make_norm, max_pool, scaled

_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # channels, convolutions; a maximum is taken after each
_POOL = -1


class VGG(nnx.Module):
    """VGG: five stages of convolutions with pooling, then three dense layers.

    The head "large" is the reference one, for any image: averages over 7x7 windows and layers of 4096. The head
    "small" takes the mean over pixels and layers of 512, as is usual for images of 32 pixels.
    """

    def __init__(
        self,
        sample: Array,
        num_classes: int,
        *,
        width: float,
        norm: str,
        head: str,
        dropout: float,
        rngs: nnx.Rngs,
    ):
        height, across, features = check_image("vgg19", sample, minimum=32)
        # Numbered as the reference numbers its layers, those without parameters included.
        members, at, self.plan = {}, 0, []
        for channels, repeats in _STAGES:
            for _ in range(repeats):
                after = scaled(channels, width)
                members[str(at)] = Conv(features, after, rngs=rngs)
                members[str(at + 1)] = make_norm(norm, after, rngs=rngs)
                self.plan.append(at)
                features, at = after, at + 3
            self.plan.append(_POOL)
            at += 1
        self.plan = tuple(self.plan)
        self.features = ModuleDict(members)
        large = head == "large" or (head == "auto" and min(height, across) >= 128)
        self.pooled = 7 if large else 1
        hidden = scaled(4096 if large else 512, width)
        widths = (features * self.pooled**2, hidden, hidden, num_classes)
        self.classifier = ModuleDict({str(3 * i): nnx.Linear(widths[i], widths[i + 1], rngs=rngs) for i in range(3)})
        self.dropout = Dropout(dropout, rngs=rngs)

    def __call__(self, x: Array, weight: Array | None = None) -> Array:
        """[B, H, W, channels] -> logits [B, C]."""
        for at in self.plan:
            if at == _POOL:
                x = max_pool(x)
                continue
            x = jax.nn.relu(self.features[str(at + 1)](self.features[str(at)](x), weight))
        x = average_pool_to(x, self.pooled)
        # channels first, so that published weights of the first dense layer fit
        x = jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)
        for i in range(2):
            x = self.dropout(jax.nn.relu(self.classifier[str(3 * i)](x)))
        return self.classifier["6"](x)
