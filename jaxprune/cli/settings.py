"""Settings as flags of commands."""

import argparse
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxprune import config

# The settings that people change most, which a short help shows.
COMMON = (
    "seeds", "data.name", "data.label", "data.group", "model.name", "model.hidden", "model.weights", "train.epochs",
    "train.batch_size", "train.optimizer", "train.learning_rate", "prune.criterion", "prune.structure",
    "prune.allocation", "prune.schedule", "prune.sparsities", "retrain.epochs", "retrain.learning_rate",
    "retrain.methods", "mitigation.constraint", "audit.groups", "theory.examples",
)  # fmt: skip

_PLAIN = re.compile(r"[+-]?[0-9a-zA-Z.+-]{1,400}", re.ASCII)
_DESCRIBED = 2  # own names that the short help describes, at most
_NETWORKS = ("", "data", "model", "train", "mitigation")
# Command -> the sections ("" for none) and single settings that decide what it does.
TAKES: Mapping[str, tuple[str, ...]] = {
    "run": (*_NETWORKS, "prune", "retrain", "choice", "audit", "costs", "theory"),
    "train": (*_NETWORKS, "retrain.methods"),
    "prune": (*_NETWORKS, "prune", "retrain", "choice"),
    "audit": (*_NETWORKS, "prune", "retrain", "choice", "audit"),
    "compare": (*_NETWORKS, "prune", "retrain", "choice", "audit", "costs"),
    "theory": (*_NETWORKS, "prune", "retrain", "audit", "theory"),
    "report": ("data.directory", "audit"),
    "export": ("data.directory",),
    "datasets": ("data.directory",),
    "datasets show": ("data",),
    "datasets prepare": ("data.directory",),
}
_NAMED_OTHERWISE = {"datasets show": {"data.name"}}  # by an argument


def taken(command: str) -> list[str]:
    """The paths of the settings that a command takes, in their order."""
    wanted = TAKES.get(command, ())
    paths = [path for path in config.paths() if path in wanted or path.rpartition(".")[0] in wanted]
    return [path for path in paths if path not in _NAMED_OTHERWISE.get(command, ())]


def shown(command: str) -> list[str]:
    """The paths of the settings that the short help shows."""
    paths = taken(command)
    return [path for path in paths if path in COMMON] if len(paths) > len(COMMON) else paths


def add_settings(parser: argparse.ArgumentParser, command: str, *, everything: bool) -> None:
    """Add a flag for every setting that a command takes.

    Args:
      parser: Of the command.
      command: Its name.
      everything: Show all of them in the help, rather than the common ones.
    """
    in_help = taken(command) if everything else shown(command)
    groups: dict[str, Any] = {}
    for path in taken(command):
        section, _, name = path.rpartition(".")
        model = config.SECTIONS[section] if section else config.Settings
        if section not in groups:
            title = f"[{section}] {_lower_first(model.__doc__ or '')}" if section else "settings"
            groups[section] = parser.add_argument_group(title)
        field = model.model_fields[name]
        many = typing.get_origin(plain_type(field.annotation)) is tuple
        groups[section].add_argument(
            f"--{path}",
            dest=f"set:{path}",
            nargs="*" if many else None,
            metavar=_metavar(field.annotation),
            help=_help(path, field, everything=everything) if path in in_help else argparse.SUPPRESS,
            default=argparse.SUPPRESS,
        )


def choices(path: str) -> Sequence[str]:
    """The choices of a setting; empty if it is not a choice."""
    section, _, name = path.rpartition(".")
    model = config.SECTIONS[section] if section else config.Settings
    item = _item_type(model.model_fields[name].annotation)
    if item is bool:
        return ("true", "false")
    if names := config.names_of(path):
        return tuple(names)
    return typing.get_args(item) if typing.get_origin(item) is typing.Literal else ()


def overrides_of(options: argparse.Namespace) -> dict[str, Any]:
    """Setting -> value, each text read as the type of its setting."""
    return dict(_overrides(options))


def _overrides(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    for name, value in vars(options).items():
        if name.startswith("set:"):
            path = name.removeprefix("set:")
            section, _, leaf = path.rpartition(".")
            model = config.SECTIONS[section] if section else config.Settings
            kind = str(plain_type(model.model_fields[leaf].annotation))
            many = isinstance(value, list)
            yield path, tuple(_number(text, kind) for text in value) if many else _number(value, kind)


def _help(path: str, field: Any, *, everything: bool) -> str:
    names = config.names_of(path)
    described = names if everything or len(names) <= _DESCRIBED else config.added_names(path)
    listed = ", ".join(f"{name} ({about})" if about and name in described else name for name, about in names.items())
    description = f"{field.description}: {listed}" if listed else str(field.description)
    shown = field.get_default()
    shown = " ".join(map(str, shown)) if isinstance(shown, tuple) else shown
    note = f" ({shown})" if shown not in (None, "") else ""
    return f"{description}{note}".replace("%", "%%")


def _lower_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def plain_type(annotation: Any) -> Any:
    """The type of a setting without its `| None`."""
    options = [option for option in typing.get_args(annotation) if option is not type(None)]
    return options[0] if type(None) in typing.get_args(annotation) else annotation


def _item_type(annotation: Any) -> Any:
    """The type of a setting, or of each of its values."""
    item = plain_type(annotation)
    return typing.get_args(item)[0] if typing.get_origin(item) is tuple else item


def _metavar(annotation: Any) -> str:
    item = _item_type(annotation)
    if typing.get_origin(item) is typing.Literal:
        return "{" + ",".join(typing.get_args(item)) + "}"
    text = str(annotation)
    if item is bool:
        return "{true,false}"
    return "INT" if "int" in text else "FLOAT" if "float" in text else "NAME"


def _number(text: str, kind: str) -> Any:
    """Parse a number; return the text itself if it is none."""
    if "bool" in kind:
        return {"true": True, "false": False}.get(text.lower(), text)
    if not _PLAIN.fullmatch(text):  # int() and float() also take other scripts' digits, spaces and underscores
        return text
    for number in (int, float) if "float" in kind else (int,) if "int" in kind else ():
        try:
            return number(text)
        except ValueError:
            continue
    return text
