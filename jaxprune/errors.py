"""Errors that a user can mend, each on one line."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in the input, not in the program.

    The command line prints its text and exits with code 2.
    """

    def _render_traceback_(self) -> list[str]:
        """Show one line in IPython in place of a traceback."""
        return [f"jaxprune: error: {self}"]


class DamagedFile(UserError):
    """A file that jaxprune wrote is missing, truncated or altered.

    Attributes:
      fault: What is wrong with which file, without what to do about it.
    """

    def __init__(self, fault: str, remedy: str = ""):
        super().__init__(f"{fault}; {remedy}" if remedy else fault)
        self.fault = fault


class TrainingDiverged(UserError):
    """A training loss became NaN or infinite.

    The text names the step, the seed and what to lower.

    Attributes:
      step: The first step with such a loss, counted from 1 over all epochs.
      replica: The replica (seed) that it belongs to, counted from 0.
    """

    def __init__(self, message: str, *, step: int = 0, replica: int = 0):
        super().__init__(message)
        self.step, self.replica = step, replica


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "", listed: bool = False) -> UserError:
    """An unknown name, with its nearest neighbours.

    Args:
      kind: What the name was meant to be, such as "model".
      name: The name that was given.
      known: Every name that would have been right.
      where: The setting that holds the name, if any.
      listed: Whether all the known names are listed even where some are near.

    Returns:
      The error, to be raised by the caller.
    """
    known, name = sorted(known), name if len(name) <= 80 else f"{name[:79]}…"
    near = nearest(name, known)
    hints = [f"did you mean {' or '.join(repr(n) for n in near)}?"] if near else []
    hints += [f"known: {', '.join(_relatives(name, known))}"] if listed or not near else []
    prefix = f"{where}: " if where else ""
    return UserError(f"{prefix}unknown {kind} {name!r}; {' '.join(hints)}")


def _relatives(name: str, known: list[str]) -> list[str]:
    """Return the names that a mistyped dotted name may mean.

    They are those of its section, or the sections if it has none; for a name without a dot, all names.
    """
    section, dot, _ = name.partition(".")
    if not dot or " " in name:
        return known
    return [other for other in known if other.startswith(f"{section}.")] or sorted({k.partition(".")[0] for k in known})


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Find the known names nearest to a mistyped one, the likeliest first.

    A slip or two in a long name is near, one in a name of up to four letters; so is the beginning of a name, and the
    last part of a dotted one.

    Args:
      name: The name that was given.
      known: Every name that would have been right.
      most: How many are given at most.
    """
    likeness = {other: _likeness(name.lower(), other.lower()) for other in known}
    near = [other for other, value in likeness.items() if value >= (0.66 if len(name) <= 4 else 0.72)]
    return sorted(near, key=lambda other: (-likeness[other], other))[:most]


def _likeness(name: str, other: str) -> float:
    """The likeness of two names, from 0 to 1."""
    leaf = other.rpartition(".")[2] if "." not in name else other
    alike = max(difflib.SequenceMatcher(None, name, target).ratio() for target in {other, leaf})
    return 0.9 + alike / 10 if len(name) >= 3 and other.startswith(name) else alike
