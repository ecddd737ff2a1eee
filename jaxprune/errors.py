"""Errors that a user can mend: what happened, where, and what to do, on one line."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in the input, not in the program. The command line prints its text and exits with code 2."""


class TrainingDiverged(UserError):
    """A training loss became NaN or infinite; the text names the step, the seed and what to lower.

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
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hints = [f"did you mean {' or '.join(repr(n) for n in near)}?"] if near else []
    hints += [f"known: {', '.join(known)}"] if listed or not near else []
    prefix = f"{where}: " if where else ""
    return UserError(f"{prefix}unknown {kind} {name!r}; {' '.join(hints)}")
