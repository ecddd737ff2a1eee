"""The products of a network with its kernels, found in its program.

The program of one example is walked. Where a parameter (reshaped or transposed at most) is one side of a matrix product
or the kernel of a convolution, the other side is the input of that layer. Calls, `jit`, `remat` and functions with
derivatives of their own are entered, and so is a choice by the platform; the bodies of `scan`, `while` and `cond` are
not.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from jaxprune.compat import called_program, evaluate_equation, program_and_constants
from jaxprune.networks import as_pytree
from jaxprune.programs import evaluate_program
from jaxprune.pruning.input_windows import Windows
from jaxprune.pruning.kernel_views import Atom, Axes, Kernel, kernel_of, reshaped, whole
from jaxprune.trees import named_leaves
from jaxprune.types import Apply, Array, Params

_ALIKE = ("convert_element_type", "copy", "copy_p", "stop_gradient", "reduce_precision", "sharding_constraint")
_CONVOLUTION = "jaxprune_convolution"  # of models.conv: [1, B, H, W, D] and [1, height, width, D, E]

_View = tuple[int, Axes]  # the parameter that a value is, and its atoms
_Reader = Callable[[Array], Array]


class _Reading(NamedTuple):
    """How the input of a product is read as rows.

    Attributes:
      axes: The view of the parameter, cut where a grouped convolution needs it.
      batched: The atoms of the K products.
      reduced: The atoms of the inputs, in the order of the columns.
      rows: `input -> [K, T, d]`.
      squares: `input -> [K, d]`.
    """

    axes: Axes
    batched: tuple[Atom, ...]
    reduced: tuple[Atom, ...]
    rows: _Reader
    squares: _Reader


class Product(NamedTuple):
    """A product with a kernel.

    Attributes:
      kernel: The kernel.
      order: The atoms of its inputs in the order of the columns that the two functions give.
      rows: `input -> [K, T, d]`, the input as rows.
      squares: `input -> [K, d]`, the sums of the squares of the rows.
      num_rows: T, the rows that one example gives.
    """

    kernel: Kernel
    order: tuple[Atom, ...]
    rows: Callable[[Array], Array]
    squares: Callable[[Array], Array]
    num_rows: int

    def sort(self, values: Array) -> Array:
        """Bring columns [..., d] into the kernel's own order."""
        own, lead = [self.kernel.atoms[i] for i in self.kernel.reduced], values.ndim - 1
        parts = values.reshape(*values.shape[:-1], *(atom.size for atom in self.order))
        order = [*range(lead), *(lead + self.order.index(atom) for atom in own)]
        return jnp.transpose(parts, order).reshape(values.shape)


@dataclass(frozen=True)
class Program:
    """The program of a network for one example.

    Attributes:
      traced: The program, of the leaves of the parameters, of `frozen` and of x [1, ...].
      paths: Of the leaves.
      frozen: The leaves that the network holds itself, such as its statistics.
    """

    traced: ClosedJaxpr
    paths: tuple[str, ...]
    frozen: tuple[Any, ...]

    def products(self) -> list[Product]:
        """All products with kernels, in the order of the program."""
        result: list[Product] = []
        inputs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in self.traced.jaxpr.invars]

        def walk(*values: Any) -> None:
            result.extend(product for product, _ in self._run(values))

        jax.eval_shape(walk, *inputs)
        return result

    def inputs(self, params: Params, x: Array) -> list[tuple[Product, Array]]:
        """The products with their inputs, for one example x [...]."""
        return self._run([*jax.tree.leaves(params), *self.frozen, x[None]])

    def _run(self, values: Sequence[Any]) -> list[tuple[Product, Array]]:
        shapes = [tuple(np.shape(leaf)) for leaf in values[: len(self.paths)]]
        walk = _Walk(list(zip(self.paths, shapes, strict=True)))
        views = [(i, whole(shape)) for i, shape in enumerate(shapes)]
        walk.run(self.traced.jaxpr, self.traced.consts, values, [*views, *[None] * (len(values) - len(views))])
        # A parameter that products use by different axes has no inputs of its own.
        of_leaf: dict[int, set[Kernel]] = {}
        for product, _ in walk.uses:
            of_leaf.setdefault(product.kernel.index, set()).add(product.kernel)
        return [(product, x) for product, x in walk.uses if len(of_leaf[product.kernel.index]) == 1]


def program_of(apply: Apply, params: Params, x: Any) -> Program:
    """Trace the program of one example.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters, or their shapes.
      x: [B, ...] inputs, or their shape and type.
    """
    treedef = jax.tree.structure(params)
    paths, leaves = zip(*named_leaves(params), strict=True)
    frozen, rest = jax.tree.flatten(as_pytree(apply))
    one = jax.ShapeDtypeStruct((1, *np.shape(x)[1:]), jax.dtypes.canonicalize_dtype(x.dtype))

    def of_one(leaves: Sequence[Any], frozen: Sequence[Any], x: Array) -> Array:
        return jax.tree.unflatten(rest, frozen)(jax.tree.unflatten(treedef, leaves), x)

    return Program(jax.make_jaxpr(of_one)(leaves, frozen, one), paths, tuple(frozen))


@dataclass
class _Walk:
    """One evaluation of a program, which notes products with kernels."""

    leaves: Sequence[tuple[str, tuple[int, ...]]]  # the path and the shape of each
    uses: list[tuple[Product, Any]] = field(default_factory=list)

    def run(self, jaxpr: Any, constants: Sequence[Any], values: Sequence[Any], views: Sequence[_View | None]) -> list:
        """Evaluate a program on values and their views."""
        inputs = zip(values, views, strict=True)
        return evaluate_program(jaxpr, constants, list(inputs), step=self.step, plain=lambda value: (value, None))

    def step(self, equation: Any, inputs: list[tuple[Any, _View | None]]) -> list[tuple[Any, _View | None]]:
        """Evaluate one equation."""
        values, views = [value for value, _ in inputs], [view for _, view in inputs]
        if (called := called_program(equation)) is not None:
            return self.run(*called, values, views)
        results = evaluate_equation(equation, values)
        if equation.params.get("branches_platforms"):
            # One of several ways to compute the same: the last one, which is for any platform, is read, and not used.
            self.run(*program_and_constants(equation.params["branches"][-1]), values[1:], views[1:])
            return [(result, None) for result in results]
        sides = [side for side, view in enumerate(views) if view is not None]
        if len(sides) != 1:
            return [(result, None) for result in results]
        view = views[sides[0]]
        assert view is not None
        leaf, axes = view
        reading = _product(equation, sides[0], axes)
        if reading is not None:
            path, shape = self.leaves[leaf]
            kernel = kernel_of(path, leaf, shape, reading.batched, reading.reduced, reading.axes)
            if kernel is not None:
                operand = values[1 - sides[0]]
                count = jax.eval_shape(reading.rows, operand).shape[1]
                self.uses.append((Product(kernel, reading.reduced, reading.rows, reading.squares, count), operand))
            return [(results[0], None)]
        following = _following(equation, axes)
        return [(result, None if following is None else (leaf, following)) for result in results]


def _following(equation: Any, axes: Axes) -> Axes | None:
    """The view after an equation that reorders at most; else None."""
    name, parameters, result = equation.primitive.name, equation.params, equation.outvars[0].aval
    if name in _ALIKE:
        return axes
    if name == "transpose":
        return tuple(axes[i] for i in parameters["permutation"])
    if name == "squeeze":
        return tuple(axis for i, axis in enumerate(axes) if i not in parameters["dimensions"])
    if name == "broadcast_in_dim" and result.size == equation.invars[0].aval.size:
        places = dict(zip(map(int, parameters["broadcast_dimensions"]), axes, strict=True))
        return tuple(places.get(i, ()) for i in range(len(result.shape)))
    if name in ("reshape", "expand_dims") and parameters.get("dimensions") is None:
        return reshaped(axes, result.shape)
    return None


def _product(equation: Any, side: int, axes: Axes) -> _Reading | None:
    """The reading of an equation that is a product with a kernel."""
    name = equation.primitive.name
    if name == "dot_general":
        return _matrix_product(equation, side, axes)
    if side != 1:
        return None
    if name == _CONVOLUTION and equation.invars[1].aval.shape[0] == 1:
        geometry = equation.params["geometry"]
        padding = ((geometry.padding, geometry.padding),) * 2
        windows = Windows(geometry.window, (geometry.stride,) * 2, padding, (1, 1), (1, 1), 1)
        return _Reading(axes, (), _joined(axes[1:4]), lambda x: windows.rows(x[0]), lambda x: windows.squares(x[0]))
    if name == "conv_general_dilated" and equation.params["batch_group_count"] == 1:
        return _convolution(equation, axes)
    return None


def _matrix_product(equation: Any, side: int, axes: Axes) -> _Reading:
    summed, together = equation.params["dimension_numbers"]
    batched, reduced = (_joined(axes[i] for i in part[side]) for part in (together, summed))
    first, last = tuple(together[1 - side]), tuple(summed[1 - side])

    def rows(x: Array) -> Array:
        free = [i for i in range(x.ndim) if i not in (*first, *last)]
        sizes = [math.prod(x.shape[i] for i in part) for part in (first, free, last)]
        return jnp.transpose(x, [*first, *free, *last]).reshape(sizes)

    return _Reading(axes, batched, reduced, rows, lambda x: jnp.sum(rows(x) ** 2, 1))


def _convolution(equation: Any, axes: Axes) -> _Reading | None:
    parameters = equation.params
    image, kernel = parameters["dimension_numbers"].lhs_spec, parameters["dimension_numbers"].rhs_spec
    groups, outputs = parameters["feature_group_count"], equation.invars[1].aval.shape[kernel[0]]
    # The outputs of one group are consecutive, so that the group is the slower part of their axis.
    cut = reshaped([axes[kernel[0]]], (groups, outputs // groups))
    if cut is None:
        return None
    axes = tuple(cut[0] + cut[1] if i == kernel[0] else axis for i, axis in enumerate(axes))
    windows = Windows(
        tuple(equation.invars[1].aval.shape[i] for i in kernel[2:]),
        parameters["window_strides"],
        parameters["padding"],
        parameters["lhs_dilation"],
        parameters["rhs_dilation"],
        groups,
    )
    order = (image[0], *image[2:], image[1])
    batched = cut[0] if groups > 1 else ()
    reduced = _joined(axes[i] for i in (*kernel[2:], kernel[1]))
    rows, squares = (lambda x, read=read: read(jnp.transpose(x, order)) for read in (windows.rows, windows.squares))
    return _Reading(axes, batched, reduced, rows, squares)


def _joined(axes: Iterable[tuple[Atom, ...]]) -> tuple[Atom, ...]:
    return tuple(atom for axis in axes for atom in axis)
