"""The rule of an operation, and what the passes share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxprune.compat import evaluate_equation, place_of
from jaxprune.coupling.dimensions import Dimension, Dimensions, Leaf, leaves_of, pin, pinned, unify
from jaxprune.types import Array


class Source(NamedTuple):
    """The parameter that an array is, its axes moved at most.

    Attributes:
      path: Of the parameter.
      axes: Of each axis of the array, that of the parameter; None where it is not known.
    """

    path: str
    axes: tuple[int | None, ...]


class Value(NamedTuple):
    """What is known of an array while programs are linked."""

    dimensions: Dimensions
    source: Source | None = None


class Zeros(NamedTuple):
    """Where an array is known to be 0.

    Attributes:
      known: (axis, leaf): the array is 0 at the places along the axis where the leaf is cut.
      constant: The value of an array that is one number everywhere; None for any other.
    """

    known: frozenset[tuple[int, Leaf]] = frozenset()
    constant: float | None = None

    @property
    def everywhere(self) -> bool:
        """True for an array of zeros."""
        return self.constant == 0

    def at(self, axis: int, leaf: Leaf) -> bool:
        """True if the array is 0 where the leaf is cut."""
        return self.everywhere or (axis, leaf) in self.known


@dataclass(eq=False)
class LinkedEquation:
    """An equation of a program, with the dimensions of its arrays.

    Attributes:
      equation: The equation.
      rule: That of its operation.
      inputs: The dimensions of its inputs.
      outputs: Those of its outputs.
      programs: The programs that it calls, linked.
    """

    equation: Any
    rule: "Rule"
    inputs: tuple[Dimensions, ...]
    outputs: tuple[Dimensions, ...]
    programs: "tuple[LinkedProgram, ...]" = ()


@dataclass(eq=False)
class LinkedProgram:
    """A program with the dimensions of all its arrays.

    Attributes:
      jaxpr: The program.
      constants: The arrays that it holds.
      of_constants: Their dimensions, which can be cut in an array of one number alone.
      inputs: The dimensions of its inputs.
      outputs: Those of its outputs.
      equations: Its equations, in order.
    """

    jaxpr: Any
    constants: Sequence[Any]
    of_constants: tuple[Dimensions, ...]
    inputs: tuple[Dimensions, ...]
    outputs: tuple[Dimensions, ...] = ()
    equations: list[LinkedEquation] = field(default_factory=list)


@dataclass(frozen=True)
class Passes:
    """The three passes over the programs that an equation calls.

    Attributes:
      link: `(jaxpr, constants, inputs) -> LinkedProgram`.
      link_derivative: The same for a derivative that a function has of its own, with those of the functions that it
        calls in turn up to the order of the linker: most call themselves. None where derivatives are left out.
      prove: `(program, Zeros of its inputs) -> Zeros of its outputs`.
      replay: `(program, values) -> values`, at the sizes of a cut.
      size: The length of a dimension after the cut.
      kept: The places [size] of a dimension that are kept, of the first replica.
    """

    link: Callable[..., LinkedProgram] = None  # pyright: ignore[reportAssignmentType] (each pass has its own)
    link_derivative: Callable[..., LinkedProgram] | None = None
    prove: Callable[..., list[Zeros]] = None  # pyright: ignore[reportAssignmentType]
    replay: Callable[..., list[Any]] = None  # pyright: ignore[reportAssignmentType]
    size: Callable[[Dimension], int] = None  # pyright: ignore[reportAssignmentType]
    kept: Callable[[Dimension], Any] = None  # pyright: ignore[reportAssignmentType]

    def shape(self, dimensions: Dimensions) -> tuple[int, ...]:
        """The shape of an array after the cut."""
        return tuple(self.size(dimension) for dimension in dimensions)


Linked = tuple[Sequence[Dimensions], tuple[LinkedProgram, ...]]  # of the outputs, and the programs that are called


def same(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Array]:
    """Evaluate the equation as it is, on smaller arrays."""
    del passes
    return evaluate_equation(linked.equation, values)


def unknown_zeros(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    """Nothing is known of the outputs."""
    del zeros, passes
    return [Zeros()] * len(linked.outputs)


@dataclass(frozen=True)
class Rule:
    """What the analysis knows of an operation.

    Attributes:
      link: `(equation, [Value], passes) -> (dimensions of its outputs, programs that it calls)`.
      zeros: `(linked equation, [Zeros] of its inputs, passes) -> [Zeros] of its outputs`; it pins every leaf that is
        summed over where it is not known to be 0.
      replay: `(linked equation, values, passes) -> values` at the sizes of a cut.
      work: `linked equation -> (factor, dimensions)`: the FLOPs are the factor times the product of the lengths.
      moves: `(equation, axes) -> axes`: for each axis of the only output, the entry of that axis of the first input;
        None for an operation that does more than move axes.
    """

    link: Callable[..., Linked]
    zeros: Callable[[LinkedEquation, list[Zeros], Passes], list[Zeros]] = unknown_zeros
    replay: Callable[[LinkedEquation, list[Any], Passes], list[Any]] = same
    work: Callable[[LinkedEquation], tuple[float, Sequence[Dimension]]] | None = None
    moves: Callable[[Any, tuple[Any, ...]], tuple[Any, ...]] | None = None


Rules = Mapping[str, Rule]


def constant_of(array: Any) -> float | None:
    """The number that an array is everywhere; None for any other array."""
    if isinstance(array, Tracer):
        return None
    kind = array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype  # random keys are no NumPy arrays
    if not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
        return None
    values = np.asarray(array)
    if not values.size or (values != values.flat[0]).any():
        return None
    return float(values.flat[0])


def name_of(equation: Any) -> str:
    """The name of the operation of an equation."""
    return equation.primitive.name


def shapes_of(equation: Any) -> list[tuple[int, ...]]:
    """The shapes of the outputs of an equation."""
    return [tuple(getattr(variable.aval, "shape", ())) for variable in equation.outvars]


def whole_array(shape: Sequence[int], reason: str) -> Dimensions:
    """Dimensions of an array that is kept whole."""
    return tuple(pinned(size, reason) for size in shape)


def zeros_of_both(a: Zeros, b: Zeros) -> Zeros:
    """What holds of both of two arrays."""
    if a.everywhere or b.everywhere:
        return Zeros(constant=0.0) if a.everywhere and b.everywhere else Zeros((b if a.everywhere else a).known)
    return Zeros(a.known & b.known, a.constant if a.constant == b.constant else None)


def unify_all(left: Sequence[Dimensions], right: Sequence[Dimensions]) -> None:
    """Unify the axes of arrays of the same shapes."""
    for a, b in zip(left, right, strict=True):
        for x, y in zip(a, b, strict=True):
            unify(x, y)


def need_zeros(dimension: Dimension, known: Callable[[Leaf], bool], equation: Any) -> None:
    """Pin leaves that are summed over unless known to be 0."""
    for leaf in leaves_of(dimension):
        if leaf.reason is None and not known(leaf):
            place = f"{_SUMS[name_of(equation)]} at {place_of(equation)}"
            pin(leaf, f"the {place} counts pruned channels, which need not be 0 there")


_SUMS = {
    "reduce_sum": "sum",
    "dot_general": "matrix product",
    "jaxprune_convolution": "convolution",
    "conv_general_dilated": "convolution",
}
