"""Operations that call a program once."""

from typing import Any

import jax

from jaxprune.compat import called_program
from jaxprune.coupling.rule import Linked, LinkedEquation, Passes, Rule, Value, Zeros
from jaxprune.coupling.rules.unknown import UNKNOWN


def call(equation: Any, values: list[Value], passes: Passes) -> Linked:
    """Link the program that an equation calls."""
    called = called_program(equation)
    if called is None:
        return UNKNOWN.link(equation, values, passes)
    program = passes.link(*called, values)
    return list(program.outputs), (program,)


def _zeros_of_call(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    if not linked.programs:
        return [Zeros()] * len(linked.outputs)
    return passes.prove(linked.programs[0], zeros)


def _replay_call(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    return passes.replay(linked.programs[0], values)


def _replay_remat(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    params = linked.equation.params
    again = jax.checkpoint(
        lambda *inputs: passes.replay(linked.programs[0], list(inputs)),
        policy=params["policy"],
        prevent_cse=params["prevent_cse"],
    )
    return list(again(*values))


_CALL = Rule(call, _zeros_of_call, _replay_call)
RULES = {
    **dict.fromkeys(("jit", "pjit", "closed_call", "core_call"), _CALL),
    **{name: Rule(call, _zeros_of_call, _replay_remat) for name in ("remat", "remat2", "checkpoint")},
}
