"""The memory that this machine has for a run."""

import contextlib
import os
from pathlib import Path

from jaxprune.errors import UserError

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup/memory.max")  # of a container


def available_bytes() -> int | None:
    """Free memory of this machine in bytes; None if unknown."""
    found = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        found.append(1024 * int(fields["MemAvailable"].split()[0]))
    if not found and hasattr(os, "sysconf"):  # not Linux
        with contextlib.suppress(OSError, ValueError):
            found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # it says "max" where there is no limit
        found.append(int(_GROUP.read_text()))
    return min(found, default=None)


def check_fits(setting: str, what: str, needed: float, remedy: str) -> None:
    """Raise where something could never fit into the memory of this machine.

    Args:
      setting: The setting that asks for it, for the message.
      what: What would be held, such as "the examples".
      needed: Bytes, at least.
      remedy: What to do, for the message.

    Raises:
      UserError: It does not fit.
    """
    there = available_bytes()
    if there is not None and needed > there:
        raise UserError(
            f"{setting}: {what} would take {_in_words(needed)} of memory, and this machine has {_in_words(there)} "
            f"free; {remedy}"
        )


def _in_words(size: float) -> str:
    """Bytes as text, such as "12 GB"."""
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        size /= 1000
        if size < 1000:
            return f"{size:.3g} {unit}"
    return f"{size:.3g} PB"
