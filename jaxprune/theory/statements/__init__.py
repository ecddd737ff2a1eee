"""The statements of Tran et al. 2022, as printed and corrected."""

from jaxprune.theory.statements.proposition_1 import Proposition1, proposition1, proposition1_at, stationary_point
from jaxprune.theory.statements.propositions_2_and_3 import (
    Proposition3,
    proposition2,
    proposition3,
    softmax_curvature,
)
from jaxprune.theory.statements.statement import Assumption, Statement, follows
from jaxprune.theory.statements.theorem_1 import Theorem1, bound, corollary1, is_nested, theorem1
from jaxprune.theory.statements.theorem_2 import FORMS, theorem2

__all__ = [
    "FORMS",
    "Assumption",
    "Proposition1",
    "Proposition3",
    "Statement",
    "Theorem1",
    "bound",
    "corollary1",
    "follows",
    "is_nested",
    "proposition1",
    "proposition1_at",
    "proposition2",
    "proposition3",
    "softmax_curvature",
    "stationary_point",
    "theorem1",
    "theorem2",
]
