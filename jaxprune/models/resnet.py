"""Residual networks: ResNet-18, 34, 50, and ResNet-20 and 56.

He, Zhang, Ren, Sun, "Deep residual learning for image recognition" (CVPR 2016). A bottleneck has its stride in the 3x3
convolution, as the reference networks with published weights have. Parameters are named as theirs.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from jaxprune.compat import ModuleDict
from jaxprune.models.layers import Conv, check_image, make_norm, max_pool, scaled

_LARGE = 64  # pixels a side from which "auto" takes the stem for large images


class Block(nnx.Module):
    """A residual block of two 3x3 convolutions, or a bottleneck."""

    def __init__(
        self, features_in: int, width: int, *, stride: int, bottleneck: bool, pad: bool, norm: str, rngs: nnx.Rngs
    ):
        features = 4 * width if bottleneck else width
        if bottleneck:
            plan = [(features_in, width, 1, 1), (width, width, 3, stride), (width, features, 1, 1)]
        else:
            plan = [(features_in, width, 3, stride), (width, width, 3, 1)]
        self.depth, self.stride, self.features = len(plan), stride, features
        for i, (before, after, window, step) in enumerate(plan, start=1):
            setattr(self, f"conv{i}", Conv(before, after, window, stride=step, bias=False, rngs=rngs))
            setattr(self, f"bn{i}", make_norm(norm, after, rngs=rngs))
        self.projects = not pad and (stride > 1 or features_in != features)
        if self.projects:
            convolution = Conv(features_in, features, 1, stride=stride, bias=False, rngs=rngs)
            self.downsample = ModuleDict({"0": convolution, "1": make_norm(norm, features, rngs=rngs)})

    def __call__(self, x: Array, weight: Array | None = None) -> Array:
        """[B, H, W, features_in] -> [B, H / stride, W / stride, features]."""
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y), weight)
            y = jax.nn.relu(y) if i < self.depth else y
        return jax.nn.relu(y + self._shortcut(x, weight))

    def _shortcut(self, x: Array, weight: Array | None) -> Array:
        if self.projects:
            convolution, norm = self.downsample["0"], self.downsample["1"]
            return norm(convolution(x), weight)  # pyright: ignore[reportCallIssue]
        x = x[:, :: self.stride, :: self.stride]
        more = self.features - x.shape[-1]  # option A of the paper (section 4.2): new channels begin as zeros
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2))) if more else x


class ResNet(nnx.Module):
    """A residual network.

    A stem, stages of blocks of which all but the first halve height and width, a mean over pixels, and a dense layer.
    """

    def __init__(
        self,
        sample: Array,
        num_classes: int,
        *,
        blocks: Sequence[int],
        base: int,
        bottleneck: bool = False,
        width: float,
        norm: str,
        stem: str,
        shortcut: str = "projection",
        rngs: nnx.Rngs,
    ):
        height, across, channels = check_image("resnet", sample, minimum=8)
        self.large = stem == "large" or (stem == "auto" and min(height, across) >= _LARGE)
        first = scaled(base, width)
        window, stride = (7, 2) if self.large else (3, 1)
        self.conv1 = Conv(channels, first, window, stride=stride, bias=False, rngs=rngs)
        self.bn1 = make_norm(norm, first, rngs=rngs)
        self.stages = len(blocks)
        features = first
        for stage, repeats in enumerate(blocks):
            members = {}
            for i in range(repeats):
                block = Block(
                    features,
                    scaled(base * 2**stage, width),
                    stride=2 if stage and not i else 1,
                    bottleneck=bottleneck,
                    pad=shortcut == "pad",
                    norm=norm,
                    rngs=rngs,
                )
                members[str(i)], features = block, block.features
            setattr(self, f"layer{stage + 1}", ModuleDict(members))
        self.fc = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x: Array, weight: Array | None = None) -> Array:
        """[B, H, W, channels] -> logits [B, C]."""
        x = jax.nn.relu(self.bn1(self.conv1(x), weight))
        if self.large:
            x = max_pool(x, 3, stride=2, padding=1)
        for stage in range(self.stages):
            members = getattr(self, f"layer{stage + 1}")
            for i in range(len(members)):
                x = members[str(i)](x, weight)
        return self.fc(x.mean((1, 2)))


resnet18 = partial(ResNet, blocks=(2, 2, 2, 2), base=64)
resnet34 = partial(ResNet, blocks=(3, 4, 6, 3), base=64)
resnet50 = partial(ResNet, blocks=(3, 4, 6, 3), base=64, bottleneck=True)
resnet20 = partial(ResNet, blocks=(3, 3, 3), base=16, stem="small")
resnet56 = partial(ResNet, blocks=(9, 9, 9), base=16, stem="small")
