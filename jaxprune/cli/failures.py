"""Errors of the operating system, each on one line."""

import errno

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_TOO_MANY = {errno.EMFILE, errno.ENFILE}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


_STORES = {"aiohttp", "adlfs", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs"}  # packages that reach them


def of_storage(error: Exception) -> bool:
    """Whether an error is that of an object store."""
    return type(error).__module__.partition(".")[0] in _STORES


def describe(error: Exception) -> str:
    """What happened, where, and what to do."""
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
