"""Errors of a command, on one line."""

import errno
import sys

from jaxprune import interruption
from jaxprune.errors import UserError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_TOO_MANY = {errno.EMFILE, errno.ENFILE}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


_STORES = {"aiohttp", "adlfs", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs"}  # packages that reach them


def explain(error: BaseException) -> tuple[str, int] | None:
    """The message and exit code for an error; None for a bug."""
    if isinstance(error, KeyboardInterrupt):
        return interruption.describe(error)
    arrived = interruption.arrived()
    if arrived is not None:  # and a library has made another error of it
        return interruption.describe(arrived)
    if isinstance(error, UserError):
        return f"error: {error}", 2
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _STORES:
        unnamed = getattr(error, "filename", "") is None and _stdout_fails()
        return f"error: {'stdout: ' * unnamed}{describe(error)}", 2
    return None


def _stdout_fails() -> bool:
    """Return True if stdout cannot be written."""
    try:
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        return True
    return False


def describe(error: BaseException) -> str:
    """Describe what happened, where, and what to do."""
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if not isinstance(error, OSError):
        return f"{text}; look at your access to the storage, and run the same command again: it continues"
    reason = error.strerror or text
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in _FULL:
        remedy = "make room and run the same command again: it continues"
    elif error.errno in _TOO_MANY:
        remedy = "raise the limit, as with ulimit -n 4096, and run the same command again: it continues"
    elif error.errno in _FORBIDDEN:
        remedy = "give yourself access to it, or name another place"
    else:
        remedy = "look at the disk or network that it is on, and run the same command again: it continues"
    return f"{where}{reason}; {remedy}"
