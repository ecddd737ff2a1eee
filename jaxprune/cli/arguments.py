"""The arguments of the command line: what there is, and what was given."""

import argparse
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxprune import __version__, config
from jaxprune.errors import UserError, unknown

Command = Callable[[argparse.Namespace, Sequence[str]], int]

COMMANDS = {
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
DATASET_FLAGS = {
    "directory": ("prepare", "FOLDER", "folder of the published files of the set, or of your images"),
    "table": ("prepare", "FILE", "CSV or Parquet file with one row for each of your images"),
    "image-column": ("prepare", "NAME", "its column that names the images (file, image, path, ...)"),
    "columns": ("prepare", "A,B,C", "its columns to take, the first being the usual label (all that are fit)"),
    "split-column": ("prepare", "NAME", "its column that says train, validation or test (split)"),
    "npz": ("prepare", "FILE", "npz file with images of your own, in place of a folder"),
    "sheet": ("show", "FILE", "PNG file for a sheet of example images (NAME.png)"),
}
PATH_FLAGS = ("directory", "table", "npz", "sheet")
_FLAGS = ("out", "quiet", "checkpoint-seconds", *DATASET_FLAGS)
_DATASETS = """what to do:
  jaxprune datasets                                     which there are, and how to get them
  jaxprune datasets show NAME                           counts by group and label; a sheet of examples
  jaxprune datasets prepare NAME --directory FOLDER     build a set from its published files
  jaxprune datasets prepare NAME --directory FOLDER --table TABLE.csv
                                                        build a set of your own from a folder of images
  jaxprune datasets prepare NAME --npz FILE.npz         build one from arrays, to be streamed or resized
"""
_EXAMPLES = """examples:
  jaxprune run                                   census income by race, five seeds
  jaxprune run digits                            images, groups are the classes
  jaxprune run --data.group 'race*sex'           intersections
  jaxprune run --audit.groups race sex 'race*sex'    several groupings in one report
  jaxprune run --prune.sparsities 0.5 0.9 --train.epochs 3
  jaxprune run my.toml --out runs/mine           your own settings
  jaxprune compare compare_adult                 every way to repair the harm, on one protocol
  jaxprune configs adult > my.toml               a file to begin from

A setting on the command line goes before the config, and a config before the default. What is done already is
not done again: a run that was stopped continues when it is started again.
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def refuse(surplus: Sequence[str]) -> None:
    """Raises for arguments that no flag took, naming the nearest flags."""
    for argument in surplus:
        if argument.startswith("--"):
            flag = argument.partition("=")[0].removeprefix("--")
            raise unknown("flag", flag, [*config.paths(), *_FLAGS], where="command line")
    if surplus:
        raise UserError(f"command line: {surplus[0]!r} is one argument too many; one config is run at a time")


def build_parser(functions: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of every command.

    Args:
      functions: Command -> what runs it.

    Returns:
      A parser whose result has the chosen `function` and `command`.
    """
    top = _Parser(
        prog="jaxprune",
        description="Train a network, prune it, and see which groups of people the pruning hurts, why, and what helps.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"jaxprune {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
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

            else:
                parser.add_argument(
                    "words", nargs="*", metavar="[show | prepare] NAME", help="all are listed without it"
                )
                parser.epilog = _DATASETS
                for flag, (action, metavar, what) in DATASET_FLAGS.items():
                    parser.add_argument(f"--{flag}", metavar=metavar, help=f"{action}: {what}")
                _add_settings(parser, sections=("data",))
        else:
            _add_run_options(parser)
        parser.set_defaults(function=functions[name], command=name)
    return top


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    what = "a TOML file, the name of a shipped config, or the folder of a run; adult without it"
    parser.add_argument("config", nargs="?", help=what)
    group = parser.add_argument_group("where and how")
    group.add_argument("--out", type=Path, help="output folder, also gs://bucket/folder (runs/<name>)")
    group.add_argument(
        "--checkpoint-seconds", type=_seconds, default=30.0, metavar="S",
        help="seconds of training between checkpoints, which is what a kill costs at most, beside an epoch (30)",
    )  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _add_settings(parser, sections=("", *config.SECTIONS))


def _seconds(text: str) -> float:
    """A number of seconds."""
    seconds = float(text)
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds of at least 0")
    return seconds


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
    item = _plain_type(annotation)
    item = typing.get_args(item)[0] if typing.get_origin(item) is tuple else item
    if typing.get_origin(item) is typing.Literal:
        return "{" + ",".join(typing.get_args(item)) + "}"
    text = str(annotation)
    if item is bool:
        return "{true,false}"
    return "INT" if "int" in text else "FLOAT" if "float" in text else "NAME"


def overrides_of(options: argparse.Namespace) -> dict[str, Any]:
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
