"""Passes the pipeline's progress to a screen, and keeps time."""

import os
import threading
import time
from collections.abc import Callable, Mapping

from rich.console import Console

from jaxprune.errors import UserError
from jaxprune.progress.notebook import notebook_shell, show_html
from jaxprune.progress.pieces import Piece
from jaxprune.progress.screens import Bars, Lines, Page, Screen
from jaxprune.terminal import PlainConsole

MODES = ("auto", "bars", "lines", "none")


class Display:
    """Progress for whoever watches; a context, within which the clock goes on.

    Args:
      mode: "bars", "lines", "none", or "auto": a block updated in place in a notebook, bars in a terminal, and lines
        elsewhere: the output is a file or a pipe, or the terminal is dumb or belongs to a notebook's cell.
      screen: Where to show it, in place of a mode.
      now: The clock.

    Raises:
      UserError: The mode is unknown.
    """

    def __init__(
        self, mode: str = "auto", *, screen: Screen | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        if mode not in MODES:
            raise UserError(f"progress = {mode!r}: it should be one of {', '.join(MODES)}")
        self.console = PlainConsole()
        self.screen = screen or _screen(mode, self.console, os.environ)
        self.now = now
        self.pieces: list[Piece] = []
        self.lock = threading.RLock()
        self.ended = threading.Event()
        self.ticker: threading.Thread | None = None

    def __enter__(self) -> "Display":
        if self.screen is not None:
            self.screen.begin()
            self.ended.clear()
            self.ticker = threading.Thread(target=self._tick, name="jaxprune progress", daemon=True)
            self.ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        if self.ticker is not None:
            self.ticker.join(timeout=5)
        self.pieces.clear()
        if self.screen is not None:
            with self.lock:
                self.screen.show(None)
                self.screen.end()

    def start(self, description: str, total: int) -> None:
        """A piece of work begins, possibly within another one."""
        with self.lock:
            self.pieces.append(Piece(description, total, self.now()))
            self._show()

    def resume(self, done: int) -> None:
        """So many parts were done by an earlier run."""
        with self.lock:
            if self.pieces:
                piece = self.pieces[-1]
                piece.done += done
                piece.earlier += done
                self._show()

    def advance(self, note: str = "") -> None:
        """One part is done."""
        with self.lock:
            if self.pieces:
                piece = self.pieces[-1]
                piece.done, piece.moved, piece.note = piece.done + 1, self.now(), note
                self._show()

    def finish(self) -> None:
        """The piece of work becomes a line with the time it took."""
        with self.lock:
            if self.pieces:
                piece = self.pieces.pop()
                self._show()
                self._write(f"{piece.description:<62}{self.now() - piece.begun:6.1f} s  {piece.note}".rstrip())

    def say(self, message: str) -> None:
        """A line that stays, whatever the mode."""
        with self.lock:
            if self.screen is None:
                self.console.print(f"  {message}", soft_wrap=True)
            self._write(message)

    def _show(self) -> None:
        if self.screen is not None:
            self.screen.show(self.pieces[-1] if self.pieces else None)

    def _write(self, line: str) -> None:
        if self.screen is not None:
            self.screen.write(line)

    def _tick(self) -> None:
        assert self.screen is not None
        while not self.ended.wait(self.screen.tick_seconds):
            with self.lock:
                try:
                    self.screen.tick(self.pieces[-1] if self.pieces else None)
                except (OSError, ValueError):  # the output is closed: the main thread will meet that, and say it
                    return


def _screen(mode: str, console: Console, environment: Mapping[str, str]) -> Screen | None:
    """The screen of a mode; None for no progress at all."""
    if mode == "none":
        return None
    if mode == "auto":
        if notebook_shell() is not None:
            return Page(show_html)
        # `!jaxprune run` in a cell has a terminal of its own, but every frame of a bar is kept in the notebook.
        within_notebook = "JPY_PARENT_PID" in environment
        mode = "bars" if console.is_terminal and not console.is_dumb_terminal and not within_notebook else "lines"
    return Bars(console) if mode == "bars" else Lines(console)
