"""The program; signals are handled before other modules load."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

from jaxprune import interruption


def program() -> NoReturn:
    """Run the command line as a process, and end the process."""
    _open_missing_streams()
    interruption.listen()
    try:
        from jaxprune.cli import main

        code = main()
    except KeyboardInterrupt as error:  # while modules were loaded
        message, code = interruption.describe(error)
        _say(message)
    except OSError as error:
        _say(f"error: {error.filename or 'a module'} cannot be loaded ({error.strerror or error})")
        code = 2
    interruption.ignore()
    code = _flush(code)
    if code:
        os._exit(code)  # no more lines from threads of libraries that are cut off
    sys.exit(code)


def _open_missing_streams() -> None:
    """Open standard streams that the shell closed (as `>&-`)."""
    with suppress(OSError):
        while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(opened)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _flush(code: int) -> int:
    """The exit code, once all that was printed is out."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if code == 0:
            _say(f"error: stdout cannot be written ({error.strerror}); what it should have shown is lost")
            code = 2
    with suppress(OSError):
        sys.stderr.flush()
    return code


def _say(message: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"jaxprune: {message}\n")


if __name__ == "__main__":
    program()
