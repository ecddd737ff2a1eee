"""The second pass: prove that the smaller network is the masked one.

The smaller program has every array of the masked one without the places that are cut. That holds for an operation on
each element by itself, and for one that moves axes. It holds for a sum over an axis only if the array is 0 at the
places that are cut. Parameters are: the pruned slices are 0. So it is followed through the program where arrays are
known to be 0, and whatever is summed over where that is not known is pinned.
"""

from collections.abc import Sequence
from typing import Any

from jaxprune.coupling.rule import LinkedEquation, LinkedProgram, Passes, Zeros, constant_of
from jaxprune.programs import evaluate_program


def prove(program: LinkedProgram, zeros: Sequence[Zeros]) -> list[Zeros]:
    """Pin every leaf whose cut would change what the program computes.

    Args:
      program: The linked program.
      zeros: Where its inputs are 0.

    Returns:
      Where its outputs are known to be 0.
    """
    rest = iter(program.equations)

    def step(equation: Any, values: list[Zeros]) -> Sequence[Zeros]:
        del equation
        linked: LinkedEquation = next(rest)
        return linked.rule.zeros(linked, values, Passes(prove=prove))

    return evaluate_program(program.jaxpr, program.constants, list(zeros), step=step, plain=_of_constant)


def _of_constant(array: Any) -> Zeros:
    return Zeros(constant=constant_of(array))
