"""Pages, figures and short tables of results."""

from jaxprune.results import Audit, Results, TheoryResults

__all__ = ["Audit", "Results", "TheoryResults"]
