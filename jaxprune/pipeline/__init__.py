"""Jobs: a plan of networks, made stage by stage in a folder.

What is done is not done again.
"""

from jaxprune.pipeline.dry_run import Planned, dry_run
from jaxprune.pipeline.finished import JobResult
from jaxprune.pipeline.run import STAGES, compare, run

__all__ = ["STAGES", "JobResult", "Planned", "compare", "dry_run", "run"]
