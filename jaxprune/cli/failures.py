"""Errors of the operating system, each on one line."""

import errno

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_TOO_MANY = {errno.EMFILE, errno.ENFILE}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def describe(error: OSError) -> str:
    """What happened, where, and what to do."""
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
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
