"""Read artefacts of stages from disk, or compute and write them."""

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxprune.errors import DamagedFile
from jaxprune.files import write_atomically
from jaxprune.pipeline.stage import Stage, Workspace
from jaxprune.progress import Progress

T = TypeVar("T")
_RECENT = 3  # networks, each with its masks: the one that is made, and those that it is made from


class NoProgress:
    """A progress display that shows nothing."""

    def start(self, description: str, total: int) -> None:
        """Show nothing."""

    def resume(self, done: int) -> None:
        """Show nothing."""

    def advance(self, note: str = "") -> None:
        """Show nothing."""

    def finish(self) -> None:
        """Show nothing."""

    def say(self, message: str) -> None:
        """Show nothing."""


@dataclass(frozen=True)
class Store:
    """The artefacts of a job, on disk and in this process.

    Attributes:
      workspace: The output folder.
      progress: The display of the work.
      checkpoint_seconds: A training that takes longer than this leaves checkpoints this often.
    """

    workspace: Workspace
    progress: Progress = field(default_factory=NoProgress)
    checkpoint_seconds: float = 30.0
    _remembered: dict[Hashable, Any] = field(default_factory=dict)
    _recent: dict[Hashable, Any] = field(default_factory=dict)  # the one used last at the end

    def remember(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Compute a value once in this process."""
        if key not in self._remembered:
            self._remembered[key] = compute()
        return self._remembered[key]

    def remember_recent(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Compute a value unless it is one of those used last.

        For large values, of which a job has many.
        """
        value = self._recent.pop(key) if key in self._recent else compute()
        self._recent[key] = value
        for oldest in list(self._recent)[:-_RECENT]:
            del self._recent[oldest]
        return value

    def read(self, stage: Stage, read: Callable[[Path], T]) -> T | None:
        """Read the artefact of a stage, or None if not whole.

        A damaged artefact is reported and removed: everything in it can be computed again.

        Args:
          stage: The stage.
          read: Takes the folder of the stage, whose files fit their digests; may raise `DamagedFile`.
        """
        if not self.workspace.done(stage):
            return None
        try:
            return read(self.workspace.read(stage))
        except DamagedFile as damage:
            self.progress.say(f"warning: {damage.fault}; {stage.name} is computed anew")
            self.workspace.discard(stage)
            return None

    def values(self, stage: Stage, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the plain values of a stage, computed unless on disk."""
        values = self.read(stage, _read_values)
        if values is None:
            with self.workspace.writing(stage) as folder:
                write_atomically(folder / "values.json", json.dumps(compute()))
            values = _read_values(self.workspace.read(stage))
        return values

    def part(self, stage: Stage, name: str, compute: Callable[[], Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Return a part of a stage's values, computed unless on disk.

        An interrupted attempt may have left it.

        Args:
          stage: The stage, which is being computed.
          name: The name of the part.
          compute: Returns its arrays by name.
        """
        path = self.workspace.part(stage, f"{name}.npz")
        try:
            with np.load(path) as arrays:
                return dict(arrays)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
            self.progress.say(f"warning: {path} is truncated or altered; it is computed anew")
        arrays: dict[str, Any] = {key: np.asarray(value) for key, value in compute().items()}
        content = io.BytesIO()
        np.savez(content, **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue())
        self.workspace.keep_part(path)
        return arrays


def _read_values(folder: Path) -> dict[str, Any]:
    path = folder / "values.json"
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        values = None
    if not isinstance(values, dict):
        raise DamagedFile(f"{path} is truncated or altered")
    return values
