"""What every stage of a run is given."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jaxprune.data import Grouping
from jaxprune.files import write_atomically
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.stage import Stage, Workspace
from jaxprune.types import Progress


class Silent:
    """A progress display that shows nothing."""

    def start(self, description: str, total: int) -> None:
        """Nothing."""

    def resume(self, done: int) -> None:
        """Nothing."""

    def advance(self, note: str = "") -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Context:
    """The surroundings of a stage.

    Attributes:
      experiment: The functions and arrays.
      workspace: The output folder.
      progress: Where work is told of.
      checkpoint_seconds: A training that takes longer than this leaves checkpoints this often.
      loaded: Artefacts read or made in this process, by address.
    """

    experiment: Experiment
    workspace: Workspace
    progress: Progress
    checkpoint_seconds: float
    loaded: dict[str, Any] = field(default_factory=dict)


def grouping_settings(grouping: Grouping) -> dict[str, Any]:
    """What the address of a stage says of the groups that its result depends on."""
    return {"name": grouping.name, "fingerprint": grouping.fingerprint()}


def json_once(context: Context, stage: Stage, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The plain values that are the artefact of a stage, computed unless they are on disk."""
    if not context.workspace.done(stage):
        with context.workspace.writing(stage) as folder:
            write_atomically(folder / "values.json", json.dumps(compute()))
    return json.loads((context.workspace.read(stage) / "values.json").read_text())
