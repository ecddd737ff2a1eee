"""Displays of progress: bars, lines, or a block in a notebook."""

import html
import time
from collections.abc import Callable
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from jaxprune.progress.pieces import Piece, clock
from jaxprune.text import printable

LINE_SECONDS = 10.0  # a log has at least one line this often


class Screen(Protocol):
    """A place where progress is shown.

    Attributes:
      tick_seconds: How often `tick` is to be called, at least, while anything is going on.
    """

    tick_seconds: float

    def begin(self) -> None:
        """Work begins."""

    def show(self, piece: Piece | None) -> None:
        """Show a piece of work that began or moved; None ends it."""

    def tick(self, piece: Piece | None) -> None:
        """Time has passed."""

    def write(self, line: str) -> None:
        """Show a line that stays."""

    def end(self) -> None:
        """All work has ended, or was broken off."""


class Lines:
    """Plain lines for a log, at most one every few seconds.

    Args:
      console: What they are printed on.
      seconds: The longest time without a line.
      now: The clock.
    """

    def __init__(self, console: Console, seconds: float = LINE_SECONDS, now: Callable[[], float] = time.monotonic):
        self.console, self.seconds, self.now = console, seconds, now
        self.tick_seconds = seconds / 20
        self.begun = self.printed = now()

    def begin(self) -> None:
        """Start the clock."""
        self.begun = self.printed = self.now()

    def show(self, piece: Piece | None) -> None:
        """Print nothing yet."""

    def tick(self, piece: Piece | None) -> None:
        """Print where the work is, if nothing was printed for some seconds."""
        now = self.now()
        if now - self.printed > self.seconds - self.tick_seconds:
            self.write(piece.line(now) if piece else f"working  {clock(now - self.begun)}")

    def write(self, line: str) -> None:
        """Print a line."""
        self.printed = self.now()
        self.console.print(f"  {line}", soft_wrap=True)

    def end(self) -> None:
        """Print nothing."""


class Bars:
    """A bar that moves, in a terminal.

    Args:
      console: The terminal.
      now: The clock.
    """

    tick_seconds = 3600.0  # rich draws by itself, ten times a second

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic):
        self.console = console
        self.bars = Progress(
            SpinnerColumn(table_column=Column(no_wrap=True)), _Column(lambda piece: piece.description, shrink=True),
            BarColumn(bar_width=20, table_column=Column(no_wrap=True)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            # A clock of our own: rich's stops when all parts are done, and work may go on after that.
            _Column(lambda piece: piece.time(now())), _Column(lambda piece: piece.note, style="dim", shrink=True),
            console=console, transient=True,
        )  # fmt: skip
        self.task: TaskID | None = None

    def begin(self) -> None:
        """Start drawing."""
        self.bars.start()

    def show(self, piece: Piece | None) -> None:
        """Draw the bar of this piece of work, replacing any other."""
        if self.task is not None and (piece is None or self.bars.tasks[0].fields["piece"] is not piece):
            self.bars.remove_task(self.task)
            self.task = None
        if piece is not None:
            if self.task is None:
                self.task = self.bars.add_task("", total=piece.total, piece=piece)
            self.bars.update(self.task, completed=piece.done)

    def tick(self, piece: Piece | None) -> None:
        """Do nothing."""

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(f"  {line}", soft_wrap=True)

    def end(self) -> None:
        """Take the bar away."""
        if self.bars.live.is_started:  # else it prints an empty line
            self.bars.stop()


class _Column(ProgressColumn):
    """A column of text about a piece of work, on one line."""

    def __init__(self, text: Callable[[Piece], str], style: str = "", shrink: bool = False):
        self.text, self.style = text, style
        super().__init__(Column(no_wrap=not shrink))

    def render(self, task: Task) -> Text:
        return Text(printable(self.text(task.fields["piece"])), style=self.style, no_wrap=True, overflow="ellipsis")


class Page:
    """One block of HTML in a notebook, updated in place.

    Args:
      show: What puts HTML into the notebook and returns a function that replaces it.
      now: The clock.
    """

    tick_seconds = 1.0

    def __init__(self, show: Callable[[str], Callable[[str], Any]], now: Callable[[], float] = time.monotonic):
        self.display, self.now = show, now
        self.replace: Callable[[str], Any] | None = None
        self.begun = now()
        self.lines: list[str] = []
        self.drawn = 0.0

    def begin(self) -> None:
        """Show the block."""
        self.begun = self.now()
        self.replace = self.display(self._html(None))

    def show(self, piece: Piece | None) -> None:
        """Draw the bar, at most five times a second."""
        if piece is None or self.now() - self.drawn >= 0.2:
            self._draw(piece)

    def tick(self, piece: Piece | None) -> None:
        """Let the clock go on."""
        self._draw(piece)

    def write(self, line: str) -> None:
        """Keep a line: warnings in sight, finished work folded away."""
        self.lines.append(line)

    def end(self) -> None:
        """Leave the lines."""
        if self.replace is not None:
            self.replace(self._html(None, ended=True))

    def _draw(self, piece: Piece | None) -> None:
        self.drawn = self.now()
        if self.replace is not None:
            self.replace(self._html(piece))

    def _html(self, piece: Piece | None, ended: bool = False) -> str:
        now = self.now()
        warnings = [line for line in self.lines if line.startswith("warning:")]
        others = [line for line in self.lines if not line.startswith("warning:")]
        took = clock(now - self.begun)
        blocks = [_pre(warnings)] if warnings else []
        if ended:
            blocks.append(_folded(f"ran for {took}", others) if others else f"<div>ran for {took}</div>")
        else:
            bar = (
                f'<progress max="{piece.total}" value="{piece.done}"></progress> '
                if piece
                else "<progress></progress> "
            )
            blocks += [_folded(f"{len(others)} done, {took}", others)] if others else []
            blocks.append(f"<div>{bar} {html.escape(piece.line(now) if piece else 'working')}</div>")
        return f'<div style="font-size: 90%">{"".join(blocks)}</div>'


def _pre(lines: list[str]) -> str:
    return f'<pre style="margin: 0; white-space: pre-wrap">{html.escape(chr(10).join(lines))}</pre>'


def _folded(summary: str, lines: list[str]) -> str:
    return f"<details><summary>{html.escape(summary)}</summary>{_pre(lines)}</details>"
