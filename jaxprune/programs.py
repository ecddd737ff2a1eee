"""Evaluation of traced programs by a rule for their equations."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jax.extend.core import Literal

Value = TypeVar("Value")  # of a variable, with what the caller keeps beside it


def evaluate_program(
    jaxpr: Any,
    constants: Sequence[Any],
    inputs: Sequence[Value],
    *,
    step: Callable[[Any, list[Value]], Sequence[Value]],
    plain: Callable[[Any], Value],
) -> list[Value]:
    """Evaluate a program by a rule for its equations.

    Args:
      jaxpr: The program.
      constants: Arrays, the values of its constants.
      inputs: The values of its inputs.
      step: `(equation, values of its inputs) -> values of its outputs`.
      plain: The value of an array that is a constant or a literal.

    Returns:
      The values of its outputs.
    """
    values: dict[Any, Value] = {}

    def read(variable: Any) -> Value:
        return plain(variable.val) if isinstance(variable, Literal) else values[variable]

    values.update(zip(jaxpr.constvars, map(plain, constants), strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        outputs = step(equation, [read(variable) for variable in equation.invars])
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]
