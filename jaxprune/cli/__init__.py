"""The command line; jax is imported once there is work."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxprune.cli.arguments import COMMANDS, DATASETS, build_parser, refuse
from jaxprune.cli.completion import flags_of, script
from jaxprune.cli.configs import show_configs
from jaxprune.cli.datasets import list_sets, prepare_set, show_set
from jaxprune.cli.exports import export_network
from jaxprune.cli.failures import explain
from jaxprune.cli.settings import overrides_of
from jaxprune.errors import UserError, unknown
from jaxprune.text import NOT_UTF8, path_fault, printable

if TYPE_CHECKING:
    from jaxprune.config import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
      arguments: What follows the program's name; None for the process's own.

    Returns:
      The exit code: 0, or 2 for an error of the user's or of the operating system, or 128 and the number of a signal.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of names beyond the terminal's own letters
    try:
        for argument in arguments:
            if path_fault(argument) == NOT_UTF8:
                raise UserError(f"command line: {argument} is not UTF-8 text; rename the file, or give another one")
        return _dispatch(_expand(arguments))
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        explained = explain(error)
        if explained is None:
            raise
        line, code = explained
        print(f"jaxprune: {printable(line)}", file=sys.stderr)
        return code


def _expand(arguments: list[str]) -> list[str]:
    """Write short forms out.

    `help run` is `run --help`, and `datasets adult` is `datasets show adult`.
    """
    if arguments[:1] == ["help"] and len(arguments) > 1 and not arguments[1].startswith("-"):
        return [*arguments[1:], "--help"]
    if arguments[:1] == ["help"] and len(arguments) == 1:
        return ["--help"]
    if arguments[:1] == ["datasets"] and len(arguments) > 1 and not DATASETS.keys() & set(arguments):
        if not arguments[1].startswith("-"):
            return ["datasets", "show", *arguments[1:]]
        if arguments[1].partition("=")[0] not in ("--data.directory", "--help", "--help-all", "-h"):
            refuse(arguments[1:2], "datasets", ["--data.directory"])
    return arguments


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        raise unknown("command", arguments[0], COMMANDS)
    parser = build_parser(_FUNCTIONS, everything="--help-all" in arguments, with_settings=arguments[:1])
    options, surplus = parser.parse_known_args(arguments)
    if getattr(options, "name", "") is None and surplus and not any(word.startswith("-") for word in surplus):
        options.name, *surplus = surplus  # after a flag with several values
    if options.command == "export" and not options.network and not any(word.startswith("-") for word in surplus):
        options.network, surplus = surplus, []
    refuse(surplus, options.command, flags_of(options.parser))
    return options.function(options, arguments)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from jaxprune import jobs  # and the settings below it, which help does without

    warn = None if options.quiet else _warn
    settings, out = jobs.resolve_job(options.config, overrides_of(options), options.out, warn=warn)
    return _compute(settings, out, options, arguments)


def _warn(line: str) -> None:
    print(f"jaxprune: warning: {printable(line)}", file=sys.stderr)


def _compute(settings: "Settings", out: Path, options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from jaxprune import console  # rich, and jax below it: only now is there something to compute

    display = None if options.quiet else console.Display(options.progress)
    until = "report" if options.command in ("run", "report") else options.command
    if options.dry_run:
        return _plan(settings, out, until)
    console.start_jax()
    from jaxprune import pipeline
    from jaxprune.devices import check_devices

    warning = check_devices()
    if warning and display is not None:
        display.say(f"warning: {warning}")
    told: dict[str, Any] = {"checkpoint_seconds": options.checkpoint_seconds}
    told |= {"progress": display, "command": " ".join(["jaxprune", *arguments])}
    with display or contextlib.nullcontext():
        if options.command == "compare":
            result = pipeline.compare(settings, out, **told)
        else:
            result = pipeline.run(settings, out, until=until, write_again=options.command == "report", **told)
    if display is not None:
        console.conclude(display.console, result)
    return 0


def _plan(settings: "Settings", out: Path, until: str) -> int:
    from jaxprune import console, pipeline

    console.show_plan(pipeline.dry_run(settings, out, until=until), out)
    return 0


def _complete(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    print(script(options.shell, build_parser(_FUNCTIONS, everything=True)))
    return 0


def _help(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    build_parser(_FUNCTIONS, with_settings=()).print_help()
    return 0


_FUNCTIONS = dict.fromkeys(COMMANDS, _run) | {
    "datasets": list_sets,
    "datasets show": show_set,
    "datasets prepare": prepare_set,
    "configs": show_configs,
    "export": export_network,
    "completion": _complete,
    "help": _help,
}
