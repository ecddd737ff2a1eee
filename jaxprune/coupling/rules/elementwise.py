"""Operations on each element by itself."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxprune.compat import place_of
from jaxprune.coupling.dimensions import Dimensions, Leaf, free_leaves, pin, unify
from jaxprune.coupling.rule import Linked, LinkedEquation, Passes, Rule, Value, Zeros, shapes_of
from jaxprune.coupling.rules.unknown import UNKNOWN

# 0 where their input is 0 (of several inputs: where all are).
_KEEP_ZERO = (
    "abs", "add", "add_any", "and", "asin", "asinh", "atan", "atanh", "bessel_i1e",
    "cbrt", "ceil", "conj", "convert_element_type", "copy", "copy_p", "erf", "erf_inv", "expm1", "floor",
    "imag", "log1p", "mul", "name", "neg", "optimization_barrier", "or", "pcast", "pvary", "real",
    "reduce_precision", "round", "sharding_constraint", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh",
    "xor",
)  # fmt: skip
_LOSE_ZERO = (
    "acos", "atan2", "bessel_i0e", "clz", "complex", "cos", "cosh", "eq", "eq_to", "erfc", "exp", "exp2", "ge",
    "gt", "is_finite", "le", "le_to", "logistic", "lt", "lt_to", "ne", "nextafter", "not", "one_minus_square",
    "population_count",
)  # fmt: skip
# Not finite at 0, so that no product with 0 is 0 any more.
_SINGULAR = (
    "acosh", "digamma", "igamma", "igamma_grad_a", "igammac", "lgamma", "log", "log2", "polygamma",
    "regularized_incomplete_beta", "rsqrt", "zeta",
)  # fmt: skip
_ANY = ("mul", "and", "mulhi")  # 0 where one of their inputs is 0


def _link(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    shapes = shapes_of(equation)
    if len(shapes) > 1:  # of several arrays, each by itself
        return [value.dimensions for value in values], ()
    return [linked_together([value.dimensions for value in values], shapes[0])], ()


def _bits(equation: Any, values: list[Value], passes: Passes) -> Linked:
    """The bits as another type, maybe with another axis."""
    return (_link if len(values[0].dimensions) == len(shapes_of(equation)[0]) else UNKNOWN.link)(
        equation, values, passes
    )


def linked_together(inputs: Sequence[Dimensions], shape: Sequence[int]) -> Dimensions:
    """The dimensions of a result that inputs are broadcast to."""
    result = []
    for axis, size in enumerate(shape):
        fitting = [dims[axis] for dims in inputs if len(dims) == len(shape) and dims[axis].size == size]
        for other in fitting[1:]:
            unify(fitting[0], other)
        result.append(fitting[0] if fitting else Leaf(size))
    return tuple(result)


def at_all(zeros: Sequence[Zeros], outputs: Dimensions) -> Zeros:
    """0 where every input is 0."""
    if all(zero.everywhere for zero in zeros):
        return Zeros(constant=0.0)
    return Zeros(frozenset(key for key in keys_of(outputs) if all(zero.at(*key) for zero in zeros)))


def at_any(zeros: Sequence[Zeros], outputs: Dimensions) -> Zeros:
    """0 where one of the inputs is 0."""
    if any(zero.everywhere for zero in zeros):
        return Zeros(constant=0.0)
    return Zeros(frozenset(key for key in keys_of(outputs) if any(zero.at(*key) for zero in zeros)))


def keys_of(outputs: Dimensions) -> list[tuple[int, Leaf]]:
    """Every axis with every leaf on it that can be cut."""
    return [(axis, leaf) for axis, dimension in enumerate(outputs) for leaf in free_leaves(dimension)]


def _zeros(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    outputs, *others = linked.outputs
    if others:
        return zeros
    if linked.equation.primitive.name in _VALUE_KEPT and _same_number(zeros[0].constant, linked.equation):
        return zeros
    return [at_all(zeros, outputs)]


def _same_number(constant: float | None, equation: Any) -> bool:
    """True if a constant is that number in the result's type."""
    if constant is None:
        return False
    with np.errstate(all="ignore"):
        before = np.asarray(constant).astype(equation.invars[0].aval.dtype)
        return float(before.astype(equation.outvars[0].aval.dtype)) == constant


_VALUE_KEPT = ("convert_element_type", "copy", "copy_p", "reduce_precision", "sharding_constraint")


def _zeros_of_any(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    return [at_any(zeros, linked.outputs[0])]


def _pin_zeros(linked: LinkedEquation, operation: str, zeros: Zeros) -> None:
    """Pin leaves where an array is 0 that must not be."""
    for axis, leaf in keys_of(linked.outputs[0]):
        if (axis, leaf) in zeros.known:
            pin(leaf, f"the {operation} at {place_of(linked.equation)} is not finite where pruned channels are 0")


def _singular(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    for zero in zeros:
        _pin_zeros(linked, linked.equation.primitive.name, zero)
    return [Zeros()]


def _ratio(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    """0 where the numerator is; the denominator must not be 0."""
    del passes
    _pin_zeros(linked, "division", zeros[1])
    return [at_all(zeros[:1], linked.outputs[0])]


def _zeros_of_cases(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    return [at_all(zeros[1:], linked.outputs[0])]


def _bounded(keeps: Callable[[float], bool]) -> Rule:
    """The maximum or minimum, which some bounds leave 0."""

    def zeros(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
        del passes
        varying = [zero for zero in zeros if zero.constant is None or not keeps(zero.constant)]
        return [at_all(varying or zeros[:1], linked.outputs[0])]

    return Rule(_link, zeros)


def _clamp_zeros(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    low, values, high = zeros
    if low.constant is None or high.constant is None or not low.constant <= 0 <= high.constant:
        return [Zeros()]
    return [at_all([values], linked.outputs[0])]


def _power_zeros(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    exponent = linked.equation.params.get("y", zeros[-1].constant if len(zeros) > 1 else None)
    if exponent is not None and exponent > 0:
        return [at_all(zeros[:1], linked.outputs[0])]
    if exponent != 0:
        _pin_zeros(linked, "power", zeros[0])
    return [Zeros()]


RULES = {
    **{name: Rule(_link, _zeros) for name in _KEEP_ZERO},
    **{name: Rule(_link) for name in _LOSE_ZERO},
    **{name: Rule(_link, _singular) for name in _SINGULAR},
    **{name: Rule(_link, _zeros_of_any) for name in _ANY},
    **{name: Rule(_link, _zeros, moves=lambda equation, axes: axes) for name in _VALUE_KEPT},
    "bitcast_convert_type": Rule(_bits),  # the bits of -0 are not 0
    "div": Rule(_link, _ratio),
    "rem": Rule(_link, _ratio),
    "select_n": Rule(_link, _zeros_of_cases),
    "max": _bounded(lambda bound: bound <= 0),
    "min": _bounded(lambda bound: bound >= 0),
    "clamp": Rule(_link, _clamp_zeros),
    "pow": Rule(_link, _power_zeros),
    "integer_pow": Rule(_link, _power_zeros),
}
