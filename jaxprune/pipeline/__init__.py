"""A run is a folder, and a stage is a function that does nothing where its artefact exists already."""

from jaxprune.pipeline.comparison import compare
from jaxprune.pipeline.finished import ComparisonResult, RunResult
from jaxprune.pipeline.plan import Planned, plan_comparison, plan_run
from jaxprune.pipeline.run import STAGES, run

__all__ = [
    "STAGES",
    "ComparisonResult",
    "Planned",
    "RunResult",
    "compare",
    "plan_comparison",
    "plan_run",
    "run",
]
