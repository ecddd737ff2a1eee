"""Results of a job as one table, stored as JSON and CSV."""

from jaxprune.results.answer import Answer, answer_of, headline_sparsity
from jaxprune.results.comparison import Comparison
from jaxprune.results.records import SPLITS, Audit, Grouped, Network, Results
from jaxprune.results.store import load
from jaxprune.results.tables import COLUMNS, TABLES
from jaxprune.results.theory import TheoryResults

__all__ = [
    "COLUMNS",
    "SPLITS",
    "TABLES",
    "Answer",
    "Audit",
    "Comparison",
    "Grouped",
    "Network",
    "Results",
    "TheoryResults",
    "answer_of",
    "headline_sparsity",
    "load",
]
