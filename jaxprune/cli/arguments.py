"""The commands, their arguments and their help."""

import argparse
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jaxprune import __version__, config
from jaxprune.cli.settings import add_settings, shown, taken
from jaxprune.components import EXPORT_FORMATS
from jaxprune.errors import UserError, nearest, unknown

Command = Callable[[argparse.Namespace, Sequence[str]], int]

COMMANDS = {
    "run": "the main job: train, prune, retrain, audit, explain, report",
    "train": "train the dense networks only",
    "prune": "train, prune and retrain",
    "audit": "measure every network on every group",
    "compare": "retrain pruned networks by every method, and report what helps",
    "theory": "explain the harm: every measure and statement of the theory, without retraining",
    "report": "write the report again from a run's folder, or make it, training what is missing",
    "export": "write a network of a finished run to a file, for use elsewhere",
    "datasets": "list the data sets, show one, or prepare one",
    "configs": "list the shipped configs, or print one",
    "completion": "print a script that completes commands and flags in bash, zsh or fish",
    "help": "show the help of a command",
}
DATASETS = {
    "show": "count a data set by group and label, and draw a sheet of its images",
    "prepare": "build a data set from its published files, a folder of images with a table, or arrays",
}
SHELLS = ("bash", "zsh", "fish")
_PREPARE = {
    "directory": ("FOLDER", "folder of the published files of the set, or of your images"),
    "table": ("FILE", "CSV or Parquet file with one row for each of your images"),
    "image-column": ("NAME", "its column that names the images (file, image, path, ...)"),
    "columns": ("A,B,C", "its columns to take, the first being the usual label (all that are fit)"),
    "split-column": ("NAME", "its column that says train, validation or test (split)"),
    "npz": ("FILE", "npz file with images of your own, in place of a folder"),
}
PREPARE_FLAGS = tuple(_PREPARE)
_DATASETS = """what to do:
  jaxprune datasets                                     which there are, and how to get them
  jaxprune datasets show NAME                           counts by group and label
  jaxprune datasets prepare NAME --directory FOLDER     build a set from its published files
  jaxprune datasets prepare NAME --directory FOLDER --table TABLE.csv
                                                        build a set of your own from a folder of images
  jaxprune datasets prepare NAME --table TABLE.parquet  build one from images inside of a Parquet table
  jaxprune datasets prepare NAME --npz FILE.npz         build one from arrays, to be streamed or resized
"""
_EXPORT = """examples:
  jaxprune export runs/digits                                        which networks there are
  jaxprune export runs/digits pruned 0.9 --out pruned.safetensors    weights, named as torchvision names them
  jaxprune export runs/digits dense --format stablehlo --out dense.stablehlo
Networks pruned by channels or heads are written compact, without the channels that are cut; docs/networks.md says what
reads each format.
"""
_EXAMPLES = """examples:
  jaxprune run                                   census income by race, five seeds
  jaxprune run digits                            images, groups are the classes
  jaxprune run --data.group 'race*sex'           intersections
  jaxprune run --audit.groups race sex 'race*sex'    several groupings in one report
  jaxprune run --prune.sparsities 0.5 0.9 --train.epochs 3
  jaxprune run people.csv --data.label income --data.group race    your own table
  jaxprune run my.toml --out runs/mine           your own settings
  jaxprune compare compare_adult                 every way to repair the harm, on one protocol
  jaxprune configs adult > my.toml               a file to begin from

Command-line settings override the config, which overrides the defaults. What is done already is
not done again: a run that was stopped continues when it is started again.
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def refuse(surplus: Sequence[str], command: str, flags: Sequence[str]) -> None:
    """Raise for unknown arguments, with the nearest flags.

    Args:
      surplus: The arguments.
      command: Such as "run" or "datasets show".
      flags: Those that the command has, with their dashes.
    """
    for argument in surplus:
        if argument.startswith("--"):
            flag = argument.partition("=")[0].removeprefix("--")
            if flag in config.paths() or flag in PREPARE_FLAGS or flag == "sheet":
                raise UserError(f"command line: --{flag} does nothing for `jaxprune {command}`; leave it out")
            known = [known.removeprefix("--") for known in flags]
            if nearest(flag, known):
                raise unknown("flag", flag, known, where="command line")
            raise UserError(f"command line: unknown flag {flag!r}; see jaxprune {command} --help-all")
    if surplus:
        one = "one name is taken" if command.startswith("datasets") else "one config is run at a time"
        one = "one network is exported at a time" if command == "export" else one
        raise UserError(f"command line: {surplus[0]!r} is one argument too many; {one}")


def build_parser(
    functions: Mapping[str, Command], *, everything: bool = False, with_settings: Collection[str] = tuple(COMMANDS)
) -> argparse.ArgumentParser:
    """The parser of every command.

    Args:
      functions: Command, such as "run" or "datasets show", -> what runs it.
      everything: Show all settings of a command in its help.
      with_settings: First words of the commands that get their settings: adding them takes most of the time.

    Returns:
      A parser whose result has the chosen `function`, `command` and `parser`.
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
        parser = _add(commands, name, name, summary, functions)
        if name in with_settings:
            add_settings(parser, name, everything=everything)
        if name == "configs":
            parser.add_argument("name", nargs="?", help="the one to print; all are listed without it")
            parser.add_argument("--all", action="store_true", help="print every setting, with what it does")
        elif name == "completion":
            parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")
            parser.epilog = 'bash: eval "$(jaxprune completion bash)"    fish: jaxprune completion fish | source'
        elif name == "help":
            parser.add_argument("words", nargs="*", metavar="COMMAND", help="such as run, or datasets show")
        elif name == "export":
            _add_export_options(parser)
        elif name == "datasets":
            parser.epilog = _DATASETS
            actions = parser.add_subparsers(title="commands", metavar="[show | prepare]")
            for action, what in DATASETS.items():
                inner = _add(actions, action, f"{name} {action}", what, functions)
                if name in with_settings:
                    add_settings(inner, f"{name} {action}", everything=everything)
                _add_dataset_options(inner, action)
        else:
            _add_run_options(parser, name, with_settings=name in with_settings)
    return top


def _add(
    commands: Any,
    name: str,
    command: str,
    summary: str,
    functions: Mapping[str, Command],
) -> argparse.ArgumentParser:
    """Add the parser of one command, without its settings."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(function=functions[command], command=command, parser=parser)
    parser.add_argument("--help-all", action="help", help="show every setting and exit")
    return parser


def _add_dataset_options(parser: argparse.ArgumentParser, action: str) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the data set")
    if action == "show":
        parser.add_argument("--sheet", metavar="FILE.png", help="draw example images into this PNG file")
    else:
        for flag, (metavar, what) in _PREPARE.items():
            parser.add_argument(f"--{flag}", metavar=metavar, help=what)


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder, or its config where the folder is runs/<name>")
    parser.add_argument(
        "network",
        nargs="*",
        metavar="NETWORK",
        help="such as dense, pruned 0.9, or its title in the report (all are listed without it)",
    )
    parser.add_argument("--out", metavar="FILE", help="the file to write, which must not be there")
    listed = ", ".join(f"{name} ({about})" for name, about in EXPORT_FORMATS.items())
    metavar = "{" + ",".join(EXPORT_FORMATS) + "}"
    parser.add_argument("--format", default="safetensors", metavar=metavar, help=f"{listed} (safetensors)")
    parser.add_argument("--seed", type=int, metavar="INT", help="the seed of the network (the first of the run)")
    parser.add_argument(
        "--batch", type=int, metavar="INT", help="examples in a call of a StableHLO program (any number)"
    )
    parser.usage = "jaxprune export RUN [NETWORK --out FILE] [--format FORMAT] [--seed INT] [--batch INT]"
    parser.epilog = _EXPORT


def _add_run_options(parser: argparse.ArgumentParser, command: str, *, with_settings: bool) -> None:
    what = (
        "a TOML file, a shipped config's name, a file of data (npz, CSV, Parquet), or a run's folder; adult without it"
    )
    parser.add_argument("config", nargs="?", metavar="CONFIG", help=what)
    group = parser.add_argument_group("where and how")
    group.add_argument("--out", type=Path, metavar="FOLDER", help="folder, also gs://bucket/folder (runs/<name>)")
    group.add_argument("--dry-run", action="store_true", help="show the stages, which are done, and make nothing")
    group.add_argument(
        "--checkpoint-seconds", type=_seconds, default=30.0, metavar="S",
        help="seconds of training between checkpoints, which is what a kill costs at most, beside an epoch (30)",
    )  # fmt: skip
    group.add_argument(
        "--progress", default="auto", metavar="{auto,bars,lines,none}",
        help="how progress is shown: bars, lines of a log, or none (auto: bars in a terminal)",
    )  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.usage = f"jaxprune {command} [CONFIG] [--out FOLDER] [--SETTING VALUE ...]"
    if with_settings and len(shown(command)) < len(taken(command)):
        parser.epilog = f"`jaxprune {command} --help-all` shows all {len(taken(command))} settings."


def _seconds(text: str) -> float:
    """A number of seconds."""
    seconds = float(text)
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds of at least 0")
    return seconds
