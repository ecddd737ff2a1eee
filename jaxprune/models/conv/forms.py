"""The computation of each convolution, by platform and shape.

The choices were measured (docs/speed.md).

GPU and TPU take the compiler's own convolution. On a CPU a window of one pixel is a matrix product, and all else goes
by the convolution in C++ (`native`), where that could be built, in float32 and on one device. Otherwise windows of 3x3
over many channels go by Winograd's F(2x2, 3x3), which multiplies 2.25 times less, in chunks of bounded memory.
"""

import functools
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxprune.models.conv import native, winograd

Shape = tuple[int, ...]
_Form = Callable[..., Array]  # (left, right, geometry, precision) -> result, without the leading axis R
_LAYOUT = ("NHWC", "HWIO", "NHWC")


_plain: ContextVar[bool] = ContextVar("plain convolutions", default=False)


@contextmanager
def plain_convolutions() -> Iterator[None]:
    """Lower convolutions for a CPU as XLA's own in this block.

    Such programs run on machines without the native code, as those of `jax.export` may, and XLA knows their cost. What
    was lowered before stays as it is, so lower a new function.
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def matmul_precision() -> Any:
    """The `jax.default_matmul_precision` in effect while this is traced."""
    return jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]


class Geometry(NamedTuple):
    """The geometry of a convolution: how height and width change.

    Attributes:
      image: (H, W) of the image.
      window: (height, width) of the kernel.
      stride: Pixels from one window to the next.
      padding: Rows and columns of zeros on each side.
    """

    image: tuple[int, int]
    window: tuple[int, int]
    stride: int
    padding: int

    @property
    def out(self) -> tuple[int, int]:
        """(H', W') of the result."""
        height, width = (
            (n + 2 * self.padding - w) // self.stride + 1 for n, w in zip(self.image, self.window, strict=True)
        )
        return height, width

    @property
    def rest(self) -> tuple[int, int]:
        """Rows and columns that no window reaches, less the padding.

        They lie between the end of the last window and that of the padded image.
        """
        height, width = (
            n + self.padding - w - (m - 1) * self.stride
            for n, w, m in zip(self.image, self.window, self.out, strict=True)
        )
        return height, width

    @property
    def pointwise(self) -> bool:
        """True for a matrix product at every pixel, or every `stride`-th."""
        return self.window == (1, 1) and self.padding == 0

    @property
    def even(self) -> bool:
        """True for a 3x3 window that keeps an even image's size."""
        same = (self.window, self.stride, self.padding) == ((3, 3), 1, 1)
        return same and self.image[0] % 2 == 0 and self.image[1] % 2 == 0


class Forms(NamedTuple):
    """The computation of one of the three convolutions.

    Attributes:
      shape: The shape of the result, from those of the operands and the geometry.
      cpu: The computation for a CPU, `(left, right, *, geometry, precision) -> result`.
      default: The one for every other platform.
    """

    shape: Callable[[Shape, Shape, Geometry], Shape]
    cpu: Callable[..., Array]
    default: Callable[..., Array]


def _convolution(x: Array, kernel: Array, g: Geometry, precision: Any) -> Array:
    """[B, H, W, D], [height, width, D, E] -> [B, H', W', E]."""
    return lax.conv_general_dilated(
        x, kernel, (g.stride,) * 2, [(g.padding, g.padding)] * 2, dimension_numbers=_LAYOUT, precision=precision
    )


def _image_transpose(y: Array, kernel: Array, g: Geometry, precision: Any) -> Array:
    """[B, H', W', E], [height, width, D, E] -> [B, H, W, D]."""
    return lax.conv_general_dilated(
        y,
        _flipped(kernel),
        (1, 1),
        [(w - 1 - g.padding, w - 1 + rest) for w, rest in zip(g.window, g.rest, strict=True)],
        lhs_dilation=(g.stride,) * 2,
        dimension_numbers=_LAYOUT,
        precision=precision,
    )


def _kernel_transpose(x: Array, y: Array, g: Geometry, precision: Any) -> Array:
    """[B, H, W, D], [B, H', W', E] -> [height, width, D, E]."""
    result = lax.conv_general_dilated(
        jnp.transpose(x, (3, 1, 2, 0)),
        jnp.transpose(y, (1, 2, 0, 3)),
        (1, 1),
        [(g.padding, -rest) for rest in g.rest],
        rhs_dilation=(g.stride,) * 2,
        dimension_numbers=_LAYOUT,
        precision=precision,
    )
    return jnp.transpose(result, (1, 2, 0, 3))


def _flipped(kernel: Array) -> Array:
    """[height, width, D, E] -> [height, width, E, D], turned by half a circle."""
    return jnp.transpose(kernel[::-1, ::-1], (0, 1, 3, 2))


def _cpu_convolution(x: Array, kernel: Array, g: Geometry, precision: Any) -> Array:
    if g.pointwise:
        return x[:, :: g.stride, :: g.stride] @ kernel[0, 0]
    if g.even and winograd.pays(*kernel.shape[2:]):
        return winograd.convolution(x, kernel)
    if g.stride > 1 and kernel.shape[2] >= 16:
        return _rows_of_patches(x, kernel, g)
    return _convolution(x, kernel, g, precision)


def _cpu_image_transpose(y: Array, kernel: Array, g: Geometry, precision: Any) -> Array:
    if g.pointwise:
        spread = [(0, rest, g.stride - 1) for rest in g.rest]
        return lax.pad(y @ kernel[0, 0].T, jnp.zeros((), y.dtype), [(0, 0, 0), *spread, (0, 0, 0)])
    if g.even and winograd.pays(*kernel.shape[2:]):
        return winograd.image_transpose(y, kernel)
    return _image_transpose(y, kernel, g, precision)


def _cpu_kernel_transpose(x: Array, y: Array, g: Geometry, precision: Any) -> Array:
    if g.even and winograd.pays(x.shape[3], y.shape[3]):
        return winograd.kernel_transpose(x, y)
    if g.stride > 1 or g.pointwise:
        return _products_of_shifts(x, y, g)
    return _kernel_transpose(x, y, g, precision)


def shifts(x: Array, g: Geometry) -> list[Array]:
    """Slice the padded image under each pixel of the window.

    Each slice is [..., H', W', D].

    The pixels of the window are in the order of the kernel, row by row.
    """
    padded = jnp.pad(x, [(0, 0)] * (x.ndim - 3) + [(g.padding,) * 2] * 2 + [(0, 0)])
    (height, width), s = g.out, g.stride
    return [
        padded[..., i : i + (height - 1) * s + 1 : s, j : j + (width - 1) * s + 1 : s, :]
        for i in range(g.window[0])
        for j in range(g.window[1])
    ]


def _products_of_shifts(x: Array, y: Array, g: Geometry) -> Array:
    rows = y.reshape(-1, y.shape[-1])
    products = [shift.reshape(-1, x.shape[-1]).T @ rows for shift in shifts(x, g)]
    return jnp.stack(products).reshape(*g.window, x.shape[-1], -1)


def _rows_of_patches(x: Array, kernel: Array, g: Geometry) -> Array:
    """The convolution by one product for each row of the window.

    So only one row of the patches is copied at a time.
    """
    parts, width = shifts(x, g), g.window[1]
    rows = (jnp.concatenate(parts[i * width : (i + 1) * width], -1) for i in range(g.window[0]))
    products = (row @ k.reshape(-1, k.shape[-1]) for row, k in zip(rows, kernel, strict=True))
    return functools.reduce(operator.add, products)


def patches(x: Array, g: Geometry) -> Array:
    """The padded image under every window, [..., H', W', height width D]."""
    return jnp.concatenate(shifts(x, g), -1)


def _patches_convolution(x: Array, kernel: Array, g: Geometry, precision: Any) -> Array:
    return patches(x, g) @ kernel.reshape(-1, kernel.shape[-1])


def _patches_image_transpose(y: Array, kernel: Array, g: Geometry, precision: Any) -> Array:
    # Spread by the stride and framed by zeros, the results are the image of a convolution without either.
    frame = [(w - 1 - g.padding, w - 1 + rest, g.stride - 1) for w, rest in zip(g.window, g.rest, strict=True)]
    spread = lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *frame, (0, 0, 0)])
    within = Geometry((spread.shape[1], spread.shape[2]), g.window, 1, 0)
    return _patches_convolution(spread, _flipped(kernel), within, precision)


def _patches_kernel_transpose(x: Array, y: Array, g: Geometry, precision: Any) -> Array:
    result = jnp.einsum("bhwp,bhwe->pe", patches(x, g), y, precision=precision)
    return result.reshape(*g.window, x.shape[-1], -1)


def _mapped(form: _Form) -> Callable[..., Array]:
    """A form over the leading axis R of both operands."""

    def run(a: Array, b: Array, *, geometry: Geometry, precision: Any) -> Array:
        if a.shape[0] == 1:
            return form(a[0], b[0], geometry, precision)[None]
        return jax.vmap(lambda a, b: form(a, b, geometry, precision))(a, b)

    return run


def _mapped_on_cpu(name: str, form: _Form, general: _Form, by_patches: _Form) -> Callable[..., Array]:
    """A form over the leading axis R of both operands, for a CPU.

    Few large convolutions go one after the other, many small ones (such as one for each example) as patches.
    """

    def run(a: Array, b: Array, *, geometry: Geometry, precision: Any) -> Array:
        if _plain.get():  # read anew by each lowering, which JAX keeps for no other program
            return _mapped(general)(a, b, geometry=geometry, precision=precision)
        if jax.device_count("cpu") > 1:  # a loop over an axis that lies along devices would move it at every turn
            return _mapped(general if a.shape[0] == 1 else by_patches)(a, b, geometry=geometry, precision=precision)
        if a.dtype == jnp.float32 and a.size and b.size and not geometry.pointwise and native.available():
            shape = _SHAPES[name](a.shape, b.shape, geometry)
            return native.call(name, shape, a, b, stride=geometry.stride, padding=geometry.padding)
        if a.shape[0] == 1:
            # Without it XLA fuses the operands' own computation into every part that reads them, and repeats it.
            a, b = lax.optimization_barrier((a, b))
            return form(a[0], b[0], geometry, precision)[None]
        if a.shape[0] > a.shape[1]:
            return _mapped(by_patches)(a, b, geometry=geometry, precision=precision)
        return lax.map(lambda one: form(*one, geometry, precision), (a, b))

    return run


def in_native_code() -> bool:
    """Return True if float32 convolutions use the C++ library.

    Its results differ from those of XLA's forms in the last bits.
    """
    return jax.default_backend() == "cpu" and jax.device_count("cpu") == 1 and native.available()


# Axes: image [R, B, H, W, D], kernel [R, height, width, D, E], result [R, B, H', W', E].
_SHAPES: dict[str, Callable[[Shape, Shape, Geometry], Shape]] = {
    "convolution": lambda x, k, g: (*x[:2], *g.out, k[4]),
    "image_transpose": lambda y, k, g: (*y[:2], *g.image, k[3]),
    "kernel_transpose": lambda x, y, g: (x[0], *g.window, x[4], y[4]),
}


def _forms(name: str, cpu: _Form, general: _Form, by_patches: _Form) -> Forms:
    return Forms(shape=_SHAPES[name], cpu=_mapped_on_cpu(name, cpu, general, by_patches), default=_mapped(general))


CONVOLUTION = _forms("convolution", _cpu_convolution, _convolution, _patches_convolution)
IMAGE_TRANSPOSE = _forms("image_transpose", _cpu_image_transpose, _image_transpose, _patches_image_transpose)
KERNEL_TRANSPOSE = _forms("kernel_transpose", _cpu_kernel_transpose, _kernel_transpose, _patches_kernel_transpose)
