"""Matrix products and convolutions."""

from collections.abc import Sequence
from typing import Any

from jaxprune.compat import evaluate_equation
from jaxprune.coupling.dimensions import Dimension, Leaf, Product, leaves_of, pin, pinned, unify
from jaxprune.coupling.rule import (
    Linked,
    LinkedEquation,
    Passes,
    Rule,
    Value,
    Zeros,
    need_zeros,
    shapes_of,
)
from jaxprune.coupling.rules.elementwise import keys_of
from jaxprune.coupling.rules.unknown import UNKNOWN

WINDOW = "it is a place of a convolution's window or image"


def _free(equation: Any, side: int, count: int) -> list[int]:
    summed, together = equation.params["dimension_numbers"]
    return [axis for axis in range(count) if axis not in (*summed[side], *together[side])]


def _matrix_product(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    left, right = values[0].dimensions, values[1].dimensions
    for pair in equation.params["dimension_numbers"]:
        for a, b in zip(*pair, strict=True):
            unify(left[a], right[b])
    together = equation.params["dimension_numbers"][1][0]
    free = [left[i] for i in _free(equation, 0, len(left))] + [right[i] for i in _free(equation, 1, len(right))]
    return [(*(left[i] for i in together), *free)], ()


def _zeros_of_matrix_product(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    equation = linked.equation
    summed, together = equation.params["dimension_numbers"]
    for a, b in zip(*summed, strict=True):
        need_zeros(
            linked.inputs[0][a],
            lambda leaf, a=a, b=b: zeros[0].at(a, leaf) or zeros[1].at(b, leaf),
            equation,
        )
    if any(zero.everywhere for zero in zeros):
        return [Zeros(constant=0.0)]
    left, right = (_free(equation, side, len(linked.inputs[side])) for side in (0, 1))
    # axis of the result -> (operand, its axis), one or two of them
    origins = [[(0, a), (1, b)] for a, b in zip(*together, strict=True)]
    origins += [[(0, axis)] for axis in left] + [[(1, axis)] for axis in right]
    known = {
        (axis, leaf)
        for axis, leaf in keys_of(linked.outputs[0])
        if any(zeros[side].at(place, leaf) for side, place in origins[axis])
    }
    return [Zeros(frozenset(known))]


def _work_of_matrix_product(linked: LinkedEquation) -> tuple[float, Sequence[Dimension]]:
    summed = linked.equation.params["dimension_numbers"][0][0]
    return 2.0, [*linked.outputs[0], *(linked.inputs[0][i] for i in summed)]


def _own_convolution(equation: Any, values: list[Value], passes: Passes) -> Linked:
    """[R, B, H, W, D] and [R, height, width, D, E] -> [R, B, H', W', E]."""
    del passes
    x, kernel = values[0].dimensions, values[1].dimensions
    unify(x[0], kernel[0])
    unify(x[4], kernel[3])
    for dimension in (*x[2:4], *kernel[1:3]):
        pin(dimension, WINDOW)
    shape = shapes_of(equation)[0]
    return [(x[0], x[1], *(pinned(size, WINDOW) for size in shape[2:4]), kernel[4])], ()


def _zeros_of_own_convolution(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    need_zeros(linked.inputs[0][4], lambda leaf: zeros[0].at(4, leaf) or zeros[1].at(3, leaf), linked.equation)
    origins = {0: [(0, 0), (1, 0)], 1: [(0, 1)], 4: [(1, 4)]}
    return [_from_operands(linked, zeros, origins)]


def _from_operands(linked: LinkedEquation, zeros: list[Zeros], origins: dict[int, list[tuple[int, int]]]) -> Zeros:
    """0 where an operand is.

    `origins` has the operands and their axes for each axis of the result.
    """
    if any(zero.everywhere for zero in zeros):
        return Zeros(constant=0.0)
    known = {
        (axis, leaf)
        for axis, leaf in keys_of(linked.outputs[0])
        if any(zeros[side].at(place, leaf) for side, place in origins.get(axis, []))
    }
    return Zeros(frozenset(known))


def _work_of_own_convolution(linked: LinkedEquation) -> tuple[float, Sequence[Dimension]]:
    return 2.0, [*linked.outputs[0], *linked.inputs[1][1:4]]


def _convolution(equation: Any, values: list[Value], passes: Passes) -> Linked:
    x, kernel = values[0].dimensions, values[1].dimensions
    numbers, groups = equation.params["dimension_numbers"], equation.params["feature_group_count"]
    if equation.params["batch_group_count"] != 1:
        return UNKNOWN.link(equation, values, passes)
    for place in numbers.lhs_spec[2:]:
        pin(x[place], WINDOW)
    for place in numbers.rhs_spec[2:]:
        pin(kernel[place], WINDOW)
    features, outputs, inner = x[numbers.lhs_spec[1]], kernel[numbers.rhs_spec[0]], kernel[numbers.rhs_spec[1]]
    if groups == 1:
        unify(features, inner)
    else:
        # Features are (group, input of the group), and outputs (group, output of the group), the group the slower one.
        group = Leaf(groups)
        unify(features, Product((group, inner)) if inner.size > 1 else group)
        each = outputs.size // groups
        unify(outputs, Product((group, Leaf(each))) if each > 1 else group)
    result: list[Any] = [None] * len(x)
    shape = shapes_of(equation)[0]
    for place in numbers.out_spec[2:]:
        result[place] = pinned(shape[place], WINDOW)
    result[numbers.out_spec[0]], result[numbers.out_spec[1]] = x[numbers.lhs_spec[0]], outputs
    return [tuple(result)], ()


def _group_leaves(linked: LinkedEquation) -> set[Leaf]:
    """The leaves of the groups, which inputs and outputs have."""
    numbers = linked.equation.params["dimension_numbers"]
    return set(leaves_of(linked.inputs[0][numbers.lhs_spec[1]])) - set(leaves_of(linked.inputs[1][numbers.rhs_spec[1]]))


def _zeros_of_convolution(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    numbers = linked.equation.params["dimension_numbers"]
    if linked.equation.params["batch_group_count"] != 1:
        return [Zeros()]
    features, inner, outputs = numbers.lhs_spec[1], numbers.rhs_spec[1], numbers.rhs_spec[0]
    need_zeros(
        linked.inputs[1][inner],
        lambda leaf: zeros[0].at(features, leaf) or zeros[1].at(inner, leaf),
        linked.equation,
    )
    result = _from_operands(
        linked, zeros, {numbers.out_spec[0]: [(0, numbers.lhs_spec[0])], numbers.out_spec[1]: [(1, outputs)]}
    )
    if result.everywhere or linked.equation.params["feature_group_count"] == 1:
        return [result]
    # A group whose inputs are all 0 gives 0.
    of_groups = {leaf for leaf in _group_leaves(linked) if zeros[0].at(features, leaf)}
    place = numbers.out_spec[1]
    on_outputs = {leaf for axis, leaf in keys_of(linked.outputs[0]) if axis == place}
    return [Zeros(result.known | {(place, leaf) for leaf in of_groups & on_outputs})]


def _replay_convolution(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    numbers, groups = linked.equation.params["dimension_numbers"], linked.equation.params["feature_group_count"]
    if groups > 1:
        features, inner = values[0].shape[numbers.lhs_spec[1]], values[1].shape[numbers.rhs_spec[1]]
        groups = features // inner
    return evaluate_equation(linked.equation, values, feature_group_count=groups)


def _work_of_convolution(linked: LinkedEquation) -> tuple[float, Sequence[Dimension]]:
    spec = linked.equation.params["dimension_numbers"].rhs_spec
    return 2.0, [*linked.outputs[0], *(linked.inputs[1][i] for i in spec[1:])]


RULES = {
    "dot_general": Rule(_matrix_product, _zeros_of_matrix_product, work=_work_of_matrix_product),
    "jaxprune_convolution": Rule(_own_convolution, _zeros_of_own_convolution, work=_work_of_own_convolution),
    "conv_general_dilated": Rule(_convolution, _zeros_of_convolution, _replay_convolution, work=_work_of_convolution),
}
