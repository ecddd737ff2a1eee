"""Functions with derivatives of their own, which a smaller program must keep."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.compat import evaluate_equation
from jaxprune.coupling.dimensions import Dimensions
from jaxprune.coupling.rule import Linked, LinkedEquation, LinkedProgram, Passes, Rule, Value, Zeros, unify_all
from jaxprune.coupling.rules.calls import call


def _is_differentiable(variable: Any) -> bool:
    return jnp.issubdtype(variable.aval.dtype, jnp.inexact)


def _trace_with(function: Any, equation: Any, extra: Sequence[Any]) -> Any:
    """Trace a function of the inputs of an equation and further arrays."""
    inputs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in (*equation.invars, *extra)]
    traced = jax.make_jaxpr(function)(*inputs)
    return traced.replace(jaxpr=_needed(traced.jaxpr))


def _needed(jaxpr: Any) -> Any:
    """A program without what its outputs do not need.

    Most derivatives compute the function as well, which would be linked, with its derivative, at every order.
    """
    needed = {id(variable) for variable in jaxpr.outvars}
    equations = []
    for equation in reversed(jaxpr.eqns):
        if equation.effects or any(id(variable) in needed for variable in equation.outvars):
            equations.append(equation)
            needed |= {id(variable) for variable in equation.invars}
    return jaxpr.replace(eqns=equations[::-1])


def _differentiable(variables: Sequence[Any]) -> list[int]:
    return [i for i, variable in enumerate(variables) if _is_differentiable(variable)]


def _own_jvp(equation: Any, values: list[Value], passes: Passes) -> Linked:
    """A function with a forward derivative of its own."""
    outputs, programs = call(equation, values, passes)
    if not programs or passes.link_derivative is None:
        return outputs, programs
    inputs = [value.dimensions for value in values]
    return outputs, (*programs, _linked_jvp(equation, inputs, outputs, passes.link_derivative))


def _linked_jvp(
    equation: Any, inputs: Sequence[Dimensions], outputs: Sequence[Dimensions], link: Callable[..., LinkedProgram]
) -> LinkedProgram:
    """The program of (inputs, changes of the differentiable ones) -> changes of the differentiable outputs."""
    places, count = _differentiable(equation.invars), len(equation.invars)

    def derivative(*arguments: Any) -> list[Any]:
        values, tangents = list(arguments[:count]), arguments[count:]
        function = _of_differentiable(equation, values)
        return jax.jvp(function, [values[i] for i in places], list(tangents))[1]

    traced = _trace_with(derivative, equation, [equation.invars[i] for i in places])
    program = link(traced.jaxpr, traced.consts, [*map(Value, inputs), *(Value(inputs[i]) for i in places)])
    unify_all(program.outputs, [outputs[i] for i in _differentiable(equation.outvars)])
    return program


def _of_differentiable(equation: Any, values: Sequence[Any]) -> Callable[..., list[Any]]:
    """An equation as a function from its differentiable inputs to such outputs."""
    places, of_outputs = _differentiable(equation.invars), _differentiable(equation.outvars)

    def function(*some: Any) -> list[Any]:
        inputs = list(values)
        for place, value in zip(places, some, strict=True):
            inputs[place] = value
        outputs = evaluate_equation(equation, inputs)
        return [outputs[i] for i in of_outputs]

    return function


def _zeros_of_own_jvp(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    if not linked.programs:
        return [Zeros()] * len(linked.outputs)
    program, *derivatives = linked.programs
    # A tangent is 0 wherever its value is kept at 0.
    tangents = [Zeros(zeros[i].known) for i in _differentiable(linked.equation.invars)]
    for derivative in derivatives:
        passes.prove(derivative, [*zeros, *tangents])
    return passes.prove(program, zeros)


def _replay_own_jvp(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    places = _differentiable(linked.equation.invars)
    of_outputs = _differentiable(linked.equation.outvars)
    function = jax.custom_jvp(lambda *inputs: passes.replay(linked.programs[0], list(inputs)))

    def derivative(primals: Any, tangents: Any) -> Any:
        outputs = _replay_own_jvp(linked, list(primals), passes)  # which has this derivative again
        changes = [jnp.asarray(tangents[i]) for i in places]
        results = iter(passes.replay(_derivative_of(linked, _linked_jvp, passes), [*primals, *changes]))
        return outputs, [next(results) if i in of_outputs else _no_tangent(out) for i, out in enumerate(outputs)]

    function.defjvp(derivative)
    return list(function(*values))


def _derivative_of(
    linked: LinkedEquation, link_derivative: Callable[..., LinkedProgram], passes: Passes
) -> LinkedProgram:
    """The derivative, linked at its first use if need be."""
    if len(linked.programs) < 2:
        program = link_derivative(linked.equation, linked.inputs, linked.outputs, passes.link_derivative)
        linked.programs = (*linked.programs, program)
    return linked.programs[1]


def _no_tangent(output: Any) -> Any:
    return jnp.zeros(output.shape, jax.dtypes.float0)


def _own_vjp(equation: Any, values: list[Value], passes: Passes) -> Linked:
    """A function with a backward derivative of its own."""
    outputs, programs = call(equation, values, passes)
    if not programs or passes.link_derivative is None:
        return outputs, programs
    inputs = [value.dimensions for value in values]
    return outputs, (*programs, _linked_vjp(equation, inputs, outputs, passes.link_derivative))


def _linked_vjp(
    equation: Any, inputs: Sequence[Dimensions], outputs: Sequence[Dimensions], link: Callable[..., LinkedProgram]
) -> LinkedProgram:
    """The program of (inputs, cotangents of the differentiable outputs) -> those of the differentiable inputs."""
    places, count = _differentiable(equation.invars), len(equation.invars)
    of_outputs = _differentiable(equation.outvars)

    def derivative(*arguments: Any) -> list[Any]:
        values, cotangents = list(arguments[:count]), list(arguments[count:])
        return list(jax.vjp(_of_differentiable(equation, values), *(values[i] for i in places))[1](cotangents))

    traced = _trace_with(derivative, equation, [equation.outvars[i] for i in of_outputs])
    program = link(traced.jaxpr, traced.consts, [*map(Value, inputs), *(Value(outputs[i]) for i in of_outputs)])
    unify_all(program.outputs, [inputs[i] for i in places])
    return program


def _zeros_of_own_vjp(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    if not linked.programs:
        return [Zeros()] * len(linked.outputs)
    program, *derivatives = linked.programs
    # Nothing is known of cotangents: at places that are cut they are what the rest of the network makes of them.
    cotangents = [Zeros() for _ in _differentiable(linked.equation.outvars)]
    for derivative in derivatives:
        passes.prove(derivative, [*zeros, *cotangents])
    return passes.prove(program, zeros)


def _replay_own_vjp(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    places = _differentiable(linked.equation.invars)
    of_outputs = _differentiable(linked.equation.outvars)

    def forward(*inputs: Any) -> tuple[Any, Any]:
        return passes.replay(linked.programs[0], list(inputs)), inputs

    def backward(inputs: Any, cotangents: Any) -> tuple[Any, ...]:
        program = _derivative_of(linked, _linked_vjp, passes)
        results = passes.replay(program, [*inputs, *(cotangents[i] for i in of_outputs)])
        of_place = dict(zip(places, results, strict=True))
        return tuple(of_place[i] if i in of_place else _no_tangent(value) for i, value in enumerate(inputs))

    function = jax.custom_vjp(lambda *inputs: passes.replay(linked.programs[0], list(inputs)))
    function.defvjp(forward, backward)
    return list(function(*values))


RULES = {
    "custom_jvp_call": Rule(_own_jvp, _zeros_of_own_jvp, _replay_own_jvp),
    **{
        name: Rule(_own_vjp, _zeros_of_own_vjp, _replay_own_vjp)
        for name in ("custom_vjp_call", "custom_vjp_call_jaxpr")
    },
}
