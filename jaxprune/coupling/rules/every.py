"""The rule of every operation that the analysis knows, by name."""

from collections.abc import Mapping

from jaxprune.coupling.rule import Rule
from jaxprune.coupling.rules import (
    branches,
    calls,
    elementwise,
    indexing,
    loops,
    own_derivatives,
    products,
    reductions,
    shapes,
    stretches,
)
from jaxprune.coupling.rules.unknown import UNKNOWN

RULES: Mapping[str, Rule] = {
    **elementwise.RULES,
    **shapes.RULES,
    **products.RULES,
    **reductions.RULES,
    **stretches.RULES,
    **indexing.RULES,
    **calls.RULES,
    **own_derivatives.RULES,
    **loops.RULES,
    **branches.RULES,
}


def rule_of(name: str) -> Rule:
    """The rule of an operation, known or unknown."""
    return RULES.get(name, UNKNOWN)
