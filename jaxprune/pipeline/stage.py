"""Stages on disk, addressed by their settings and their parents."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxprune import interruption
from jaxprune.files import (
    CHECKPOINTS,
    SEAL,
    check_seal,
    download,
    is_sealed,
    remove_sealed,
    sealed_folder,
    upload,
    write_atomically,
)
from jaxprune.storage import copy_file

FORMAT = 4  # raise it when the artefacts of a stage change meaning: older ones are then computed anew


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
        """The settings and parents that the address is a digest of."""
        return {
            "format": FORMAT,
            "name": self.name,
            "settings": self.settings,
            "parents": [parent.address for parent in self.parents],
        }

    @property
    def address(self) -> str:
        """The name of its folder: name and digest of its description."""
        text = json.dumps(self.description, sort_keys=True)
        return f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class Workspace:
    """The output folder of a run, with its stages.

    Attributes:
      root: The output folder, which may be in an object store.
      work: Where stages are filled and read: `root` itself, or else a folder of this machine.
    """

    def __init__(self, root: Path, work: Path | None = None):
        self.root = root
        self.work = work or root

    def folder(self, stage: Stage) -> Path:
        """The folder of a stage's artefact, made or not."""
        return self.root / "stages" / stage.address

    def done(self, stage: Stage) -> bool:
        """Return whether the artefact is there, by its seal.

        The seal is written last.
        """
        return is_sealed(self.folder(stage))

    def read(self, stage: Stage) -> Path:
        """Return a local folder with the artefact of a finished stage.

        It is checked against its digests.

        Raises:
          DamagedFile: A file is damaged.
        """
        folder = self._here(stage)
        if folder != self.folder(stage) and not is_sealed(folder):
            download(self.folder(stage), folder)
        check_seal(folder)
        return folder

    def discard(self, stage: Stage) -> None:
        """Remove the artefact of a stage, which is to be computed anew."""
        for folder in dict.fromkeys((self.folder(stage), self._here(stage))):
            remove_sealed(folder)

    @contextmanager
    def writing(self, stage: Stage) -> Iterator[Path]:
        """Open the folder in which a stage is computed.

        It may hold checkpoints of an interrupted attempt.
        """
        interruption.check()
        folder, kept = self._here(stage), self.folder(stage)
        if folder != kept:
            (kept / SEAL).unlink(missing_ok=True)
            download(kept / CHECKPOINTS, folder / CHECKPOINTS)
        with sealed_folder(folder):
            write_atomically(folder / "stage.json", json.dumps(stage.description, indent=1, sort_keys=True))
            yield folder
        if folder != kept:
            upload(folder, kept)

    def part(self, stage: Stage, name: str) -> Path:
        """The file of one part of values, until all are computed."""
        return self._here(stage) / CHECKPOINTS / name

    def keep_part(self, path: Path) -> None:
        """Copy a part to the run's object store, if there is one."""
        if self.work != self.root:
            copy_file(path, self.root / path.relative_to(self.work).as_posix())

    def keep(self, folder: Path) -> None:
        """Copy a checkpoint to the run's object store, if there is one.

        Older checkpoints there are removed.
        """
        if self.work == self.root:
            return
        kept = self.root / folder.relative_to(self.work).as_posix()
        upload(folder, kept)
        for older in list(kept.parent.iterdir()):
            if older.name != kept.name:
                remove_sealed(older)

    def _here(self, stage: Stage) -> Path:
        return self.work / "stages" / stage.address
