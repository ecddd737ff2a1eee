"""MobileNetV2: inverted residuals with linear bottlenecks.

Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: inverted residuals and linear bottlenecks" (CVPR 2018), Table 2.
Parameters are named as those of the reference networks with published weights.
"""

from typing import Any

import jax
from flax import nnx
from jax import Array

from jaxprune.compat import ModuleDict
from jaxprune.models.layers import Conv, DepthwiseConv, Dropout, check_image, make_norm

# expansion, channels, repeats, stride of the first
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nnx.Module):
    """An inverted residual: 1x1 to more channels, depthwise, 1x1 back."""

    def __init__(self, features_in: int, features: int, *, stride: int, expansion: int, norm: str, rngs: nnx.Rngs):
        hidden = features_in * expansion
        self.residual = stride == 1 and features_in == features
        members = {}
        if expansion != 1:
            members["0"] = _pair(Conv(features_in, hidden, 1, bias=False, rngs=rngs), norm, hidden, rngs)
        at = len(members)
        members[str(at)] = _pair(DepthwiseConv(hidden, stride=stride, rngs=rngs), norm, hidden, rngs)
        members[str(at + 1)] = Conv(hidden, features, 1, bias=False, rngs=rngs)
        members[str(at + 2)] = make_norm(norm, features, rngs=rngs)
        self.conv = ModuleDict(members)

    def __call__(self, x: Array, weight: Array | None = None) -> Array:
        """[B, H, W, features_in] -> [B, H / stride, W / stride, features]."""
        y, last = x, len(self.conv) - 1
        for at in range(last - 1):
            y = _active(self.conv[str(at)], y, weight)
        y = self.conv[str(last)](self.conv[str(last - 1)](y), weight)
        return x + y if self.residual else y


class MobileNetV2(nnx.Module):
    """MobileNetV2: a stem, seventeen inverted residuals and a dense layer.

    The stem "small" leaves out the first two of the five halvings, so that 32 pixels end as 4.
    """

    def __init__(
        self, sample: Array, num_classes: int, *, width: float, norm: str, stem: str, dropout: float, rngs: nnx.Rngs
    ):
        height, across, channels = check_image("mobilenet_v2", sample, minimum=32)
        small = stem == "small" or (stem == "auto" and min(height, across) < 64)
        features = _divisible(32 * width)
        stride = 1 if small else 2
        members: dict[str, Any] = {
            "0": _pair(Conv(channels, features, stride=stride, bias=False, rngs=rngs), norm, features, rngs)
        }
        for stage, (expansion, base, repeats, first_stride) in enumerate(_STAGES):
            after = _divisible(base * width)
            for i in range(repeats):
                stride = 1 if i or (small and stage == 1) else first_stride
                members[str(len(members))] = InvertedResidual(
                    features, after, stride=stride, expansion=expansion, norm=norm, rngs=rngs
                )
                features = after
        last = _divisible(1280 * max(1.0, width))
        members[str(len(members))] = _pair(Conv(features, last, 1, bias=False, rngs=rngs), norm, last, rngs)
        self.features = ModuleDict(members)
        self.dropout = Dropout(dropout, rngs=rngs)
        self.classifier = ModuleDict({"1": nnx.Linear(last, num_classes, rngs=rngs)})

    def __call__(self, x: Array, weight: Array | None = None) -> Array:
        """[B, H, W, channels] -> logits [B, C]."""
        last = len(self.features) - 1
        for i in range(last + 1):
            member = self.features[str(i)]
            x = _active(member, x, weight) if i in (0, last) else member(x, weight)
        return self.classifier["1"](self.dropout(x.mean((1, 2))))


def _pair(convolution: nnx.Module, norm: str, features: int, rngs: nnx.Rngs) -> ModuleDict:
    return ModuleDict({"0": convolution, "1": make_norm(norm, features, rngs=rngs)})


def _active(pair: ModuleDict, x: Array, weight: Array | None) -> Array:
    return jax.nn.relu6(pair["1"](pair["0"](x), weight))


def _divisible(channels: float) -> int:
    """The nearest multiple of eight, at least eight.

    It is not below nine tenths of the number.
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
