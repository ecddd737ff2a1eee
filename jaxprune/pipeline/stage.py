"""Stages on disk: each has a folder addressed by its own settings and by the stages that it rests on."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxprune.errors import UserError
from jaxprune.files import MARKER, check_seal, whole_folder, write_atomically

FORMAT = 2  # raise it when the artefacts of a stage change meaning: older ones are then computed anew


@dataclass(frozen=True)
class Stage:
    """A piece of work and everything that decides its result.

    Attributes:
      name: What it is called, such as "dense".
      settings: Its own settings, as plain values.
      parents: The stages whose artefacts it reads.
    """

    name: str
    settings: Mapping[str, Any]
    parents: tuple["Stage", ...] = ()

    @property
    def description(self) -> dict[str, Any]:
        """What its address is made of."""
        return {
            "format": FORMAT,
            "name": self.name,
            "settings": self.settings,
            "parents": [parent.address for parent in self.parents],
        }

    @property
    def address(self) -> str:
        """The name of its folder: its name and a digest of its description."""
        text = json.dumps(self.description, sort_keys=True)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Workspace:
    """The output folder of a run, with its stages."""

    def __init__(self, root: Path):
        self.root = root

    def folder(self, stage: Stage) -> Path:
        """Where the artefact of a stage is, or will be."""
        return self.root / "stages" / stage.address

    def done(self, stage: Stage) -> bool:
        """Whether its artefact is there."""
        return self.folder(stage).is_dir()

    def read(self, stage: Stage) -> Path:
        """The folder of a stage that is done, its files checked against their digests.

        Raises:
          UserError: A file is damaged.
        """
        folder = self.folder(stage)
        check_seal(folder, self.remedy(stage))
        return folder

    def remedy(self, stage: Stage) -> str:
        """What to do when its artefact is damaged."""
        return f"delete {self.folder(stage)} and run again; it will be computed anew"

    @contextmanager
    def writing(self, stage: Stage) -> Iterator[Path]:
        """The folder aside in which a stage is computed, which may hold what an interrupted attempt left."""
        with whole_folder(self.folder(stage), resume=True) as folder:
            write_atomically(folder / "stage.json", json.dumps(stage.description, indent=1, sort_keys=True))
            yield folder


@contextmanager
def open_workspace(root: Path) -> Iterator[Workspace]:
    """Takes an output folder for one run at a time.

    Raises:
      UserError: It is a file, cannot be written, holds something else, or is in use by another run.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"--out {root} is a file; name a folder that is new, empty, or from an earlier run")
    marker = root / MARKER
    if root.is_dir() and not marker.exists() and any(root.iterdir()):
        raise UserError(f"--out {root} is full of something else; name a folder that is new, empty or from a run")
    try:
        (root / "stages").mkdir(parents=True, exist_ok=True)
        lock = marker.open("a")
    except OSError as error:
        raise UserError(f"--out {root} cannot be written ({error.strerror}); name another folder") from None
    with lock:
        if not os.access(root, os.W_OK):
            raise UserError(f"--out {root} cannot be written; name another folder")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"--out {root} is in use by another run; wait for it, or name another folder") from None
        yield Workspace(root)
