"""Files and folders that are whole or absent.

They are written aside and renamed, or sealed with digests last.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jaxprune.errors import DamagedFile
from jaxprune.storage import copy_file, files_in, is_remote, remove_tree
from jaxprune.text import digest_of as text_digest

SEAL = "sha256.json"
MARKER = ".jaxprune-run"  # in the output folder of a run
CHECKPOINTS = "checkpoints"  # in a folder that is being filled: what an interrupted attempt goes on from
_LONGEST = 120  # bytes of the name of a file or folder, to which others add: file systems take 255
_TRIED = 32 << 20  # bytes that are written to see whether there is room
_ASIDE = re.compile(r"\..+\.\d+\.tmp")  # the names of files that are being written
_ATTEMPTS = (".partial", ".before")  # the ends of the names of folders that are being written or replaced


def safe_name(name: str) -> str:
    """Make a name safe for files: "race*sex" becomes "race-sex".

    Other names get a digest, so that they stay apart.
    """
    clean = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")
    if re.fullmatch(r"[A-Za-z0-9_]+(\s*\*\s*[A-Za-z0-9_]+)*", name) and len(clean) <= _LONGEST:
        return clean
    return f"{clean[: _LONGEST - 7]}-{text_digest(name, 6)}".strip("-")


def folder_name(name: str) -> str:
    """Return the name where any system takes it, else a safe one.

    Spaces, brackets and letters of any script stay; "..", a slash, a control character or a very long name do not.
    """
    portable = name.isprintable() and not re.search(r'[/\\:*?"<>|]', name) and name == name.strip(" .")
    return name if portable and 0 < len(name.encode()) <= _LONGEST else safe_name(name)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file aside, then rename it into place.

    An object store shows a file once all of it is there, and needs no renaming.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    if is_remote(path):
        path.write_bytes(data)
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path):
            aside.write_bytes(data)
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in the system's errors: a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = str(path)
        raise


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write, naming it in errors on closing.

    A full disk may show only when a file is closed, and that error names no file.
    """
    file = path.open("wb")
    try:
        yield file
    finally:
        with naming(path):
            file.close()


def check_room(folder: Path, size: int) -> None:
    """Raise a plain error if a disk has no room.

    Args:
      folder: Where files are to be written.
      size: How many bytes.

    Raises:
      OSError: The disk or the quota is full, or the folder cannot be written.
    """
    aside = folder / f".room.{os.getpid()}.tmp"
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    size = min(size, _TRIED)  # a quota shows only when something is written
    try:
        with naming(folder), aside.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.write(bytes(size))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # of file systems that cannot reserve
            raise
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Fill a folder aside, then move it to `path`.

    It replaces what is there when the block ends without an error.

    Args:
      path: Where it is to be.

    Yields:
      The folder aside, `<path>.partial`; it is kept after an error.
    """
    aside, before = (path.with_name(path.name + end) for end in _ATTEMPTS)
    remove_tree(aside)
    aside.mkdir(parents=True)
    yield aside
    seal(aside)
    remove_tree(before)
    if path.exists():
        os.replace(path, before)
    os.replace(aside, path)
    remove_tree(before)


@contextmanager
def sealed_folder(path: Path) -> Iterator[Path]:
    """Fill a folder in place, and seal it when it is whole.

    The seal is written when the block ends without an error.

    What an interrupted attempt left in it is removed, but for the folder `CHECKPOINTS`, from which the work can go on;
    that one is removed once the seal is there. Nothing is renamed, so a file system need not be able to.
    """
    (path / SEAL).unlink(missing_ok=True)
    path.mkdir(parents=True, exist_ok=True)
    for left in path.iterdir():
        if left.name != CHECKPOINTS:
            remove_tree(left)
    yield path
    seal(path)
    remove_tree(path / CHECKPOINTS)


def is_sealed(folder: Path) -> bool:
    """Return True if a folder was filled to the end.

    `check_seal` tells if it has changed since.
    """
    return (folder / SEAL).is_file() if not is_remote(folder) else (folder / SEAL).exists()


def remove_sealed(folder: Path) -> None:
    """Remove a sealed folder, its seal first.

    A kill on the way leaves nothing that could be taken for whole.
    """
    remove_tree(folder, first=SEAL)


def seal(folder: Path) -> None:
    """Writes the SHA-256 of every file of a folder into it."""
    digests = {name: digest_of(folder / name) for name in _sealed_files(folder)}
    write_atomically(folder / SEAL, json.dumps(digests, indent=1))


def check_seal(folder: Path, remedy: str = "") -> None:
    """Check that a sealed folder holds exactly its sealed files, unchanged.

    Args:
      folder: The folder.
      remedy: What to do otherwise, for the message.

    Raises:
      DamagedFile: A file is missing, truncated or altered, or is not in the seal.
    """
    try:
        digests = dict(json.loads((folder / SEAL).read_bytes()))
    except FileNotFoundError:
        raise DamagedFile(f"{folder / SEAL} is missing", remedy) from None
    except (OSError, ValueError, TypeError):
        raise DamagedFile(f"{folder / SEAL} is truncated or altered", remedy) from None
    present = _sealed_files(folder)
    for name in sorted(digests.keys() | set(present)):
        if name not in present:
            raise DamagedFile(f"{folder / name} is missing", remedy)
        if name not in digests:
            # A file manager may leave hidden files of its own.
            if not Path(name).name.startswith("."):
                raise DamagedFile(f"{folder / SEAL} is truncated or altered: it lacks {name}", remedy)
        elif digest_of(folder / name) != digests[name]:
            raise DamagedFile(f"{folder / name} is truncated or altered", remedy)


def upload(folder: Path, target: Path) -> None:
    """Copy a sealed folder to an object store, its seal last.

    Checkpoints that lie there are removed after it.
    """
    (target / SEAL).unlink(missing_ok=True)
    names = [name for name in files_in(folder) if name != SEAL]
    for name in names:
        copy_file(folder / name, target / name)
    for name in set(files_in(target)) - set(names):
        if not name.startswith(f"{CHECKPOINTS}/"):
            (target / name).unlink(missing_ok=True)
    copy_file(folder / SEAL, target / SEAL)
    remove_tree(target / CHECKPOINTS)


def download(folder: Path, target: Path) -> None:
    """Copy what is in a folder of an object store."""
    remove_tree(target)
    for name in files_in(folder):
        copy_file(folder / name, target / name)


def remove_leftovers(root: Path) -> None:
    """Remove what killed writers left in a run's folder.

    Call it where no other process can be writing.

    Folders are removed among the stages alone: elsewhere they may be the user's own.
    """
    for folder, folders, files in os.walk(root):
        of_stages = Path(folder).is_relative_to(root / "stages")
        for name in [name for name in folders if of_stages and name.endswith(_ATTEMPTS)]:
            folders.remove(name)
            remove_sealed(Path(folder, name))
        if SEAL in files and CHECKPOINTS in folders:
            folders.remove(CHECKPOINTS)
            remove_tree(Path(folder, CHECKPOINTS))
        for name in filter(_ASIDE.fullmatch, files):
            Path(folder, name).unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    if is_remote(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _sealed_files(folder: Path) -> list[str]:
    """Return the files that a seal covers.

    Seals of folders within are checked where those are read.
    """
    return [
        name for name in files_in(folder) if name.rpartition("/")[2] != SEAL and not name.startswith(f"{CHECKPOINTS}/")
    ]
