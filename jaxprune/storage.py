"""Local paths and addresses in object stores, such as gs://bucket/folder."""

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from jaxprune.errors import UserError

_NEEDED = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs"}  # what reads and writes an object store, by scheme


def to_path(text: str | Path) -> Path:
    """A local path, or one of an object store such as gs://bucket.

    Raises:
      UserError: The scheme of an address is not known.
    """
    scheme = scheme_of(text)
    if not scheme:
        return expand(text)
    if scheme not in _NEEDED:
        raise UserError(
            f"{_written(text)}: {scheme}:// is not known; give a local folder, or {', '.join(map(_address, _NEEDED))}"
        )
    from etils import epath  # comes with orbax

    return cast(Path, epath.Path(_written(text)))


def expand(text: str | Path) -> Path:
    """A local path with `~` replaced by the home folder.

    Raises:
      UserError: There is no such home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{text}: the home folder that ~ stands for is not known; write the path in full") from None


def scheme_of(path: str | Path) -> str:
    """The scheme of an address, such as "gs"; empty for a local path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", str(path))  # pathlib makes one slash of two
    return found[1].lower() if found else ""


def local(text: str, what: str) -> str:
    """A local path with `~` expanded; addresses of object stores are refused.

    Args:
      text: The path, or a name that is none.
      what: The setting or flag, for the message.

    Raises:
      UserError: It is an address.
    """
    if scheme_of(text):
        raise UserError(f"{what}: {text} is not on this machine, and only --out may be elsewhere; copy it here first")
    return str(expand(text)) if text.startswith("~") else text


def is_remote(path: Path) -> bool:
    """Return True if a path is in an object store."""
    return not isinstance(path, Path)


def check_reachable(path: Path, flag: str) -> None:
    """Raise if an object store cannot be reached, before any work.

    Args:
      path: A path; local ones are not looked at.
      flag: What it was given for, for the message.

    Raises:
      UserError: A package is missing, or the store refuses.
    """
    if not is_remote(path):
        return
    scheme = scheme_of(path)
    try:
        path.exists()
    except ImportError:
        raise UserError(
            f"{flag} {path}: {_address(scheme)} needs a package that is not installed; "
            f"pip install {_NEEDED[scheme]}, or give a local folder"
        ) from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{flag} {path} cannot be reached ({reason[:200]}); check its name and your access") from None


def files_in(folder: Path) -> list[str]:
    """The files of a folder, recursively, as sorted relative paths."""
    if is_remote(folder):
        return sorted(_remote_files(folder, ""))
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def copy_file(source: Path, target: Path) -> None:
    """Copy a file from, to or within an object store."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def remove_tree(folder: Path, *, first: str = "") -> None:
    """Remove a folder, if it is there.

    Args:
      folder: The folder.
      first: The file that is removed before all others.
    """
    if first:
        (folder / first).unlink(missing_ok=True)
    if is_remote(folder):
        with suppress(FileNotFoundError):
            cast(Any, folder).rmtree()
    elif folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
    else:
        folder.unlink(missing_ok=True)


def _remote_files(folder: Path, prefix: str) -> Iterator[str]:
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.is_dir():
            yield from _remote_files(path, f"{prefix}{path.name}/")
        else:
            yield prefix + path.name


def _written(address: str | Path) -> str:
    """An address with both its slashes, of which a path keeps one."""
    return re.sub(":/+", "://", str(address), count=1)


def _address(scheme: str) -> str:
    return f"{scheme}://"
