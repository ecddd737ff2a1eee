"""Reductions over axes, scans along them, and windows."""

from typing import Any

from jaxprune.coupling.dimensions import pin, pinned, unify
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


def _reason(equation: Any) -> str:
    return f"{equation.primitive.name} reads all of it at once"


def _left(equation: Any, count: int) -> list[int]:
    return [axis for axis in range(count) if axis not in equation.params["axes"]]


def _sum(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    dimensions = values[0].dimensions
    return [tuple(dimensions[i] for i in _left(equation, len(dimensions)))], ()


def _zeros_left(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    if zeros[0].everywhere:
        return [zeros[0]]
    before = _left(linked.equation, len(linked.inputs[0]))
    return [Zeros(frozenset((a, leaf) for a, leaf in keys_of(linked.outputs[0]) if zeros[0].at(before[a], leaf)))]


def _zeros_of_sum(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    for axis in linked.equation.params["axes"]:
        need_zeros(linked.inputs[0][axis], lambda leaf, axis=axis: zeros[0].at(axis, leaf), linked.equation)
    return _zeros_left(linked, zeros, passes)


def _reduce(equation: Any, values: list[Value], passes: Passes) -> Linked:
    """Pin what is reduced by anything but a sum."""
    for axis in equation.params["axes"]:
        pin(values[0].dimensions[axis], _reason(equation))
    return _sum(equation, values, passes)


def _along(equation: Any, values: list[Value], passes: Passes) -> Linked:
    """Pin the axes that an operation goes along."""
    del passes
    params = equation.params
    axes = params.get("dimensions", (params.get("axis", params.get("dimension")),))
    for value in values:
        for axis in axes:
            pin(value.dimensions[axis], _reason(equation))
        # Several operands of a sort are put in one order.
        for first, other in zip(values[0].dimensions, value.dimensions, strict=True):
            unify(first, other)
    return [value.dimensions for value in values], ()


def _zeros_along(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del linked, passes
    # What goes along is pinned, and zeros of the other axes stay zeros; any other constant does not stay one.
    return [zero if zero.everywhere else Zeros(zero.known) for zero in zeros]


def _top(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    dimensions = values[0].dimensions
    pin(dimensions[-1], _reason(equation))
    last = pinned(shapes_of(equation)[0][-1], _reason(equation))
    return [(*dimensions[:-1], last)] * 2, ()


def _windows(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    params, dimensions = equation.params, values[0].dimensions
    result = []
    for axis, size in enumerate(shapes_of(equation)[0]):
        plain = (
            params["window_dimensions"][axis] == params["window_strides"][axis] == 1
            and tuple(params["padding"][axis]) == (0, 0)
            and params["base_dilation"][axis] == params["window_dilation"][axis] == 1
        )
        if not plain:
            pin(dimensions[axis], "it is a place of a pooling window")
        result.append(dimensions[axis] if plain else pinned(size, "it is a place of a pooling window"))
    return [tuple(result)], ()


def _zeros_of_windows(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    return [Zeros(frozenset(key for key in keys_of(linked.outputs[0]) if zeros[0].at(*key)))]


RULES = {
    "reduce_sum": Rule(_sum, _zeros_of_sum),
    **{name: Rule(_reduce, _zeros_left) for name in ("reduce_max", "reduce_min", "reduce_prod", "reduce_or")},
    **{name: Rule(_reduce, _zeros_left) for name in ("reduce_and", "reduce_xor")},
    **{name: Rule(_reduce) for name in ("argmax", "argmin")},
    **{name: Rule(_along, _zeros_along) for name in ("cumsum", "cumprod", "cummax", "cummin", "sort", "rev")},
    "cumlogsumexp": Rule(_along),
    "top_k": Rule(_top),
    **{name: Rule(_windows, _zeros_of_windows) for name in ("reduce_window_sum", "reduce_window_max")},
    "reduce_window_min": Rule(_windows, _zeros_of_windows),
}
