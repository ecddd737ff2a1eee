"""The checkpoints of a training that is under way."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import checkpoints, interruption
from jaxprune.errors import DamagedFile, TrainingDiverged, UserError
from jaxprune.files import CHECKPOINTS, check_seal, is_sealed, remove_sealed, sealed_folder, write_atomically
from jaxprune.pipeline.store import Store
from jaxprune.types import Logs

_DIGITS = {"epoch": 5, "step": 9}


class Kept(NamedTuple):
    """A point of a training that it can go on from.

    Attributes:
      done: Epochs or steps so far.
      state: The state after them, any pytree.
      logs: The logs of each part so far, leaves [R, steps, ...].
    """

    done: int
    state: Any
    logs: tuple[Logs, ...]


def save_logs(folder: Path, logs: Logs) -> None:
    """Write the logs of a training into the folder of its stage."""
    content = io.BytesIO()
    np.savez(content, **logs)  # pyright: ignore[reportArgumentType] (no log is called allow_pickle)
    write_atomically(folder / "logs.npz", content.getvalue())


def read_logs(folder: Path) -> Logs:
    """The logs that were saved with `save_logs`."""
    with np.load(folder / "logs.npz") as logs:
        return dict(logs)


def newest(store: Store, folder: Path, unit: str, like: Any) -> Kept:
    """Read the newest whole checkpoint of a stage, else `like`.

    A checkpoint that is damaged is said and removed, and so is, unsaid, one that a kill left half written.

    Args:
      store: Tells of what is damaged.
      folder: The folder of the stage.
      unit: What is counted, "epoch" or "step".
      like: The state at the beginning.
    """
    first = Kept(0, like, ())
    for path in sorted((folder / CHECKPOINTS).glob(f"{unit}-*"), reverse=True):
        try:
            if is_sealed(path):
                check_seal(path)
                done = int(path.name.removeprefix(f"{unit}-"))
                return Kept(done, checkpoints.restore(path / "state", like), (read_logs(path),)) if done else first
        except UserError as error:
            fault = error.fault if isinstance(error, DamagedFile) else str(error)
            store.progress.say(f"warning: {fault}; the training goes on from an earlier state")
        remove_sealed(path)
    return first


class CheckpointWriter:
    """Keeps the last good state of a training, and saves it.

    Attributes:
      kept: The last good state; one attribute, that no signal finds half of it changed.
    """

    def __init__(self, folder: Path, store: Store, begun: Kept, unit: str):
        self.folder, self.store, self.unit = folder, store, unit
        self.kept = begun._replace(state=jax.tree.map(jnp.copy, begun.state))
        self.saved = time.monotonic()

    def __call__(self, done: int, state: Any, logs: Logs) -> None:
        """An epoch has ended."""
        interruption.check()
        # A copy: the state itself is donated to the next epoch, which may diverge.
        self.kept = Kept(done, jax.tree.map(jnp.copy, state), (*self.kept.logs, logs))
        self.store.progress.advance(f"loss {float(np.mean(logs['loss'][..., -1])):.3f}")
        if time.monotonic() - self.saved >= self.store.checkpoint_seconds:
            self.save()
            self.saved = time.monotonic()

    def logs(self) -> Logs:
        """All logs so far, [R, steps, ...]."""
        parts = self.kept.logs
        return {name: np.concatenate([logs[name] for logs in parts], 1) for name in (parts[0] if parts else {})}

    def path(self) -> Path:
        """The path of the saved state."""
        return self.folder / CHECKPOINTS / f"{self.unit}-{self.kept.done:0{_DIGITS[self.unit]}d}"

    def save(self) -> None:
        """Save the state if it is new, then drop older ones."""
        with interruption.shielded():
            path = self.path()
            if not is_sealed(path):
                with sealed_folder(path):
                    checkpoints.save(path / "state", self.kept.state)
                    save_logs(path, self.logs())
                self.store.workspace.keep(path)
            for older in path.parent.iterdir():
                if older != path:
                    remove_sealed(older)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Saves the last good state where a training is interrupted or diverges."""
        try:
            yield
        except TrainingDiverged:
            self.save()
            raise
        except KeyboardInterrupt as error:
            if self.kept.done:
                self.save()
                error.add_note(f"after {self.unit} {self.kept.done}")
            raise
