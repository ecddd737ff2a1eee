"""Layers with the names and the arithmetic of the reference networks."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from jaxprune.errors import UserError
from jaxprune.models.conv import convolve
from jaxprune.models.conv.forms import matmul_precision

_fan_out = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al. 2015, for the backward pass


class Conv(nnx.Module):
    """A convolution with zero padding, by default of the same size."""

    def __init__(
        self,
        features_in: int,
        features: int,
        window: int = 3,
        *,
        stride: int = 1,
        padding: int | None = None,
        bias: bool = True,
        rngs: nnx.Rngs,
    ):
        self.stride, self.padding = stride, window // 2 if padding is None else padding
        shape = (window, window, features_in, features)
        self.kernel = nnx.Param(_fan_out(rngs.params(), shape, jnp.float32))
        if bias:
            self.bias = nnx.Param(jnp.zeros(features, jnp.float32))

    def __call__(self, x: Array) -> Array:
        """[B, H, W, features_in] -> [B, H', W', features]."""
        y = convolve(x, self.kernel[...], stride=self.stride, padding=self.padding)
        return y + self.bias[...] if hasattr(self, "bias") else y


class DepthwiseConv(nnx.Module):
    """A convolution of each channel with its own window, without bias.

    The kernel is [height, width, 1, D].
    """

    def __init__(self, features: int, window: int = 3, *, stride: int = 1, rngs: nnx.Rngs):
        self.stride = stride
        initial = nnx.initializers.normal(math.sqrt(2 / window**2))
        self.kernel = nnx.Param(initial(rngs.params(), (window, window, 1, features), jnp.float32))

    def __call__(self, x: Array) -> Array:
        """[B, H, W, features] -> [B, H', W', features]."""
        # The compiler's grouped convolution is the slowest of all on a CPU; sums of shifted products are fused there.
        forms = {"cpu": self._shifted, "default": self._grouped}
        return lax.platform_dependent(x, self.kernel[...], **forms)

    def _shifted(self, x: Array, kernel: Array) -> Array:
        window, s = kernel.shape[0], self.stride
        padded = jnp.pad(x, ((0, 0), (window // 2,) * 2, (window // 2,) * 2, (0, 0)))
        height, width = (n - 1 + s for n in x.shape[1:3])
        terms = (
            padded[:, i : i + height - s + 1 : s, j : j + width - s + 1 : s] * kernel[i, j, 0]
            for i in range(window)
            for j in range(window)
        )
        return sum(terms, start=jnp.zeros((), x.dtype))

    def _grouped(self, x: Array, kernel: Array) -> Array:
        half = kernel.shape[0] // 2
        return lax.conv_general_dilated(
            x,
            kernel,
            (self.stride,) * 2,
            [(half, half), (half, half)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=kernel.shape[3],
            precision=matmul_precision(),
        )


class BatchNorm(nnx.BatchNorm):
    """Batch normalisation over the examples of positive weight.

    Padding does not enter the moments.

    The running variance is that of 1/n, as flax has it; PyTorch's is of 1/(n - 1), n being examples times pixels. Those
    of loaded weights are used as they are.
    """

    def __call__(self, x: Array, weight: Array | None = None) -> Array:  # pyright: ignore
        """[B, ..., D], [B] or None -> [B, ..., D]."""
        if weight is None or self.use_running_average:
            return super().__call__(x)
        # Sums of examples first: flax would compare, select and count anew at every pixel.
        present = (weight > 0).astype(x.dtype)
        pixels = tuple(range(1, x.ndim - 1))
        count = jnp.maximum(present.sum(), 1) * math.prod(x.shape[1:-1])
        mean = present @ x.sum(pixels) / count
        variance = jnp.maximum(present @ (x * x).sum(pixels) / count - mean * mean, 0)
        for running, moment in ((self.mean, mean), (self.var, variance)):
            running[...] = self.momentum * running[...] + (1 - self.momentum) * moment
        assert self.scale is not None
        assert self.bias is not None
        return (x - mean) * (self.scale[...] * lax.rsqrt(variance + self.epsilon)) + self.bias[...]


class GroupNorm(nnx.GroupNorm):
    """Group normalisation (Wu and He, 2018), of each example by itself."""

    def __init__(self, features: int, *, rngs: nnx.Rngs):
        # 32 groups where they divide the channels, as in the paper, and fewer for narrow layers
        super().__init__(features, num_groups=math.gcd(32, features), epsilon=1e-5, rngs=rngs)

    def __call__(self, x: Array, weight: Array | None = None) -> Array:  # pyright: ignore
        """Normalise, [B, ..., D] -> [B, ..., D]; the weights are ignored."""
        return super().__call__(x)


class RandomState(nnx.Variable):
    """The state of a random generator, kept with the statistics.

    So it is saved and restored with them.
    """


class Dropout(nnx.Module):
    """Dropout: in training, zero random values and scale up the others."""

    def __init__(self, rate: float, *, rngs: nnx.Rngs):
        self.rate, self.deterministic = rate, False
        if rate:
            # as plain numbers: arrays of keys are not taken by every way to save an array
            self.state = RandomState(jax.random.key_data(rngs.params()))

    def __call__(self, x: Array) -> Array:
        """[...] -> [...]."""
        if not self.rate or self.deterministic:
            return x
        key, following = jax.random.split(jax.random.wrap_key_data(self.state[...]))
        self.state[...] = jax.random.key_data(following)
        return jnp.where(jax.random.bernoulli(key, 1 - self.rate, x.shape), x / (1 - self.rate), 0)


def make_norm(kind: str, features: int, *, rngs: nnx.Rngs) -> Callable[..., Array]:
    """A normalisation layer, called as `norm(x, weight)`."""
    if kind == "group":
        return GroupNorm(features, rngs=rngs)
    return BatchNorm(features, momentum=0.9, epsilon=1e-5, rngs=rngs)


def max_pool(x: Array, window: int = 2, *, stride: int = 2, padding: int = 0) -> Array:
    """The maximum of each whole window, [B, H, W, D] -> [B, H', W', D]."""
    if (window, stride, padding) == (2, 2, 0):  # without overlap: a reshape, which has the fastest derivative
        b, h, w, d = x.shape
        return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, d).max((2, 4))
    padded = jnp.pad(x, ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)), constant_values=-jnp.inf)
    height, width = ((n - window) // stride * stride + 1 for n in padded.shape[1:3])
    shifts = [padded[:, i : i + height : stride, j : j + width : stride] for i in range(window) for j in range(window)]
    result = shifts[0]
    for shift in shifts[1:]:
        result = jnp.maximum(result, shift)
    return result


def average_pool_to(x: Array, size: int) -> Array:
    """Average over windows that cover the image, [B, size, size, D].

    Window i reaches from floor(i H / size) to ceil((i + 1) H / size), so that any image is taken.
    """
    rows, columns = (_averaging(n, size) for n in x.shape[1:3])
    return jnp.einsum("ih,jw,bhwd->bijd", rows, columns, x)


def _averaging(n: int, size: int) -> np.ndarray[Any, Any]:
    matrix = np.zeros((size, n), np.float32)
    for i in range(size):
        first, last = i * n // size, -(-(i + 1) * n // size)
        matrix[i, first:last] = 1 / (last - first)
    return matrix


def check_image(model: str, sample: Array | np.ndarray, *, minimum: int) -> tuple[int, int, int]:
    """The height, width and channels of an image.

    Raises:
      UserError: The sample is not an image, or is too small a one.
    """
    shape = np.shape(sample)
    if len(shape) != 3 or min(shape[:2]) < minimum:
        raise UserError(
            f"model.name: {model} takes images [H, W, channels] of at least {minimum} pixels a side, "
            f"not inputs of shape {list(shape)}; use mlp"
        )
    return shape[0], shape[1], shape[2]


def scaled(channels: int, width: float) -> int:
    """A number of channels times the width multiplier, at least one."""
    return max(1, round(channels * width))
