"""A run is a folder, and a stage is a function that does nothing where its artefact exists already."""

from jaxprune.pipeline.comparison import ComparisonResult, compare
from jaxprune.pipeline.run import STAGES, RunResult, run

__all__ = ["STAGES", "ComparisonResult", "RunResult", "compare", "run"]
