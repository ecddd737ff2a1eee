"""The statements of Tran et al. 2022, each checked as a result: as printed, and corrected where that is wrong."""

from jaxprune.theory.statements.proposition_1 import (
    Proposition1,
    counter_example,
    proposition1,
    proposition1_at,
    stationary_point,
)
from jaxprune.theory.statements.statement import Assumption, Statement, follows
from jaxprune.theory.statements.theorem_1 import Theorem1, corollary1, is_nested, theorem1
from jaxprune.theory.statements.theorem_2 import (
    FORMS,
    Proposition3,
    printed_counter_example,
    proposition2,
    proposition3,
    softmax_curvature,
    theorem2,
)

__all__ = [
    "FORMS",
    "Assumption",
    "Proposition1",
    "Proposition3",
    "Statement",
    "Theorem1",
    "corollary1",
    "counter_example",
    "follows",
    "is_nested",
    "printed_counter_example",
    "proposition1",
    "proposition1_at",
    "proposition2",
    "proposition3",
    "softmax_curvature",
    "stationary_point",
    "theorem1",
    "theorem2",
]
