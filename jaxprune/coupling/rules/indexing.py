"""Operations that take elements by their index, and random bits."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprune.compat import evaluate_equation
from jaxprune.coupling.dimensions import Dimension, Leaf, pin, pinned, unify
from jaxprune.coupling.rule import (
    Linked,
    LinkedEquation,
    Passes,
    Rule,
    Value,
    Zeros,
    shapes_of,
    whole_array,
)
from jaxprune.coupling.rules.elementwise import at_all, keys_of

INDEXED = "single entries of it are taken by index"


def _is_whole(dimension: Dimension, size: int) -> bool:
    return dimension.size == size


def _gather(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    operand, indices = values[0].dimensions, values[1].dimensions
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    pin(indices[-1], INDEXED)
    sliced = iter(_sliced_axes(equation, operand))
    shape, batch = shapes_of(equation)[0], iter(indices[:-1])
    together = zip(numbers.operand_batching_dims, numbers.start_indices_batching_dims, strict=True)
    for a, b in together:
        unify(operand[a], indices[b])
    for axis in numbers.collapsed_slice_dims:
        pin(operand[axis], INDEXED)
    result = []
    for place, size in enumerate(shape):
        if place not in numbers.offset_dims:
            result.append(next(batch))
            continue
        axis = next(sliced)
        if _is_whole(operand[axis], sizes[axis]):
            result.append(operand[axis])
        else:
            pin(operand[axis], INDEXED)
            result.append(pinned(size, INDEXED))
    return [tuple(result)], ()


def _sliced_axes(equation: Any, operand: Sequence[Any]) -> list[int]:
    """The axes of the operand that the result has."""
    numbers = equation.params["dimension_numbers"]
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    return [axis for axis in range(len(operand)) if axis not in gone]


def _fills(equation: Any) -> bool:
    """True if rows out of range are filled with a number.

    Rows of NaN, as `jnp.take` fills them, are NaN at the channels that stay as well, so that whatever is summed over
    channels is NaN in both networks.
    """
    mode, number = equation.params["mode"], equation.params["fill_value"]
    if lax.GatherScatterMode.from_any(mode) != lax.GatherScatterMode.FILL_OR_DROP or number == 0:
        return False
    if number is None:  # NaN, or for whole numbers the largest
        return not jnp.issubdtype(equation.outvars[0].aval.dtype, jnp.inexact)
    return not np.isnan(number)


def _zeros_of_gather(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    if _fills(linked.equation):
        return [Zeros()]
    if zeros[0].everywhere:
        return [zeros[0]]
    places = linked.equation.params["dimension_numbers"].offset_dims
    before = dict(zip(places, _sliced_axes(linked.equation, linked.inputs[0]), strict=True))
    keys = keys_of(linked.outputs[0])
    return [Zeros(frozenset((a, leaf) for a, leaf in keys if a in before and zeros[0].at(before[a], leaf)))]


def _replay_gather(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    sizes = _cut_sizes(linked, values[0], passes)
    return evaluate_equation(linked.equation, values, slice_sizes=sizes)


def _cut_sizes(linked: LinkedEquation, operand: Any, passes: Passes) -> tuple[int, ...]:
    del passes
    sizes = linked.equation.params["slice_sizes"]
    whole = [_is_whole(dimension, size) for dimension, size in zip(linked.inputs[0], sizes, strict=True)]
    return tuple(n if full else size for n, size, full in zip(operand.shape, sizes, whole, strict=True))


def _axes_of_gather(equation: Any, axes: tuple[Any, ...]) -> tuple[Any, ...]:
    sliced = iter(_sliced_axes(equation, axes))
    numbers = equation.params["dimension_numbers"]
    return tuple(axes[next(sliced)] if i in numbers.offset_dims else None for i in range(len(shapes_of(equation)[0])))


def _dynamic_slice(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    result = []
    for dimension, size in zip(values[0].dimensions, equation.params["slice_sizes"], strict=True):
        if _is_whole(dimension, size):
            result.append(dimension)
        else:
            pin(dimension, INDEXED)
            result.append(pinned(size, INDEXED))
    return [tuple(result)], ()


def _zeros_of_whole_axes(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    return zeros[:1] if zeros[0].constant is not None else [at_all(zeros[:1], linked.outputs[0])]


def _replay_dynamic_slice(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    return evaluate_equation(linked.equation, values, slice_sizes=_cut_sizes(linked, values[0], passes))


def _dynamic_update_slice(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del equation, passes
    operand, update = values[0].dimensions, values[1].dimensions
    for a, b in zip(operand, update, strict=True):
        _join_whole(a, b)
    return [operand], ()


def _join_whole(operand: Dimension, update: Dimension) -> None:
    """Unify an axis that is written whole, or else pin it."""
    if operand.size == update.size:
        unify(operand, update)
    else:
        pin(operand, INDEXED)
        pin(update, INDEXED)


def _zeros_of_update(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    return [at_all(zeros[:2], linked.outputs[0])]


def _scatter(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    numbers = equation.params["dimension_numbers"]
    operand, indices, updates = (value.dimensions for value in values[:3])
    pin(indices[-1], INDEXED)
    batched = zip(numbers.operand_batching_dims, numbers.scatter_indices_batching_dims, strict=True)
    for a, b in batched:
        unify(operand[a], indices[b])
    for axis in numbers.inserted_window_dims:
        pin(operand[axis], INDEXED)
    windows = iter(_written_axes(equation, operand))
    batch = iter(indices[:-1])
    for place, dimension in enumerate(updates):
        if place in numbers.update_window_dims:
            _join_whole(operand[next(windows)], dimension)
        else:
            unify(next(batch), dimension)
    return [operand], ()


def _written_axes(equation: Any, operand: Sequence[Any]) -> list[int]:
    numbers = equation.params["dimension_numbers"]
    gone = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    return [axis for axis in range(len(operand)) if axis not in gone]


def _zeros_of_scatter(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    numbers = linked.equation.params["dimension_numbers"]
    places = dict(zip(_written_axes(linked.equation, linked.inputs[0]), numbers.update_window_dims, strict=True))

    def known(axis: int, leaf: Leaf) -> bool:
        return axis in places and zeros[0].at(axis, leaf) and zeros[2].at(places[axis], leaf)

    return [Zeros(frozenset(key for key in keys_of(linked.outputs[0]) if known(*key)))]


def _iota(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del values, passes
    along, reason = equation.params["dimension"], "its channels are numbered"
    shape = shapes_of(equation)[0]
    return [tuple(pinned(size, reason) if axis == along else Leaf(size) for axis, size in enumerate(shape))], ()


def _random_bits(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    for value in values:
        for dimension in value.dimensions:
            pin(dimension, "it is a key of random numbers")
    return [tuple(map(Leaf, shapes_of(equation)[0]))], ()


def _at_shape(name: str) -> Callable[..., list[Any]]:
    """Evaluate an operation that is given the shape of its result."""

    def replay(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
        return evaluate_equation(linked.equation, values, **{name: passes.shape(linked.outputs[0])})

    return replay


def _keys(equation: Any, values: list[Value], passes: Passes) -> Linked:
    """Operations on random keys, which are not numbers of a network."""
    del passes
    for value in values:
        for dimension in value.dimensions:
            pin(dimension, "it is a key of random numbers")
    return [whole_array(shape, "it is a key of random numbers") for shape in shapes_of(equation)], ()


RULES = {
    "gather": Rule(_gather, _zeros_of_gather, _replay_gather, moves=_axes_of_gather),
    "dynamic_slice": Rule(_dynamic_slice, _zeros_of_whole_axes, _replay_dynamic_slice, moves=lambda _, axes: axes),
    "dynamic_update_slice": Rule(_dynamic_update_slice, _zeros_of_update),
    **{name: Rule(_scatter, _zeros_of_scatter) for name in ("scatter", "scatter-add", "scatter_add")},
    "iota": Rule(_iota, replay=_at_shape("shape")),
    "random_bits": Rule(_random_bits, replay=_at_shape("shape")),
    **{
        name: Rule(_keys)
        for name in ("random_seed", "random_wrap", "random_unwrap", "random_split", "random_fold_in", "threefry2x32")
    },
}
