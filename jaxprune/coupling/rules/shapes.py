"""Operations that move, add and join axes."""

from typing import Any

from jax import lax

from jaxprune.coupling.dimensions import Dimensions, Leaf, reshaped
from jaxprune.coupling.rule import Linked, LinkedEquation, Passes, Rule, Value, Zeros, shapes_of
from jaxprune.coupling.rules.elementwise import keys_of


def _moved_axes(equation: Any, axes: tuple[Any, ...]) -> tuple[Any, ...]:
    if equation.primitive.name == "transpose":
        return tuple(axes[i] for i in equation.params["permutation"])
    return tuple(axis for i, axis in enumerate(axes) if i not in equation.params["dimensions"])


def _move(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    return [_moved_axes(equation, values[0].dimensions)], ()


def _zeros_of_moved(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    before = _moved_axes(linked.equation, tuple(range(len(linked.inputs[0]))))
    return [_moved_zeros(zeros[0], dict(enumerate(before)), linked.outputs[0])]


def _moved_zeros(zeros: Zeros, before: dict[int, int], outputs: Dimensions) -> Zeros:
    """Zeros after axes were moved; `before` has their old places."""
    if zeros.constant is not None:
        return zeros
    keys = keys_of(outputs)
    return Zeros(frozenset((a, leaf) for a, leaf in keys if a in before and (before[a], leaf) in zeros.known))


def _places(equation: Any) -> dict[int, int]:
    """Axis of the result -> axis of the input."""
    return {int(place): axis for axis, place in enumerate(equation.params["broadcast_dimensions"])}


def _broadcast(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    places, before = _places(equation), values[0].dimensions

    def of_axis(axis: int, size: int) -> Any:
        if axis in places and before[places[axis]].size == size:
            return before[places[axis]]
        return Leaf(size)

    return [tuple(of_axis(axis, size) for axis, size in enumerate(shapes_of(equation)[0]))], ()


def _zeros_of_broadcast(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    return [_moved_zeros(zeros[0], _places(linked.equation), linked.outputs[0])]


def _replay_broadcast(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    places = linked.equation.params["broadcast_dimensions"]
    return [lax.broadcast_in_dim(values[0], passes.shape(linked.outputs[0]), places)]


def _axes_of_broadcast(equation: Any, axes: tuple[Any, ...]) -> tuple[Any, ...]:
    places = _places(equation)
    return tuple(axes[places[i]] if i in places else None for i in range(len(shapes_of(equation)[0])))


def _reshape(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    shape = shapes_of(equation)[0]
    before = values[0].dimensions
    # An axis that only gains or loses neighbours of length 1 stays itself, so that nothing new has to be unified.
    if [d.size for d in before if d.size != 1] == [size for size in shape if size != 1]:
        rest = iter([d for d in before if d.size != 1])
        return [tuple(Leaf(1) if size == 1 else next(rest) for size in shape)], ()
    return [reshaped(before, shape)], ()


def _axes_of_reshape(equation: Any, axes: tuple[Any, ...]) -> tuple[Any, ...]:
    before, after = equation.invars[0].aval.shape, shapes_of(equation)[0]
    if [size for size in before if size != 1] != [size for size in after if size != 1]:
        return (None,) * len(after)
    rest = iter([axis for axis, size in zip(axes, before, strict=True) if size != 1])
    return tuple(None if size == 1 else next(rest) for size in after)


def _zeros_of_reshape(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    del passes
    if zeros[0].constant is not None:
        return zeros
    # A leaf lies on one axis before and on one after, or else nothing is said of it.
    before: dict[Leaf, list[int]] = {}
    for axis, leaf in keys_of(linked.inputs[0]):
        before.setdefault(leaf, []).append(axis)
    keys = keys_of(linked.outputs[0])
    axes_after: dict[Leaf, set[int]] = {}
    for axis, leaf in keys:
        axes_after.setdefault(leaf, set()).add(axis)
    known = {
        (axis, leaf)
        for axis, leaf in keys
        if len(axes_after[leaf]) == 1
        and len(set(before.get(leaf, []))) == 1
        and (before[leaf][0], leaf) in zeros[0].known
    }
    return [Zeros(frozenset(known))]


def _replay_reshape(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    return [lax.reshape(values[0], passes.shape(linked.outputs[0]))]


RULES = {
    "transpose": Rule(_move, _zeros_of_moved, moves=_moved_axes),
    "squeeze": Rule(_move, _zeros_of_moved, moves=_moved_axes),
    "broadcast_in_dim": Rule(_broadcast, _zeros_of_broadcast, _replay_broadcast, moves=_axes_of_broadcast),
    "reshape": Rule(_reshape, _zeros_of_reshape, _replay_reshape, moves=_axes_of_reshape),
}
