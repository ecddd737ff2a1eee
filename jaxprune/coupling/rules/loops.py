"""Loops."""

from typing import Any

from jax import lax

from jaxprune.compat import program_and_constants, scan_counts
from jaxprune.coupling.dimensions import pin, pinned
from jaxprune.coupling.rule import Linked, LinkedEquation, Passes, Rule, Value, Zeros, unify_all, zeros_of_both

LOOPED = "a loop goes along it"


def _scan_parts(equation: Any) -> tuple[int, int]:
    constants, carried = scan_counts(equation)
    return constants, constants + carried


def _scan(equation: Any, values: list[Value], passes: Passes) -> Linked:
    first, last = _scan_parts(equation)
    for value in values[last:]:
        pin(value.dimensions[0], LOOPED)
    each = [Value(value.dimensions[1:]) for value in values[last:]]
    program = passes.link(*program_and_constants(equation.params["jaxpr"]), [*values[:last], *each])
    carries = last - first
    unify_all(program.outputs[:carries], [value.dimensions for value in values[first:last]])
    length = equation.params["length"]
    stacked = [(pinned(length, LOOPED), *dimensions) for dimensions in program.outputs[carries:]]
    return [*(value.dimensions for value in values[first:last]), *stacked], (program,)


def _zeros_of_scan(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    first, last = _scan_parts(linked.equation)
    each = [_inside(zero) for zero in zeros[last:]]
    carries = zeros[first:last]
    while True:
        outputs = passes.prove(linked.programs[0], [*zeros[:first], *carries, *each])
        following = [zeros_of_both(a, b) for a, b in zip(carries, outputs[: last - first], strict=True)]
        if following == carries:
            break
        carries = following
    stacked = [Zeros(frozenset((a + 1, leaf) for a, leaf in z.known), z.constant) for z in outputs[last - first :]]
    return [*carries, *stacked]


def _inside(zeros: Zeros) -> Zeros:
    """The zeros of each step's part of an array."""
    return Zeros(frozenset((axis - 1, leaf) for axis, leaf in zeros.known if axis), zeros.constant)


def _replay_scan(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    first, last = _scan_parts(linked.equation)
    params = linked.equation.params

    def body(carry: list[Any], each: list[Any]) -> tuple[list[Any], list[Any]]:
        outputs = passes.replay(linked.programs[0], [*values[:first], *carry, *each])
        return outputs[: last - first], outputs[last - first :]

    carry, stacked = lax.scan(
        body,
        list(values[first:last]),
        list(values[last:]),
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*carry, *stacked]


def _while(equation: Any, values: list[Value], passes: Passes) -> Linked:
    params = equation.params
    first, last = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    carry = values[last:]
    condition = passes.link(*program_and_constants(params["cond_jaxpr"]), [*values[:first], *carry])
    body = passes.link(*program_and_constants(params["body_jaxpr"]), [*values[first:last], *carry])
    unify_all(body.outputs, [value.dimensions for value in carry])
    return [value.dimensions for value in carry], (condition, body)


def _zeros_of_while(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    params = linked.equation.params
    first, last = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    carries = zeros[last:]
    while True:
        outputs = passes.prove(linked.programs[1], [*zeros[first:last], *carries])
        following = [zeros_of_both(a, b) for a, b in zip(carries, outputs, strict=True)]
        if following == carries:
            break
        carries = following
    passes.prove(linked.programs[0], [*zeros[:first], *carries])
    return carries


def _replay_while(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    params = linked.equation.params
    first, last = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    condition, body = linked.programs
    return list(
        lax.while_loop(
            lambda carry: passes.replay(condition, [*values[:first], *carry])[0],
            lambda carry: passes.replay(body, [*values[first:last], *carry]),
            list(values[last:]),
        )
    )


RULES = {
    "scan": Rule(_scan, _zeros_of_scan, _replay_scan),
    "while": Rule(_while, _zeros_of_while, _replay_while),
}
