"""Results, and what is made of them: tables, figures, and one self-contained HTML page. Pure: nothing is trained."""

from jaxprune.results import Audit, Results, TheoryResults

__all__ = ["Audit", "Results", "TheoryResults"]
