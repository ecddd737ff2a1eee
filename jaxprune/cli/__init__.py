"""The command line. jax is imported only once there is something to compute."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxprune import config
from jaxprune.cli.arguments import COMMANDS, DATASET_FLAGS, build_parser, overrides_of, refuse
from jaxprune.errors import UserError, unknown
from jaxprune.files import MARKER, folder_name
from jaxprune.text import NOT_UTF8, path_fault, printable, shortened


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      arguments: What follows the program's name; None for the process's own.

    Returns:
      The exit code: 0, or 2 for a user's error, or 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # of names beyond the terminal's own letters
    try:
        for argument in arguments:
            if path_fault(argument) == NOT_UTF8:
                raise UserError(f"command line: {argument} is not UTF-8 text; rename the file, or give another one")
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            raise unknown("command", arguments[0], COMMANDS)
        options, surplus = build_parser(_FUNCTIONS).parse_known_args(arguments)
        if options.function is _datasets and not any(word.startswith("-") for word in surplus):
            options.words, surplus = [*options.words, *surplus], []  # words after a flag
        refuse(surplus)
        return options.function(options, arguments)
    except UserError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command continues", 130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    overrides = overrides_of(options)
    source, out = options.config, options.out
    if source and not path_fault(source) and Path(source).is_dir():
        folder = Path(source)
        within = not (folder / MARKER).exists() and (folder.parent / MARKER).exists()  # a report by other groups
        source, out = str(folder / "config.toml"), out or (folder.parent if within else folder)
        if not Path(source).is_file():
            raise UserError(f"{folder} holds no config.toml; give a config, and the folder as --out")
    if fault := path_fault(str(out or "")):
        raise UserError(f"--out {shortened(str(out), 60)}: {fault}; name another folder")
    if not options.checkpoint_seconds >= 0:
        raise UserError(f"--checkpoint-seconds: {options.checkpoint_seconds:g} is no time; give 0 or more")
    settings = config.load(source, overrides)
    return _compute(settings, out or Path("runs") / folder_name(settings.name), options, arguments)


def _compute(settings: config.Settings, out: Path, options: argparse.Namespace, arguments: Sequence[str]) -> int:
    from jaxprune import console  # rich, and jax below it: only now is there something to compute

    console.start_jax()
    from jaxprune import pipeline

    display = None if options.quiet else console.Display()
    told: dict[str, Any] = {"checkpoint_seconds": options.checkpoint_seconds}
    told |= {"progress": display, "command": " ".join(["jaxprune", *arguments])}
    with display or contextlib.nullcontext():
        if options.command == "compare":
            compared = pipeline.compare(settings, out, **told)
            if display is not None:
                display.conclude_comparison(compared)
            return 0
        result = pipeline.run(
            settings,
            out,
            until="report" if options.command in ("run", "report") else options.command,
            write_again=options.command == "report",
            **told,
        )
    if display is not None:
        display.conclude(result)
    return 0


def _datasets(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    words = options.words
    action, names = (words[0], words[1:]) if words and words[0] in ("show", "prepare") else ("show", words)
    given = {flag: getattr(options, flag.replace("-", "_")) for flag in DATASET_FLAGS}
    for flag, value in given.items():
        if value is not None and not (words and DATASET_FLAGS[flag][0] == action):
            raise UserError(f"--{flag} belongs to: jaxprune datasets {DATASET_FLAGS[flag][0]} NAME; leave it out here")
        if flag in _FILES and value is not None and (fault := path_fault(value)):
            raise UserError(f"--{flag} {shortened(value, 60)}: {fault}; give another one")
    overrides = overrides_of(options)
    for path in overrides:
        if path == "data.name" or (path != "data.directory" and not (words and action == "show")):
            raise UserError(
                f"--{path} would do nothing here; leave it out (jaxprune datasets show NAME takes settings)"
            )
    if words and len(names) != 1:
        raise UserError(f"datasets {action}: give the name of one data set")
    settings = config.load(None, overrides | ({"data.name": names[0]} if words else {}))
    if action == "prepare" and options.directory is None and options.npz is None:
        raise UserError(
            "datasets prepare: --directory is missing; give the folder of the published files or images (or --npz)"
        )
    from jaxprune import console

    if not words:
        console.list_datasets(settings.data)
    elif action == "prepare":
        console.prepare_dataset(names[0], settings.data, given)
    else:
        from jaxprune.pipeline.experiment import load_data

        console.show_dataset(load_data(settings.data), options.sheet)
    return 0


def _show_configs(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if options.name is not None:
        sys.stdout.write(config.find(options.name).read_text(encoding="utf-8"))
        return 0
    for name, path in config.shipped().items():
        summary = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        print(printable(f"{name:12} {summary}"))
    return 0


def _fail(message: str, code: int) -> int:
    print(f"jaxprune: error: {printable(message)}", file=sys.stderr)
    return code


_FILES = ("directory", "table", "npz", "sheet")  # flags that name a file or a folder
_FUNCTIONS = dict.fromkeys(COMMANDS, _run) | {"datasets": _datasets, "configs": _show_configs}
