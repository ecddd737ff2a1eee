"""Products of a network with its parameters, found in its program.

The network may so be written in any library.

The program of one example is walked. Where a parameter (reshaped or transposed at most) is one side of a matrix product
or the kernel of a convolution, and used nowhere else, a zero is added to the result: a tap. The derivative with respect
to the tap and the other side of the product give the norm of the parameter's gradient without forming it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from jaxprune.compat import called_program, evaluate_equation
from jaxprune.programs import evaluate_program
from jaxprune.types import Array

_INLINED = ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint")
_ALIKE = ("reshape", "transpose", "squeeze", "expand_dims", "copy", "copy_p", "convert_element_type", "rev")
_CONVOLUTION = "jaxprune_convolution"  # of models.convolution, which has no other trace of itself here
_PRODUCTS = ("dot_general", "conv_general_dilated", _CONVOLUTION)


class Product(NamedTuple):
    """A product with a parameter.

    Attributes:
      equation: Its equation, a matrix product or a convolution.
      leaf: The index of the parameter.
      side: Which operand the parameter is.
      shape: Of the result.
      dtype: Of the result.
    """

    equation: Any
    leaf: int
    side: int
    shape: tuple[int, ...]
    dtype: Any


@dataclass
class _Walk:
    """One evaluation of a program, which adds taps to products.

    `taps` holds the taps by the number of the product, in the order of the program.
    """

    taps: dict[int, Array]
    products: list[Product] = field(default_factory=list)
    operands: dict[int, Array] = field(default_factory=dict)  # the other side of each tapped product
    uses: dict[int, list[int | None]] = field(default_factory=dict)  # leaf -> its products; None for another use

    def run(self, jaxpr: Any, constants: Sequence[Any], values: Sequence[Any], views: Sequence[int | None]) -> list:
        """Evaluate a program.

        Each value comes with its view: the leaf that it is a reshaped form of, or None.
        """
        # A view is the whole parameter, reordered at most: only then are the norms of both gradients the same.
        inputs = list(zip(values, views, strict=True))
        results = evaluate_program(jaxpr, constants, inputs, step=self.step, plain=lambda value: (value, None))
        self._used(view for _, view in results)  # a parameter that is a result has a gradient beside that of a product
        return results

    def step(self, equation: Any, inputs: list[tuple[Any, int | None]]) -> list[tuple[Any, int | None]]:
        """Evaluate one equation."""
        name = equation.primitive.name
        values, views = [value for value, _ in inputs], [view for _, view in inputs]
        inner = called_program(equation)
        if name in _INLINED and inner is not None:
            return self.run(*inner, values, views)
        results = evaluate_equation(equation, values)
        leaves = [view for view in views if view is not None]
        if len(leaves) == 1 and (name in _ALIKE or _is_added_axis(equation)) and views[0] is not None:
            return [(results[0], views[0])]
        product = _product(equation, views)
        if product is None:
            self._used(leaves)  # by anything but a product: its gradient is formed
            return [(result, None) for result in results]
        number = len(self.products)
        self.products.append(product)
        self.uses.setdefault(product.leaf, []).append(number)
        if number in self.taps:
            # The tap is 0: it changes no value, and the derivative with respect to it is that in the result.
            self.operands[number] = values[1 - product.side]
            results = [results[0] + self.taps[number]]
        return [(results[0], None)]

    def _used(self, views: Any) -> None:
        for view in views:
            if view is not None:
                self.uses.setdefault(view, []).append(None)


def find_products(program: ClosedJaxpr, num_leaves: int) -> dict[int, Product]:
    """The products that can be tapped, by their number in the program.

    Args:
      program: Of the loss of one example, its first inputs being the leaves of the parameters.
      num_leaves: How many.

    Returns:
      Products of leaves that are used in that product alone.
    """
    products: dict[int, Product] = {}

    def walk(*values: Any) -> None:
        seen = _Walk({})
        seen.run(program.jaxpr, program.consts, values, _leaf_views(num_leaves, len(values)))
        # The gradient of a parameter that is used twice is a sum, whose norm is not that of either part.
        single = [used[0] for used in seen.uses.values() if len(used) == 1]
        products.update({number: seen.products[number] for number in single if number is not None})

    jax.eval_shape(walk, *(jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in program.jaxpr.invars))
    return products


def run_tapped(
    program: ClosedJaxpr, num_leaves: int, values: Sequence[Any], taps: dict[int, Array]
) -> tuple[Any, dict[int, Array]]:
    """The result with taps added, and the other side of tapped products."""
    walk = _Walk(taps)
    results = walk.run(program.jaxpr, program.consts, values, _leaf_views(num_leaves, len(values)))
    return results[0][0], walk.operands


def squared_norm(product: Product, operand: Array, slope: Array) -> Array:
    """The squared norm [] of one example's gradient in a product's parameter.

    With A [T, d] the other side and Δ [T, p] the derivative with respect to the result, the gradient is AᵀΔ. At one
    position its norm is ‖a‖‖δ‖; at several it is formed for this layer alone, or ⟨AAᵀ, ΔΔᵀ⟩ is, whichever takes fewer
    operations (Goodfellow, arXiv 1510.01799; Li et al., ICLR 2022, for several positions).
    """
    shapes = jax.eval_shape(partial(_as_rows, product), operand, slope)
    (positions, d), (_, p) = shapes[0].shape, shapes[1].shape

    def by_rows(operand: Array, slope: Array) -> Array:
        rows, slopes = _as_rows(product, operand, slope)
        if positions == 1:
            return jnp.sum(rows**2) * jnp.sum(slopes**2)
        if positions * (d + p) < d * p:  # ‖AᵀΔ‖² = tr(AAᵀ ΔΔᵀ): two T x T products are cheaper than one d x p
            return jnp.sum((rows @ rows.T) * (slopes @ slopes.T))
        return jnp.sum((rows.T @ slopes) ** 2)

    def by_transpose(operand: Array, slope: Array) -> Array:
        kernel = product.equation.invars[1].aval
        of_kernel = jax.linear_transpose(lambda k: evaluate_equation(product.equation, [operand, k])[0], kernel)
        return jnp.sum(of_kernel(slope)[0] ** 2)

    if product.equation.primitive.name != _CONVOLUTION or positions * (d + p) < d * p:
        return by_rows(operand, slope)
    # On a CPU there is a kernel for it, which copies no windows.
    return jax.lax.platform_dependent(operand, slope, cpu=by_transpose, default=by_rows)


def _leaf_views(num_leaves: int, count: int) -> list[int | None]:
    return [i if i < num_leaves else None for i in range(count)]


def _is_added_axis(equation: Any) -> bool:
    """Return True for a broadcast that only adds axes of length 1."""
    if equation.primitive.name != "broadcast_in_dim":
        return False
    return equation.invars[0].aval.size == equation.outvars[0].aval.size


def _product(equation: Any, views: list[int | None]) -> Product | None:
    """The equation as a product with one parameter, or None."""
    inner = _single(equation)
    name = inner.primitive.name
    sides = [side for side, view in enumerate(views[:2]) if view is not None]
    if name not in _PRODUCTS or len(sides) != 1 or any(view is not None for view in views[2:]):
        return None
    side, parameters = sides[0], inner.params
    if name == "dot_general" and any(parameters["dimension_numbers"][1]):
        return None  # a product for each of several positions: no plain matrix product
    grouped = name == "conv_general_dilated" and (
        side != 1 or parameters["feature_group_count"] != 1 or parameters["batch_group_count"] != 1
    )
    grouped = grouped or (name == _CONVOLUTION and (side != 1 or inner.invars[0].aval.shape[0] != 1))
    leaf, result = views[side], equation.outvars[0].aval
    return None if grouped or leaf is None else Product(inner, leaf, side, result.shape, result.dtype)


def _single(equation: Any) -> Any:
    """The equation inside a `custom_vjp` of one equation, or the equation itself."""
    if equation.primitive.name != "custom_vjp_call":
        return equation
    inner = equation.params["call_jaxpr"].jaxpr
    if len(inner.eqns) != 1 or list(inner.eqns[0].invars) != list(inner.invars):
        return equation
    return inner.eqns[0] if list(inner.eqns[0].outvars) == list(inner.outvars) else equation


def _as_rows(product: Product, operand: Array, slope: Array) -> tuple[Array, Array]:
    """The other side as [T, d], and the result's derivative as [T, p]."""
    parameters = product.equation.params
    if product.equation.primitive.name == _CONVOLUTION:  # [1, B, H, W, D], and [1, B, H', W', E]
        from jaxprune.models.conv.forms import patches  # here: only networks of ours need it, and it loads flax

        rows = patches(operand[0], parameters["geometry"])
        return rows.reshape(-1, rows.shape[-1]), slope.reshape(-1, slope.shape[-1])
    if product.equation.primitive.name == "conv_general_dilated":
        return _patches(product, operand), _channels_last(slope, parameters["dimension_numbers"].out_spec)
    summed = parameters["dimension_numbers"][0][1 - product.side]
    free = [axis for axis in range(operand.ndim) if axis not in summed]
    rows = jnp.transpose(operand, [*free, *summed]).reshape(-1, _size(operand, summed))
    if product.side == 1:  # the free axes of the left operand come first in the result
        return rows, slope.reshape(rows.shape[0], -1)
    return rows, slope.reshape(-1, rows.shape[0]).T


def _patches(product: Product, operand: Array) -> Array:
    parameters = product.equation.params
    numbers = parameters["dimension_numbers"]
    kernel = product.equation.invars[1].aval.shape
    patches = jax.lax.conv_general_dilated_patches(
        operand,
        filter_shape=[kernel[axis] for axis in numbers.rhs_spec[2:]],
        window_strides=parameters["window_strides"],
        padding=parameters["padding"],
        lhs_dilation=parameters["lhs_dilation"],
        rhs_dilation=parameters["rhs_dilation"],
        dimension_numbers=numbers,
        precision=jax.lax.Precision.HIGHEST,
    )
    return _channels_last(patches, numbers.out_spec)


def _channels_last(values: Array, spec: Sequence[int]) -> Array:
    return jnp.transpose(values, [spec[0], *spec[2:], spec[1]]).reshape(-1, values.shape[spec[1]])


def _size(array: Array, axes: Sequence[int]) -> int:
    size = 1
    for axis in axes:
        size *= array.shape[axis]
    return size
