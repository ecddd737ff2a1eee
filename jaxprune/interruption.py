"""Signals that end the command line, held back during a checkpoint."""

import _thread
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
_SAME = 1.0  # seconds in which a second signal is the first one, passed on by a shell or a launcher


class Interrupted(KeyboardInterrupt):
    """A signal that ends the process has arrived.

    Attributes:
      signal: Its number.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


class _State:
    """The signals that the process has received."""

    listening = False
    number: int | None = None  # of the signal
    when = 0.0
    shields = 0  # sections under way that are not to be interrupted
    raised = False


def listen() -> None:
    """Handle the signals that end a process; for the command line only."""
    _State.listening = True
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, writer), name="signals", daemon=True).start()
    hook = sys.unraisablehook

    def revive(unraisable: Any) -> None:
        """Raise again what Python dropped in a callback or a destructor."""
        if not issubclass(unraisable.exc_type, Interrupted):
            hook(unraisable)
        elif _State.number is not None:
            number, _State.number = _State.number, None
            # From another thread, a little later: here it would be dropped again.
            threading.Timer(0.02, _thread.interrupt_main, [signal.Signals(number)]).start()

    sys.unraisablehook = revive
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _handle)


def ignore() -> None:
    """Ignore the signals from now on: the process is about to end."""
    for number in _SIGNALS if _State.listening else ():
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def shielded() -> Iterator[None]:
    """A section at whose end, not within which, a signal is raised."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.shields += 1
    try:
        yield
    finally:
        _State.shields -= 1
    if not _State.shields and not _State.raised:
        check()


def check() -> None:
    """Raise if a signal has arrived, also if it was swallowed before."""
    if _State.number is not None and not _State.shields:
        _State.raised = True
        raise Interrupted(_State.number)


def arrived() -> Interrupted | None:
    """The signal that has arrived, if one has."""
    return None if _State.number is None else Interrupted(_State.number)


def describe(error: KeyboardInterrupt) -> tuple[str, int]:
    """The line that says what happened, and the exit code."""
    number = error.signal if isinstance(error, Interrupted) else signal.SIGINT
    after = f" {error.__notes__[-1]}" if getattr(error, "__notes__", None) else ""
    return f"interrupted ({signal.Signals(number).name}); the same command continues{after}", 128 + number


def _handle(number: int, frame: FrameType | None) -> None:
    if _State.number is None:
        _State.number, _State.when = number, time.monotonic()
        if not _State.shields:
            _State.raised = True
            raise Interrupted(number)


def _watch(reader: socket.socket, writer: socket.socket) -> None:
    """End the process at a second signal, also in compiled code."""
    first = None
    while arrived := reader.recv(16):
        now = time.monotonic()
        if arrived[-1] not in _SIGNALS:
            continue
        if first is not None and now - first > _SAME:
            with suppress(Exception):
                sys.stdout.flush()
            with suppress(OSError):
                os.write(2, b"jaxprune: ended at the second signal; the same command continues\n")
            os._exit(128 + arrived[-1])
        first = now if first is None else first
