"""The command line. jax is imported only once there is something to compute."""

import argparse
import contextlib
import os
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxprune import __version__, config
from jaxprune.errors import UserError, unknown

_COMMANDS = {
    "run": "the main job: train, prune, retrain, audit, explain, report",
    "train": "train the dense networks only",
    "prune": "train, prune and retrain",
    "audit": "measure every network on every group",
    "compare": "retrain pruned networks by every method, and report what helps",
    "theory": "explain the harm: every measure and statement of the theory, without retraining",
    "report": "write the report again from a run's folder, or make it, training what is missing",
    "datasets": "list the data sets, show one (counts, and a sheet of its images), or prepare one",
    "configs": "list the shipped configs, or print one",
}
_DATASET_FLAGS = {
    "directory": ("prepare", "FOLDER", "folder of the published files of the set, or of your images"),
    "table": ("prepare", "FILE", "CSV or Parquet file with one row for each of your images"),
    "image-column": ("prepare", "NAME", "its column that names the images (file, image, path, ...)"),
    "columns": ("prepare", "A,B,C", "its columns to take, the first being the usual label (all that are fit)"),
    "split-column": ("prepare", "NAME", "its column that says train, validation or test (split)"),
    "sheet": ("show", "FILE", "PNG file for a sheet of example images (NAME.png)"),
}
_FLAGS = ("out", "quiet", "checkpoint-seconds", *_DATASET_FLAGS)
_DATASETS = """what to do:
  jaxprune datasets                                     which there are, and how to get them
  jaxprune datasets show NAME                           counts by group and label; a sheet of examples
  jaxprune datasets prepare NAME --directory FOLDER     build a set from its published files
  jaxprune datasets prepare NAME --directory FOLDER --table TABLE.csv
                                                        build a set of your own from a folder of images
"""
_EXAMPLES = """examples:
  jaxprune run                                   census income by race, five seeds
  jaxprune run digits                            images, groups are the classes
  jaxprune run --data.group 'race*sex'           intersections
  jaxprune run --prune.sparsities 0.5 0.9 --train.epochs 3
  jaxprune run my.toml --out runs/mine           your own settings
  jaxprune compare compare_adult                 every way to repair the harm, on one protocol
  jaxprune configs adult > my.toml               a file to begin from

A setting on the command line goes before the config, and a config before the default. What is done already is
not done again: a run that was stopped continues when it is started again.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      arguments: What follows the program's name; None for the process's own.

    Returns:
      The exit code: 0, or 2 for a user's error, or 130 when interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
            raise unknown("command", arguments[0], _COMMANDS)
        options, surplus = _parser().parse_known_args(arguments)
        if options.function is _datasets and not any(word.startswith("-") for word in surplus):
            options.words, surplus = [*options.words, *surplus], []  # words after a flag
        _refuse(surplus)
        return options.function(options, arguments)
    except UserError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command continues", 130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _refuse(surplus: Sequence[str]) -> None:
    """Raises for arguments that no flag took, naming the nearest flags."""
    for argument in surplus:
        if argument.startswith("--"):
            flag = argument.partition("=")[0].removeprefix("--")
            raise unknown("flag", flag, [*config.paths(), *_FLAGS], where="command line")
    if surplus:
        raise UserError(f"command line: {surplus[0]!r} is one argument too many; one config is run at a time")


def _parser() -> argparse.ArgumentParser:
    top = _Parser(
        prog="jaxprune",
        description="Train a network, prune it, and see which groups of people the pruning hurts, why, and what helps.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"jaxprune {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in _COMMANDS.items():
        parser = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name in ("datasets", "configs"):
            if name == "configs":
                parser.add_argument("name", nargs="?", help="the one to print; all are listed without it")
                parser.set_defaults(function=_show_configs)
            else:
                parser.add_argument(
                    "words", nargs="*", metavar="[show | prepare] NAME", help="all are listed without it"
                )
                parser.epilog = _DATASETS
                for flag, (action, metavar, what) in _DATASET_FLAGS.items():
                    parser.add_argument(f"--{flag}", metavar=metavar, help=f"{action}: {what}")
                parser.set_defaults(function=_datasets)
                _add_settings(parser, sections=("data",))
        else:
            _add_run_options(parser)
            parser.set_defaults(function=_run, command=name)
    return top


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    what = "a TOML file, the name of a shipped config, or the folder of a run; adult without it"
    parser.add_argument("config", nargs="?", help=what)
    group = parser.add_argument_group("where and how")
    group.add_argument("--out", type=Path, help="output folder (runs/<name>)")
    group.add_argument(
        "--checkpoint-seconds", type=float, default=30.0, metavar="S",
        help="a training longer than this leaves checkpoints this often (30)",
    )  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _add_settings(parser, sections=("", *config.SECTIONS))


def _add_settings(parser: argparse.ArgumentParser, sections: Sequence[str]) -> None:
    """A flag for every setting, a group of flags for every section."""
    for section in sections:
        model = config.SECTIONS[section] if section else config.Settings
        title = f"[{section}] {_lower_first(model.__doc__ or '')}" if section else "settings"
        group = parser.add_argument_group(title)
        for name, field in model.model_fields.items():
            if name in config.SECTIONS:
                continue
            path = f"{section}.{name}" if section else name
            many = typing.get_origin(_plain_type(field.annotation)) is tuple
            shown = field.get_default()
            shown = " ".join(map(str, shown)) if isinstance(shown, tuple) else shown
            note = f" ({shown})" if shown not in (None, "") else ""
            group.add_argument(
                f"--{path}",
                dest=f"set:{path}",
                nargs="*" if many else None,
                metavar=_metavar(field.annotation),
                help=f"{field.description}{note}".replace("%", "%%"),
                default=argparse.SUPPRESS,
            )


def _lower_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _plain_type(annotation: Any) -> Any:
    """The type of a setting without its `| None`."""
    options = [option for option in typing.get_args(annotation) if option is not type(None)]
    return options[0] if type(None) in typing.get_args(annotation) else annotation


def _metavar(annotation: Any) -> str:
    item = typing.get_args(annotation)[0] if typing.get_origin(annotation) is tuple else annotation
    if typing.get_origin(item) is typing.Literal:
        return "{" + ",".join(typing.get_args(item)) + "}"
    text = str(annotation)
    if item is bool:
        return "{true,false}"
    return "INT" if "int" in text else "FLOAT" if "float" in text else "NAME"


def _overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Setting -> value, each text read as the type of its setting."""
    found = {}
    for name, value in vars(options).items():
        if name.startswith("set:"):
            path = name.removeprefix("set:")
            section, _, leaf = path.rpartition(".")
            model = config.SECTIONS[section] if section else config.Settings
            kind = str(_plain_type(model.model_fields[leaf].annotation))
            found[path] = tuple(_number(v, kind) for v in value) if isinstance(value, list) else _number(value, kind)
    return found


def _number(text: str, kind: str) -> Any:
    """The number that a text is, where the setting takes one; the text itself otherwise, for the checks to refuse."""
    if "bool" in kind:
        return {"true": True, "false": False}.get(text.lower(), text)
    for number in (int, float) if "float" in kind else (int,) if "int" in kind else ():
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    overrides = _overrides(options)
    source, out = options.config, options.out
    if source and Path(source).is_dir():
        source, out = str(Path(source) / "config.toml"), out or Path(source)
        if not Path(source).is_file():
            raise UserError(f"{out} holds no config.toml; give a config, and the folder as --out")
    settings = config.load(source, overrides)
    return _compute(settings, out or Path("runs") / settings.name, options, arguments)


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
    given = {flag: getattr(options, flag.replace("-", "_")) for flag in _DATASET_FLAGS}
    for flag, value in given.items():
        if value is not None and not (words and _DATASET_FLAGS[flag][0] == action):
            raise UserError(f"--{flag} belongs to: jaxprune datasets {_DATASET_FLAGS[flag][0]} NAME; leave it out here")
    overrides = _overrides(options)
    for path in overrides:
        if path == "data.name" or (path != "data.directory" and not (words and action == "show")):
            raise UserError(
                f"--{path} would do nothing here; leave it out (jaxprune datasets show NAME takes settings)"
            )
    if words and len(names) != 1:
        raise UserError(f"datasets {action}: give the name of one data set")
    settings = config.load(None, overrides | ({"data.name": names[0]} if words else {}))
    if action == "prepare" and options.directory is None:
        raise UserError("datasets prepare: --directory is missing; give the folder of the published files or images")
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
        print(f"{name:12} {summary}")
    return 0


def _fail(message: str, code: int) -> int:
    print(f"jaxprune: error: {message}", file=sys.stderr)
    return code
