"""Operations that put stretches of an axis together or take them apart."""

from typing import Any

import numpy as np
from jax import lax

from jaxprune.coupling.dimensions import Leaf, Sum, divided, free_leaves, pin, pinned, stretch, unify
from jaxprune.coupling.rule import Linked, LinkedEquation, Passes, Rule, Value, Zeros, shapes_of
from jaxprune.coupling.rules.elementwise import at_all, keys_of


def _concatenate(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    along, inputs = equation.params["dimension"], [value.dimensions for value in values]
    for other in inputs[1:]:
        for axis, dimension in enumerate(other):
            if axis != along:
                unify(inputs[0][axis], dimension)
    joined = Sum(tuple(dimensions[along] for dimensions in inputs))
    return [tuple(joined if i == along else dimension for i, dimension in enumerate(inputs[0]))], ()


def _zeros_of_concatenation(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    along = linked.equation.params["dimension"]
    if all(zero.everywhere for zero in zeros):
        return [Zeros(constant=0.0)]
    on_inputs = [{leaf for axis, leaf in keys_of(dimensions) if axis == along} for dimensions in linked.inputs]

    def known(axis: int, leaf: Any) -> bool:
        # Along the axis itself, an input without the leaf has no place where it is cut.
        pairs = zip(zeros, on_inputs, strict=True)
        return all(zero.at(axis, leaf) or (axis == along and leaf not in leaves) for zero, leaves in pairs)

    return [Zeros(frozenset(key for key in keys_of(linked.outputs[0]) if known(*key)))]


def _pad(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    result, shape = [], shapes_of(equation)[0]
    for axis, config in enumerate(equation.params["padding_config"]):
        low, high, interior = map(int, config)
        dimension = values[0].dimensions[axis]
        if low == high == interior == 0:
            result.append(dimension)
        elif low < 0 or high < 0 or interior or not any(True for _ in free_leaves(dimension)):
            pin(dimension, "it is padded")
            result.append(pinned(shape[axis], "it is padded"))
        else:
            result.append(Sum((*([Leaf(low)] if low else []), dimension, *([Leaf(high)] if high else []))))
    return [tuple(result)], ()


def _zeros_of_padding(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    values, padding = zeros
    if values.everywhere and padding.everywhere:
        return [values]
    inside = set(keys_of(linked.inputs[0]))
    padded = [low > 0 or high > 0 for low, high, _ in linked.equation.params["padding_config"]]

    def known(axis: int, leaf: Leaf) -> bool:
        of_values = values.at(axis, leaf) or (axis, leaf) not in inside
        return of_values and (padding.everywhere or not any(padded))

    return [Zeros(frozenset(key for key in keys_of(linked.outputs[0]) if known(*key)))]


def _replay_padding(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    config = []
    for axis, (low, high, interior) in enumerate(linked.equation.params["padding_config"]):
        kept = passes.kept(linked.outputs[0][axis]) if low > 0 or high > 0 else None
        if kept is None or low < 0 or high < 0 or interior:
            config.append((low, high, interior))
        else:
            config.append((int(kept[:low].sum()), int(kept[len(kept) - high :].sum()), 0))
    return [lax.pad(values[0], values[1], config)]


def _slice(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    params, result = equation.params, []
    strides = params["strides"] or (1,) * len(params["start_indices"])
    limits = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    for dimension, (start, limit, stride), size in zip(
        values[0].dimensions, limits, shapes_of(equation)[0], strict=True
    ):
        if stride == 1:
            result.append(stretch(dimension, start, limit))
        else:
            pin(dimension, "every so many channels are taken")
            result.append(pinned(size, "every so many channels are taken"))
    return [tuple(result)], ()


def _zeros_of_slice(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    if zeros[0].constant is not None:
        return [zeros[0]] * len(linked.outputs)
    return [at_all(zeros[:1], outputs) for outputs in linked.outputs]


def _replay_slice(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    params, starts, limits = linked.equation.params, [], []
    strides = params["strides"] or (1,) * values[0].ndim
    for dimension, start, limit in zip(linked.inputs[0], params["start_indices"], params["limit_indices"], strict=True):
        kept = np.asarray(passes.kept(dimension))
        starts.append(int(kept[:start].sum()))
        limits.append(int(kept[:limit].sum()))
    return [lax.slice(values[0], starts, limits, strides)]


def _split(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    axis, dimensions = equation.params["axis"], values[0].dimensions
    parts = divided(dimensions[axis], equation.params["sizes"])
    return [tuple(part if i == axis else d for i, d in enumerate(dimensions)) for part in parts], ()


def _replay_split(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    axis = linked.equation.params["axis"]
    sizes = [passes.size(dimensions[axis]) for dimensions in linked.outputs]
    ends = np.cumsum(sizes)
    pairs = zip(ends - sizes, ends, strict=True)
    return [lax.slice_in_dim(values[0], int(first), int(last), axis=axis) for first, last in pairs]


STACKED = "it is an axis along which arrays are stacked"


def _stack(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    axis, inputs = equation.params["axis"], [value.dimensions for value in values]
    for other in inputs[1:]:
        for a, b in zip(inputs[0], other, strict=True):
            unify(a, b)
    return [(*inputs[0][:axis], pinned(len(inputs), STACKED), *inputs[0][axis:])], ()


def _zeros_of_stack(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    axis = linked.equation.params["axis"]

    def known(place: int, leaf: Leaf) -> bool:
        return place != axis and all(zero.at(place - (place > axis), leaf) for zero in zeros)

    return [Zeros(frozenset(key for key in keys_of(linked.outputs[0]) if known(*key)))]


def _unstack(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    axis, dimensions = equation.params["axis"], values[0].dimensions
    pin(dimensions[axis], STACKED)
    return [(*dimensions[:axis], *dimensions[axis + 1 :])] * len(equation.outvars), ()


def _zeros_of_unstacking(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    axis = linked.equation.params["axis"]
    keys = keys_of(linked.outputs[0])
    known = frozenset((place, leaf) for place, leaf in keys if zeros[0].at(place + (place >= axis), leaf))
    return [Zeros(known)] * len(linked.outputs)


def _tile(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    result = []
    for dimension, times in zip(values[0].dimensions, equation.params["reps"], strict=True):
        result.append(dimension if times == 1 else Sum((dimension,) * times))
    return [tuple(result)], ()


RULES = {
    "stack": Rule(_stack, _zeros_of_stack),
    "unstack": Rule(_unstack, _zeros_of_unstacking),
    "tile": Rule(_tile, _zeros_of_slice),
    "concatenate": Rule(_concatenate, _zeros_of_concatenation),
    "pad": Rule(_pad, _zeros_of_padding, _replay_padding),
    "slice": Rule(_slice, _zeros_of_slice, _replay_slice),
    "split": Rule(_split, _zeros_of_slice, _replay_split),
}
