"""Operations that are not known: all that they touch is kept whole."""

from typing import Any

from jaxprune.coupling.dimensions import pin
from jaxprune.coupling.rule import Linked, Passes, Rule, Value, shapes_of, whole_array


def _link(equation: Any, values: list[Value], passes: Passes) -> Linked:
    del passes
    reason = f"the operation {equation.primitive.name} is not known to the analysis"
    for value in values:
        for dimension in value.dimensions:
            pin(dimension, reason)
    return [whole_array(shape, reason) for shape in shapes_of(equation)], ()


UNKNOWN = Rule(_link)
