"""The first pass: link the axes of all arrays of a program."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxprune.coupling.dimensions import Dimension, Dimensions, Leaf, leaves_of
from jaxprune.coupling.rule import (
    LinkedEquation,
    LinkedProgram,
    Passes,
    Source,
    Value,
    constant_of,
    name_of,
    whole_array,
)
from jaxprune.coupling.rules.every import rule_of
from jaxprune.programs import evaluate_program

_PRODUCTS = ("dot_general", "conv_general_dilated", "jaxprune_convolution")
CONSTANT = "the function holds the array itself: give it as a parameter"


class Use(NamedTuple):
    """A use of a parameter's axis by a product.

    Attributes:
      path: Of the parameter.
      axis: The axis; None where it is not known after a reshape.
      dimension: The dimension of the axis.
      role: "out" for an axis of outputs, "in" for one that is summed over.
    """

    path: str
    axis: int | None
    dimension: Dimension
    role: Literal["in", "out"]


@dataclass
class Linker:
    """Links programs, and notes what is needed to name what it finds.

    Attributes:
      uses: Of parameters by products, in the order of the program.
      heads: Dimensions that products of two activations keep apart.
      derivatives: The order up to which derivatives that functions have of their own are linked as well. Products of
        the Hessian need the second; higher ones would never end where the derivative of a function calls it.
    """

    uses: list[Use] = field(default_factory=list)
    heads: list[Dimension] = field(default_factory=list)
    derivatives: int = 2

    def program(self, jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Value]) -> LinkedProgram:
        """Link a program whose inputs have these dimensions."""
        of_constants = tuple(map(_of_constant, constants))
        linked = LinkedProgram(jaxpr, constants, of_constants, tuple(value.dimensions for value in inputs))

        def step(equation: Any, values: list[Value]) -> list[Value]:
            return self._equation(linked, equation, values)

        def plain(array: Any) -> Value:
            return array if isinstance(array, Value) else Value(_of_constant(array))

        held = [Value(dimensions) for dimensions in of_constants]
        outputs = evaluate_program(jaxpr, held, list(inputs), step=step, plain=plain)
        linked.outputs = tuple(value.dimensions for value in outputs)
        return linked

    def _passes(self) -> Passes:
        derivative = Linker(derivatives=self.derivatives - 1).program if self.derivatives else None
        return Passes(link=self.program, link_derivative=derivative)

    def _equation(self, program: LinkedProgram, equation: Any, values: list[Value]) -> list[Value]:
        rule = rule_of(name_of(equation))
        inputs = tuple(value.dimensions for value in values)
        dimensions, programs = rule.link(equation, values, self._passes())
        program.equations.append(LinkedEquation(equation, rule, inputs, tuple(dimensions), programs))
        self._note(equation, values)
        source = values[0].source if values and rule.moves is not None else None
        if source is not None and rule.moves is not None:
            source = Source(source.path, rule.moves(equation, source.axes))
        return [Value(tuple(dims), source if len(dimensions) == 1 else None) for dims in dimensions]

    def _note(self, equation: Any, values: list[Value]) -> None:
        name = name_of(equation)
        if name == "gather" and values[0].source is not None:
            numbers = equation.params["dimension_numbers"]
            gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
            self._note_uses(values[0], [axis for axis in range(len(values[0].dimensions)) if axis not in gone], "out")
        if name not in _PRODUCTS:
            return
        sourced = [side for side in (0, 1) if values[side].source is not None]
        summed, together = _axes_of_product(equation)
        if not sourced:
            self.heads += [values[0].dimensions[axis] for axis in together[0]]
        for side in sourced:
            dimensions = values[side].dimensions
            # Of two parameters, the first makes what the second sums over: `x @ (u @ v)` is `(x @ u) @ v`.
            self._note_uses(values[side], summed[side], "out" if side < len(sourced) - 1 else "in")
            rest = [axis for axis in range(len(dimensions)) if axis not in (*summed[side], *together[side])]
            self._note_uses(values[side], rest, "out")

    def _note_uses(self, value: Value, axes: Sequence[int], role: Literal["in", "out"]) -> None:
        assert value.source is not None
        for axis in axes:
            self.uses.append(Use(value.source.path, value.source.axes[axis], value.dimensions[axis], role))


def _of_constant(array: Any) -> Dimensions:
    shape = np.shape(array)
    return whole_array(shape, CONSTANT) if constant_of(array) is None else tuple(map(Leaf, shape))


def _axes_of_product(equation: Any) -> tuple[tuple[Sequence[int], Sequence[int]], tuple[Sequence[int], Sequence[int]]]:
    """Axes summed over and axes kept apart, of both operands."""
    if name_of(equation) == "dot_general":
        summed, together = equation.params["dimension_numbers"]
        return summed, together
    if name_of(equation) == "jaxprune_convolution":
        return ((2, 3, 4), (1, 2, 3)), ((0,), (0,))
    numbers = equation.params["dimension_numbers"]
    return (numbers.lhs_spec[1:], numbers.rhs_spec[1:]), ((), ())


def work_of(program: LinkedProgram) -> list[tuple[float, Sequence[Dimension]]]:
    """The terms of the FLOPs of all products of a program."""
    terms: list[tuple[float, Sequence[Dimension]]] = []
    for linked in program.equations:
        if linked.rule.work is not None:
            terms.append(linked.rule.work(linked))
        programs, times = linked.programs, 1.0
        name = name_of(linked.equation)
        if name == "cond":
            programs = programs[-1:]  # of several ways to compute the same, the last is for any platform
        elif name in ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"):
            programs = programs[:1]
        elif name == "scan":
            times = float(linked.equation.params["length"])
        terms += [(times * factor, dimensions) for inner in programs for factor, dimensions in work_of(inner)]
    return terms


def random_dimensions(program: LinkedProgram) -> list[Dimension]:
    """The dimensions of all random numbers that a program draws."""
    found: list[Dimension] = []
    for linked in program.equations:
        if name_of(linked.equation) == "random_bits":
            found += linked.outputs[0]
        for inner in linked.programs:
            found += random_dimensions(inner)
    return found


def is_touched(linked: LinkedEquation, is_cut: Any) -> bool:
    """True if a dimension of an input or output is cut."""
    every = (dimension for dimensions in (*linked.inputs, *linked.outputs) for dimension in dimensions)
    return any(is_cut(leaf) for dimension in every for leaf in leaves_of(dimension))
