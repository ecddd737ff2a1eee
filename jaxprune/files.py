"""Files and folders that are whole or absent: written aside, sealed with digests, renamed."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxprune.errors import UserError
from jaxprune.text import digest_of

SEAL = "sha256.json"
MARKER = ".jaxprune-run"  # in the output folder of a run
_LONGEST = 120  # bytes of the name of a file or folder, to which others add: file systems take 255


def safe_name(name: str) -> str:
    """A name for files and folders: "race*sex" becomes "race-sex", and other names stay apart from it."""
    clean = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")
    if re.fullmatch(r"[A-Za-z0-9_]+(\s*\*\s*[A-Za-z0-9_]+)*", name) and len(clean) <= _LONGEST:
        return clean
    return f"{clean[: _LONGEST - 7]}-{digest_of(name, 6)}".strip("-")


def folder_name(name: str) -> str:
    """The name itself where every file system can hold it as a folder, else a safe name made from it.

    Spaces, brackets and letters of any script stay; "..", a slash, a control character or a very long name do not.
    """
    portable = name.isprintable() and not re.search(r'[/\\:*?"<>|]', name) and name == name.strip(" .")
    return name if portable and 0 < len(name.encode()) <= _LONGEST else safe_name(name)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file aside and renames it into place, so that a reader never sees half of it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        aside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, resume: bool = False) -> Iterator[Path]:
    """A folder to fill, which becomes `path` (in place of one that is there) when the block ends without an error.

    Args:
      path: Where it is to be.
      resume: Whether to go on with what an interrupted attempt left, rather than to begin afresh.

    Yields:
      The folder aside, `<path>.partial`; it is kept after an error, to be resumed.
    """
    aside = path.with_name(path.name + ".partial")
    if aside.exists() and not resume:
        shutil.rmtree(aside)
    aside.mkdir(parents=True, exist_ok=True)
    yield aside
    seal(aside)
    before = path.with_name(path.name + ".before")
    if path.exists():
        os.replace(path, before)
    os.replace(aside, path)
    shutil.rmtree(before, ignore_errors=True)


def seal(folder: Path) -> None:
    """Writes the SHA-256 of every file of a folder into it."""
    digests = {name: _digest(folder / name) for name in _files(folder)}
    write_atomically(folder / SEAL, json.dumps(digests, indent=1))


def check_seal(folder: Path, remedy: str) -> None:
    """Checks that every file of a sealed folder is there and unchanged.

    Args:
      folder: The folder.
      remedy: What to do otherwise, for the message.

    Raises:
      UserError: A file is missing, truncated or altered.
    """
    try:
        digests = json.loads((folder / SEAL).read_bytes())
        damaged = [n for n, digest in digests.items() if not (folder / n).is_file() or _digest(folder / n) != digest]
    except (OSError, ValueError, AttributeError):
        damaged = [SEAL]
    if damaged:
        missing = not (folder / damaged[0]).exists()
        raise UserError(f"{folder / damaged[0]} is {'missing' if missing else 'truncated or altered'}; {remedy}")


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != SEAL)


def _digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
