"""The folder of built programs, kept between runs and safe from others."""

import functools
import logging
import os
import stat
from pathlib import Path

_log = logging.getLogger(__name__)


class Exposed(Exception):
    """Another user could have written a file or a folder."""


def cache_folder(name: str) -> Path | None:
    """Make and return a folder for what can be built again.

    Args:
      name: What is kept there, such as "xla".

    Returns:
      `$XDG_CACHE_HOME/jaxprune/NAME`, by default in ~/.cache; None where there is no home, it cannot be written, or
      others could write it, of which one line is logged, once.
    """
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    except RuntimeError:
        warn_once("there is no home directory; set XDG_CACHE_HOME")
        return None
    folder = root / "jaxprune" / name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        check_owner(folder)
    except OSError as error:
        warn_once(f"{folder} cannot be made ({error.strerror}); set XDG_CACHE_HOME")
        return None
    except Exposed as error:
        warn_once(str(error))
        return None
    if not os.access(folder, os.W_OK):
        warn_once(f"{folder} cannot be written; set XDG_CACHE_HOME")
        return None
    return folder


def check_owner(path: Path) -> None:
    """Raise if another user could have written a file or folder.

    Raises:
      Exposed: One could.
    """
    if not hasattr(os, "getuid"):
        return
    found = path.stat()
    if found.st_uid != os.getuid():
        raise Exposed(f"{path} belongs to another user; set XDG_CACHE_HOME to a folder of your own")
    if found.st_mode & 0o022:
        raise Exposed(f"{path} can be written by others; empty it, and take that away with chmod go-w")
    for parent in path.resolve().parents:
        found = parent.stat()
        if found.st_uid not in (0, os.getuid()) or (found.st_mode & 0o002 and not found.st_mode & stat.S_ISVTX):
            raise Exposed(f"{path} can be replaced by others, who can write {parent}; set XDG_CACHE_HOME")


@functools.cache
def warn_once(reason: str) -> None:
    """Log that there is no cache, and why."""
    _log.warning("nothing that is compiled is kept for the next run: %s", reason)
