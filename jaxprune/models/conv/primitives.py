"""The convolution and its two transposes as primitives.

XLA rewrites convolutions into its fast kernels only outside of loops on a CPU (jax-ml/jax#12868), so the derivative of
a convolution, which is one of an unusual layout, is up to forty times slower in the body of a `lax.scan` than outside.
And a convolution whose kernel is mapped over (replicas under `vmap`) becomes a grouped one, which is slow as well.

Convolution is linear in the image and in the kernel. It and its two transposes are closed under differentiation: the
derivatives of each are the other two. So they are three primitives here, each written in a form that needs no
rewriting, and every derivative, forward or reverse and of any order, is again made of the three:

    y = convolution(x, k)      x' = image_transpose(y', k)      k' = kernel_transpose(x, y')

All three take and give arrays with a leading axis R, over which both operands are mapped: `vmap` ends there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxprune.models.conv import forms
from jaxprune.models.conv.forms import Geometry, matmul_precision
from jaxprune.types import Array


def convolve(x: Array, kernel: Array, *, stride: int = 1, padding: int = 0) -> jax.Array:
    """A convolution (cross-correlation, as in every deep learning library) with zero padding.

    Args:
      x: [B, H, W, D].
      kernel: [height, width, D, E].
      stride: Pixels from one window to the next.
      padding: Rows and columns of zeros on each side.

    Returns:
      [B, (H + 2 padding - height) // stride + 1, (W + 2 padding - width) // stride + 1, E].
    """
    wide = jnp.result_type(x, kernel)
    image, window = (x.shape[1], x.shape[2]), (kernel.shape[0], kernel.shape[1])
    geometry = Geometry(image=image, window=window, stride=stride, padding=padding)
    operands = (jnp.asarray(operand, wide)[None] for operand in (x, kernel))
    return _convolution.bind(*operands, geometry=geometry, precision=matmul_precision())[0]


class _Operand(NamedTuple):
    """The place of an axis mapped over one operand alone.

    Attributes:
      merged: The axis of the operand that it is merged into.
      result: The axis of the result in which it appears.
    """

    merged: int
    result: int


def _define(name: str, form: forms.Forms, *operands: _Operand) -> Primitive:
    """Define a bilinear primitive with its lowerings and batching rule."""
    primitive = Primitive(f"jaxprune_{name}")
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=("geometry", "precision")))

    def abstract(a: Any, b: Any, *, geometry: Geometry, precision: Any) -> Any:
        return ShapedArray(form.shape(a.shape, b.shape, geometry), a.dtype)

    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(form.default, multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(form.cpu, multiple_results=False), platform="cpu")

    def batch(arrays: tuple[Array, Array], axes: tuple[int | None, int | None], **params: Any) -> tuple[Array, int]:
        mapped = [i for i, axis in enumerate(axes) if axis is not None]
        if len(mapped) == 2:
            moved = [jnp.moveaxis(a, axis or 0, 0) for a, axis in zip(arrays, axes, strict=True)]
            n = moved[0].shape[0]
            result = primitive.bind(*(a.reshape(-1, *a.shape[2:]) for a in moved), **params)
            return result.reshape(n, -1, *result.shape[1:]), 0
        which = mapped[0]
        array, axis, operand = arrays[which], axes[which], operands[which]
        assert axis is not None
        n = array.shape[axis]
        moved = jnp.moveaxis(array, axis, operand.merged)
        shape = moved.shape
        merged = moved.reshape(*shape[: operand.merged], -1, *shape[operand.merged + 2 :])
        result = primitive.bind(*((merged, arrays[1]) if which == 0 else (arrays[0], merged)), **params)
        at = operand.result
        return result.reshape(*result.shape[:at], n, -1, *result.shape[at + 1 :]), at

    batching.primitive_batchers[primitive] = batch
    return primitive


# Axes: image [R, B, H, W, D], kernel [R, height, width, D, E], result [R, B, H', W', E].
_convolution = _define("convolution", forms.CONVOLUTION, _Operand(1, 1), _Operand(4, 4))
_image_transpose = _define("image_transpose", forms.IMAGE_TRANSPOSE, _Operand(1, 1), _Operand(3, 4))
_kernel_transpose = _define("kernel_transpose", forms.KERNEL_TRANSPOSE, _Operand(4, 3), _Operand(4, 4))


def _transposes(primitive: Primitive, left: Callable[..., Array], right: Callable[..., Array]) -> None:
    """Declare a primitive bilinear, with its transposes in both operands."""
    ad.defbilinear(
        primitive,
        lambda cotangent, _, b, **params: left(cotangent, b, **params),
        lambda cotangent, a, _, **params: right(cotangent, a, **params),
    )


_transposes(
    _convolution,
    lambda y, k, **params: _image_transpose.bind(y, k, **params),
    lambda y, x, **params: _kernel_transpose.bind(x, y, **params),
)
_transposes(
    _image_transpose,
    lambda x, k, **params: _convolution.bind(x, k, **params),
    lambda x, y, **params: _kernel_transpose.bind(x, y, **params),
)
_transposes(
    _kernel_transpose,
    lambda k, y, **params: _image_transpose.bind(y, k, **params),
    lambda k, x, **params: _convolution.bind(x, k, **params),
)
