"""A piece of work: its progress, elapsed time and time left."""

from dataclasses import dataclass


@dataclass
class Piece:
    """A piece of work of several parts.

    Attributes:
      description: What it is.
      total: Its parts.
      begun: When it began, in seconds of a clock.
      done: Parts that are done.
      earlier: Those of them that an earlier run had done, which tell nothing about the time.
      moved: When the last part was done.
      note: The latest news of it, such as a loss.
    """

    description: str
    total: int
    begun: float
    done: int = 0
    earlier: int = 0
    moved: float = 0.0
    note: str = ""

    def seconds_left(self, now: float) -> float | None:
        """Estimate the time left from the mean time per part.

        The result is None until one part is done.
        """
        timed = self.done - self.earlier
        if timed <= 0 or self.done >= self.total:
            return None
        each = (self.moved - self.begun) / timed
        # The current part may take longer than the others did: then only the parts after it are known.
        left = max(each * (self.total - self.done) - (now - self.moved), each * (self.total - self.done - 1))
        return left if left > 0 else None

    def time(self, now: float) -> str:
        """Elapsed and estimated time: "0:00:31, about 1:10 left"."""
        left = self.seconds_left(now)
        return clock(now - self.begun) + (f", about {short_clock(left)} left" if left is not None else "")

    def line(self, now: float) -> str:
        """Describe the work on one line: "training dense networks  12/40  0:00:31, about 1:10 left"."""
        note = f"  {self.note}" if self.note else ""
        return f"{self.description}  {self.done}/{self.total}  {self.time(now)}{note}"


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = max(int(seconds), 0)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def short_clock(seconds: float) -> str:
    """Seconds as m:ss, or as h:mm:ss from an hour on."""
    whole = max(round(seconds), 1)
    return clock(whole) if whole >= 3600 else f"{whole // 60}:{whole % 60:02d}"
