"""Where programs that were built are kept between runs."""

import functools
import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)


def cache_folder(name: str) -> Path | None:
    """Make and return a folder for what can be built again.

    Args:
      name: What is kept there, such as "xla".

    Returns:
      `$XDG_CACHE_HOME/jaxprune/NAME`, by default in ~/.cache; None where there is no home or it cannot be written,
      of which one line is logged, once.
    """
    root = _root()
    if root is None:
        return None
    folder = root / "jaxprune" / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        warn_once(f"{folder} cannot be made ({error.strerror})")
        return None
    if not os.access(folder, os.W_OK):
        warn_once(f"{folder} cannot be written")
        return None
    return folder


def _root() -> Path | None:
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        warn_once("there is no home directory")
        return None


@functools.cache
def warn_once(reason: str) -> None:
    """Log that there is no cache, and why."""
    _log.warning("nothing that is compiled is kept for the next run: %s; set XDG_CACHE_HOME", reason)
