"""Branches, by a value or by the platform."""

from typing import Any

from jax import lax

from jaxprune.compat import program_and_constants
from jaxprune.coupling.rule import (
    Linked,
    LinkedEquation,
    Passes,
    Rule,
    Value,
    Zeros,
    shapes_of,
    unify_all,
    zeros_of_both,
)


def _branches(equation: Any, values: list[Value], passes: Passes) -> Linked:
    programs = tuple(passes.link(*program_and_constants(b), values[1:]) for b in equation.params["branches"])
    for program in programs[1:]:
        unify_all(programs[0].outputs, program.outputs)
    return list(programs[0].outputs), programs


def _zeros_of_branches(linked: LinkedEquation, zeros: list[Zeros], passes: Passes) -> list[Zeros]:
    results = [passes.prove(program, zeros[1:]) for program in linked.programs]
    met = results[0]
    for other in results[1:]:
        met = [zeros_of_both(a, b) for a, b in zip(met, other, strict=True)]
    return met


def _replay_branches(linked: LinkedEquation, values: list[Any], passes: Passes) -> list[Any]:
    branches = [lambda *inputs, p=program: passes.replay(p, list(inputs)) for program in linked.programs]
    platforms = linked.equation.params.get("branches_platforms")
    if platforms:
        named = dict(zip(platforms, branches, strict=True))
        forms = {name or "default": branch for names, branch in named.items() for name in names or (None,)}
        return list(lax.platform_dependent(*values[1:], **forms))
    return list(lax.switch(values[0], branches, *values[1:]))


def _platform_index(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del values, passes
    return [()] * len(shapes_of(equation)), ()


RULES = {
    "cond": Rule(_branches, _zeros_of_branches, _replay_branches),
    "platform_index": Rule(_platform_index),
}
