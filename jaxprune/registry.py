"""Registries: named parts that settings can choose."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

from jaxprune.errors import UserError, unknown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True)
class Entry:
    """One named part, imported when it is first used.

    Attributes:
      target: Its constructor, as "package.module:function".
      about: One line that describes it.
      defaults: Its options and their defaults; None reads the constructor's keyword-only arguments.
      distribution: The installed package that adds it; "" for jaxprune itself.
    """

    target: str
    about: str = ""
    defaults: Mapping[str, Any] | None = field(default_factory=dict)
    distribution: str = ""


class Registry(Mapping[str, Any]):
    """Name -> constructor of one family of parts, with its defaults bound.

    Installed packages add entries through the entry points of `group`. They are read when a name is first looked up or
    listed; the part itself is imported when it is first used.

    Args:
      kind: What an entry is called in messages, such as "criterion".
      entries: The entries of jaxprune itself.
      group: The group of entry points; "" takes none.
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry], *, group: str = ""):
        self.kind, self.group, self._own = kind, group, entries
        self._loaded: dict[str, Any] = {}

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        """All entries, those of other packages last.

        Raises:
          UserError: Two packages add entries of one name.
        """
        entries = dict(self._own)
        for point in _entry_points(self.group):
            source = point.dist.name if point.dist is not None else "an unknown package"
            if point.name in entries:
                other = entries[point.name].distribution or "jaxprune"
                raise UserError(
                    f"{self.group}: the packages {other} and {source} both add the {self.kind} {point.name!r}; "
                    "uninstall one, or rename its entry point"
                )
            entries[point.name] = Entry(point.value, f"from the package {source}", None, source)
        return entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Any:
        return self.choose(name)

    def names(self) -> tuple[str, ...]:
        """All names, in the order of the registry."""
        return tuple(self._entries)

    def describe(self) -> dict[str, str]:
        """Name -> one line that describes the entry; nothing is imported."""
        return {name: entry.about for name, entry in self._entries.items()}

    def added(self) -> frozenset[str]:
        """The names of the entries that other packages add."""
        return frozenset(name for name, entry in self._entries.items() if entry.distribution)

    def check(self, name: str, *, where: str = "") -> None:
        """Raise if there is no entry of this name.

        Args:
          name: The name.
          where: The setting that holds the name, for the message.

        Raises:
          UserError: The name is unknown.
        """
        if name not in self:
            raise unknown(self.kind, name, self, where=where)

    def choose(self, name: str, *, where: str = "") -> Any:
        """Import the constructor of an entry; the same object at every call.

        Args:
          name: The name.
          where: The setting that holds the name, for the message.

        Raises:
          UserError: The name is unknown, or the package that adds it cannot be imported.
        """
        self.check(name, where=where)
        if name not in self._loaded:
            entry = self._entries[name]
            part = self._import(name, entry)
            self._loaded[name] = partial(part, **entry.defaults) if entry.defaults else part
        return self._loaded[name]

    def make(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call the constructor of an entry with options.

        Options that are left out have their defaults.

        Raises:
          UserError: As `choose` and `fill`.
        """
        return self.choose(name)(*arguments, **self.fill(name, options))

    def defaults(self, name: str) -> Mapping[str, Any]:
        """The options of an entry and their defaults."""
        self.check(name)
        entry = self._entries[name]
        if entry.defaults is not None:
            return entry.defaults
        part = self.choose(name)
        function = part.__init__ if inspect.isclass(part) else part  # a metaclass may hide the arguments of a class
        parameters = inspect.signature(function).parameters.values() if callable(function) else ()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}

    def fill(self, name: str, options: Mapping[str, Any], *, section: str = "") -> dict[str, Any]:
        """Complete the options of an entry with its defaults.

        Args:
          name: The entry.
          options: Options by name; None means the default.
          section: The section of the settings that holds the options, for the message.

        Raises:
          UserError: The entry has no such option, which would do nothing.
        """
        return fill(section, name, self.defaults(name), options)

    def _import(self, name: str, entry: Entry) -> Any:
        module, _, attributes = entry.target.partition(":")
        try:
            part: Any = importlib.import_module(module)
            for attribute in attributes.split("."):
                part = getattr(part, attribute)
        except Exception as error:
            if not entry.distribution:
                raise
            raise UserError(
                f"{self.group}: {name} of the package {entry.distribution} cannot be imported from {entry.target} "
                f"({type(error).__name__}: {' '.join(str(error).split())}); repair or uninstall that package"
            ) from error
        return part


def fill(section: str, name: str, defaults: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the options of a part with its defaults.

    Args:
      section: The section of the settings, for the message; "" for none.
      name: The part, such as "mlp".
      defaults: Its options.
      options: Options by name; None means the default.

    Raises:
      UserError: The part has no such option, which would do nothing.
    """
    for option, value in options.items():
        if value is not None and option not in defaults:
            has = f"it has {', '.join(defaults)}" if defaults else "it has no options"
            where = f"{section}.{option}" if section else option
            raise UserError(f"{where}: {name} has no {option}; leave it out ({has})")
    return {option: default if options.get(option) is None else options[option] for option, default in defaults.items()}


@cache
def _installed() -> Any:
    """The entry points of all installed packages, read once for all groups."""
    from importlib import metadata  # which brings email and zipfile: only where names are asked for

    return metadata.entry_points()  # EntryPoints, or SelectableGroups before Python 3.12: both have `select`


def _entry_points(group: str) -> "tuple[EntryPoint, ...]":
    """The entry points of a group, in a fixed order."""
    points = _installed().select(group=group) if group else ()
    return tuple(sorted(points, key=lambda point: (point.name, point.dist.name if point.dist is not None else "")))
