"""What every stage of a run is given."""

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxprune.data import Grouping
from jaxprune.errors import DamagedFile
from jaxprune.files import write_atomically
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.stage import Stage, Workspace
from jaxprune.progress import Progress

T = TypeVar("T")


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
    values = reuse(context, stage, _values)
    if values is None:
        with context.workspace.writing(stage) as folder:
            write_atomically(folder / "values.json", json.dumps(compute()))
        values = _values(context.workspace.read(stage))
    return values


def part_once(
    context: Context, stage: Stage, name: str, compute: Callable[[], Mapping[str, Any]]
) -> dict[str, np.ndarray]:
    """A part of the values of a stage, by name, computed unless an interrupted attempt has left it.

    Args:
      context: The surroundings.
      stage: The stage, which is being computed.
      name: What the part is called in it.
      compute: Gives the arrays.
    """
    path = context.workspace.part(stage, f"{name}.npz")
    try:
        with np.load(path) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        context.progress.say(f"warning: {path} is truncated or altered; it is computed anew")
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in compute().items()}
    content = io.BytesIO()
    np.savez(content, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())
    context.workspace.keep_part(path)
    return arrays


def reuse(context: Context, stage: Stage, read: Callable[[Path], T]) -> T | None:
    """What a stage that is done holds; None where it is to be computed.

    A damaged stage is said and removed: everything in it can be computed again.

    Args:
      context: The surroundings.
      stage: The stage.
      read: Takes the folder of the stage, whose files fit their digests; may raise `DamagedFile`.
    """
    if not context.workspace.done(stage):
        return None
    try:
        return read(context.workspace.read(stage))
    except DamagedFile as damage:
        context.progress.say(f"warning: {damage.fault}; {stage.name} is computed anew")
        context.workspace.discard(stage)
        return None


def _values(folder: Path) -> dict[str, Any]:
    path = folder / "values.json"
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise DamagedFile(f"{path} is truncated or altered")
    return values
