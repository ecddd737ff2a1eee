"""The progress that long work reports; a screen shows it."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Receiver of the progress of long work, and of messages."""

    def start(self, description: str, total: int) -> None:
        """Begin a piece of work of `total` parts."""

    def resume(self, done: int) -> None:
        """Count parts that an earlier run has done."""

    def advance(self, note: str = "") -> None:
        """Count one part as done."""

    def finish(self) -> None:
        """End the piece of work."""

    def say(self, message: str) -> None:
        """Show one line that stays, such as a warning."""
