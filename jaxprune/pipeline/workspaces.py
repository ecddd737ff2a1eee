"""The output folder of a run: locked, and cleared of left-overs."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import filelock

from jaxprune.errors import UserError
from jaxprune.files import MARKER, remove_leftovers
from jaxprune.pipeline.stage import Workspace
from jaxprune.storage import check_reachable, is_remote

LOCK = ".jaxprune-lock"


@contextmanager
def open_workspace(root: Path, say: Callable[[str], None] = lambda message: None) -> Iterator[Workspace]:
    """Takes an output folder for one run at a time.

    Args:
      root: The folder, which may be in an object store.
      say: Takes a warning where the folder cannot be locked.

    Raises:
      UserError: It is a file, cannot be written, holds something else, or is in use by another run.
    """
    check_reachable(root, "--out")
    try:
        _check_contents(root)
        root.mkdir(parents=True, exist_ok=True)
        # The mark first: a folder without it, but not empty, is somebody else's.
        if not (root / MARKER).exists():
            (root / MARKER).write_bytes(b"")
        (root / "stages").mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {root} cannot be written ({_reason(error)}); name another folder") from None
    with ExitStack() as stack:
        if is_remote(root):
            say(f"warning: {root} cannot be locked; let no other run write to it at the same time")
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jaxprune-")))
            yield Workspace(root, work)
            return
        stack.enter_context(_locked(root, say))
        remove_leftovers(root)
        yield Workspace(root)


@contextmanager
def reading(root: Path) -> Iterator[Workspace]:
    """Read an output folder without taking or changing it.

    A run may be writing to it: what is sealed does not change.
    """
    if not is_remote(root):
        yield Workspace(root)
        return
    with tempfile.TemporaryDirectory(prefix="jaxprune-") as work:
        yield Workspace(root, Path(work))


def _check_contents(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise UserError(f"--out {root} is a file; name a folder that is new, empty, or from an earlier run")
    if root.is_dir() and not (root / MARKER).exists() and any(root.iterdir()):
        raise UserError(f"--out {root} is full of something else; name a folder that is new, empty or from a run")


@contextmanager
def _locked(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    lock = filelock.FileLock(root / LOCK)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # that it makes do with a file in place of a lock
            lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"--out {root} is in use by another run; wait for it, or name another folder") from None
    except (NotImplementedError, UserWarning):
        say(_unlocked(root, "its file system has no locks"))
    except OSError as error:
        if not _is_writable(root):
            raise UserError(f"--out {root} cannot be written ({_reason(error)}); name another folder") from None
        say(_unlocked(root, _reason(error)))
    try:
        yield
    finally:
        if lock.is_locked:
            lock.release()


def _unlocked(root: Path, reason: str) -> str:
    return f"warning: {root} cannot be locked ({reason}); let no other run write to it at the same time"


def _is_writable(root: Path) -> bool:
    try:
        (root / MARKER).write_bytes(b"")
    except OSError:
        return False
    return True


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
