"""Options of the parts of pruning, written as name=value."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from jaxprune.components import ALLOCATIONS, CRITERIA, PRUNING_SCHEDULES, SPARED, STRUCTURES
from jaxprune.config.sections import Prune
from jaxprune.errors import UserError
from jaxprune.registry import Registry


class Part(NamedTuple):
    """A part of a registry with its options, as a value.

    Attributes:
      name: In its registry; "" for none.
      options: Those that differ from the defaults, by name.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()


def criterion_of(prune: Prune, name: str) -> Part:
    """Return a criterion with its own options of the settings."""
    path = "prune.criterion_options"
    own = [text for text in prune.criterion_options if _owner(text) in ("", name)]
    if name != prune.criterion or prune.criteria:
        own = [text for text in own if _owner(text) == name]
    return _part(CRITERIA, name, [text.removeprefix(f"{name}.") for text in own], path)


def structure_of(prune: Prune, entry: str = "") -> Part:
    """The structure of the settings, or that of an entry of `prune.structures`.

    Args:
      prune: The settings.
      entry: A name, with options after colons: "channels:cost=flops:pool=l1". "" for the structure of the settings.
    """
    if entry:
        name, *options = entry.split(":")
        return _part(STRUCTURES, name, options, "prune.structures")
    return _part(STRUCTURES, prune.structure, prune.structure_options, "prune.structure_options")


def allocation_of(prune: Prune) -> Part:
    """Return the allocation of the settings, nameless for the usual one."""
    if prune.allocation in ("", SPARED):
        if prune.allocation_options:
            raise UserError(
                f"prune.allocation_options: {prune.allocation or 'the usual allocation'} has no options; leave them out"
            )
        return Part(prune.allocation)
    part = _part(ALLOCATIONS, prune.allocation, prune.allocation_options, "prune.allocation_options")
    if part.name == "levels" and not part.options:
        raise UserError("prune.allocation_options: levels needs some, as levels=dense_0/*=0.5")
    return part


def schedule_of(prune: Prune) -> dict[str, Any]:
    """The options of the schedule of the settings, defaults included."""
    part = _part(PRUNING_SCHEDULES, prune.schedule, prune.schedule_options, "prune.schedule_options")
    return dict(PRUNING_SCHEDULES.defaults(prune.schedule)) | dict(part.options)


def check_options(prune: Prune) -> None:
    """Raise for options that no part has.

    Raises:
      UserError: It names the setting.
    """
    names = prune.criteria or (prune.criterion,)
    owners = list(dict.fromkeys(filter(None, map(_owner, prune.criterion_options))))
    for owner in owners:
        CRITERIA.check(owner, where="prune.criterion_options")
    for text in prune.criterion_options:
        if not _owner(text) and prune.criteria:
            raise UserError(f"prune.criterion_options: say whose option {text!r} is, as {names[0]}.{text}")
    for name in dict.fromkeys((*names, *owners)):
        criterion_of(prune, name)
    for entry in ("", *prune.structures):
        structure_of(prune, entry)
    allocation_of(prune)
    schedule_of(prune)


def unused_option(prune: Prune, tried: Collection[str]) -> str:
    """Return a criterion's option whose criterion is not tried, or ""."""
    return next((text for text in prune.criterion_options if _owner(text) not in ("", *tried)), "")


def _owner(text: str) -> str:
    """The part that an option is written for, before the dot; or ""."""
    name, dot, _ = text.partition("=")[0].partition(".")
    return name if dot else ""


def _part(registry: Registry, name: str, texts: Sequence[str], path: str) -> Part:
    defaults = registry.defaults(name)
    options = {}
    for text in texts:
        option, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{path}: {text!r} is no option; write name=value, such as {_example(defaults)}")
        if option in options:
            raise UserError(f"{path}: {option} is given twice; name each option once")
        options[option] = value
    registry.fill(name, options, section=path)
    read = {option: _value(text, defaults[option], f"{path}.{option}") for option, text in options.items()}
    return Part(name, tuple(sorted((option, value) for option, value in read.items() if value != defaults[option])))


def _example(defaults: Mapping[str, Any]) -> str:
    return next((f"{name}={value}" for name, value in defaults.items()), "damping=1e-3")


def _value(text: str, default: Any, path: str) -> Any:
    """Read an option as the type of its default.

    Raises:
      UserError: It is of another type.
    """
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise UserError(f"{path} = {text!r}: it should be true or false")
        return text.lower() == "true"
    if isinstance(default, tuple):
        return tuple(text.split(","))
    if isinstance(default, str):
        return text
    if default is None and not text.lstrip("+-").isdigit():
        return tuple(text.split(","))
    kind = float if isinstance(default, float) else int
    try:
        value = kind(text)
    except ValueError:
        raise UserError(f"{path} = {text!r}: it should be a {'whole ' * (kind is int)}number") from None
    if value != value or abs(value) == float("inf"):
        raise UserError(f"{path} = {text!r}: it should be finite")
    return value
