"""From a TOML file and overrides to settings, and back."""

import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from jaxprune.config.rules import check_settings
from jaxprune.config.sections import SECTIONS, Settings, paths
from jaxprune.errors import UserError, unknown
from jaxprune.storage import expand, local
from jaxprune.text import path_fault, shortened

_LARGEST: Mapping[type, float] = {int: 2**31 - 1, float: 3e38}  # what 32 bits hold
_DEEPEST = 3  # sections, settings, their parts
_LONGEST = 60  # characters of a value in a message

_DATA_FILES = (".npz", ".csv", ".tsv", ".parquet", ".pq")
_PATHS = {"data": ("name", "directory"), "model": ("weights",)}  # settings that are or may be paths, by section


def load(
    source: str | None = None, overrides: Mapping[str, Any] | None = None, *, origin: str = "command line"
) -> Settings:
    """The settings of a config with overrides.

    Args:
      source: A TOML file or the name of a shipped config; or a file of data (npz, CSV or Parquet), for the default
        config with these data; None for the default config.
      overrides: Setting path, such as `train.epochs`, -> value; a text is read as the type of the setting.
      origin: Where the overrides come from, for the messages.

    Returns:
      The settings.

    Raises:
      UserError: A file is missing or is not TOML, a setting is unknown, or a value is of the wrong type or range.
    """
    where, values = origin, {}
    if source is not None and Path(source).suffix.lower() in _DATA_FILES:
        named = (overrides or {}).get("data.name", source)
        if named != source:
            raise UserError(f"data.name: {named} and {source} are both given; leave one out")
        values = {"data": {"name": source}}
    elif source is not None:
        path = find(source)
        where = str(path)
        values = _read(path)
    overrides = overrides or {}
    for path, value in overrides.items():
        section, _, leaf = path.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        if not isinstance(target, dict):
            raise UserError(f"{where}: {section} is {target!r}; it is a table of settings, [{section}]")
        target[leaf] = value
    return validate(values, where, dict.fromkeys(overrides, origin))


def _read(path: Path) -> dict[str, Any]:
    """The values of a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise UserError(f"{path}: its values are nested too deeply; settings are of sections alone") from None
    except ValueError as error:  # not TOML, not UTF-8, or a number of thousands of digits
        raise UserError(f"{path}: not a TOML file: {shortened(str(error), 200)}") from None


def validate(values: Mapping[str, Any], where: str, origins: Mapping[str, str] | None = None) -> Settings:
    """Settings from nested values.

    Args:
      values: Section -> setting -> value.
      where: Where they come from, for the messages.
      origins: Setting path -> where that one comes from, if from elsewhere.

    Raises:
      UserError: As `load`.
    """
    _check_size(values, where)
    try:
        settings = Settings.model_validate(_tuples(values))
    except ValidationError as error:
        raise _explain(error, where, origins or {}) from None
    _check_paths(settings)
    settings = _with_local_paths(settings)
    check_settings(settings)
    return settings if settings.name else settings.model_copy(update={"name": Path(settings.data.name).stem})


def _with_local_paths(settings: Settings) -> Settings:
    """The settings with `~` replaced in every path.

    Raises:
      UserError: A path is the address of an object store.
    """
    sections = {}
    for section, names in _PATHS.items():
        values = getattr(settings, section)
        paths = {name: local(path, f"{section}.{name}") for name in names if (path := getattr(values, name))}
        sections[section] = values.model_copy(update=paths)
    return settings.model_copy(update=sections)


def to_toml(settings: Settings) -> str:
    """The settings as TOML, without those that are None."""
    return tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))


def shipped() -> dict[str, Path]:
    """Name -> file of the configs that come with jaxprune."""
    here = Path(__file__).parent.parent
    folder = here / "configs" if (here / "configs").is_dir() else here.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find(source: str) -> Path:
    """The file of a config given by path or by shipped name.

    Raises:
      UserError: There is none.
    """
    if fault := path_fault(source):
        raise UserError(f"config {shortened(source, _LONGEST)}: {fault}; give the name of a file")
    path = expand(source)
    if path.is_file():
        return path
    known = shipped()
    if source in known:
        return known[source]
    if path.suffix == ".toml" and path.stem in known:
        raise UserError(f"there is no file {source}; the shipped config of that name is run as: {path.stem}")
    if "/" in source and path.suffix != ".toml":
        raise UserError(f"there is no file or folder {source}; give the folder of a run, or a config's file or name")
    raise unknown("config", source, known)


def _tuples(value: Any) -> Any:
    """Strict validation takes tuples where TOML gives lists."""
    if isinstance(value, Mapping):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _check_size(value: Any, where: str, path: str = "", depth: int = 0) -> None:
    """Raise for numbers that are too large and values nested too deeply."""
    if depth > _DEEPEST:
        raise UserError(f"{where}: {path} is nested too deeply; leave it out")
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, item in items:
        _check_size(item, where, f"{path}.{name}".strip(".") if isinstance(value, Mapping) else path, depth + 1)
    limit = 2**32 - 1 if path == "first_seed" else _LARGEST.get(type(value), math.inf)
    if isinstance(value, int | float) and limit < abs(value) < math.inf:
        given = repr(value) if isinstance(value, float) or abs(value) < 10**40 else "a number of more than 40 digits"
        raise UserError(f"{where}: {path} = {given}: it should be at most {limit:.10g}")


def _check_paths(settings: Settings) -> None:
    """Raise for names that no file system takes."""
    for setting, text in (
        ("data.name", settings.data.name),
        ("data.directory", settings.data.directory or ""),
        ("model.weights", settings.model.weights),
    ):
        if fault := path_fault(text):
            raise UserError(f"{setting} = {shortened(repr(text), _LONGEST)}: {fault}; give another one")
    if settings.first_seed + settings.seeds > 2**32:
        raise UserError(
            f"seeds: {settings.seeds} seeds from first_seed = {settings.first_seed} go beyond {2**32 - 1}; begin with "
            "a smaller one"
        )


def _explain(error: ValidationError, where: str, origins: Mapping[str, str]) -> UserError:
    """Describe the first fault on one line."""
    fault = error.errors()[0]
    location = [str(part) for part in fault["loc"]]
    kinds = ("tuple", "function", "constrained")  # of types, which stand among the names
    names = [
        part for part in location if not part.isdigit() and not part.startswith(kinds) and part not in ("float", "str")
    ]
    path = ".".join(names)
    where = origins.get(path, where)
    if fault["type"] == "extra_forbidden":
        return unknown("setting", path, paths() | dict.fromkeys(SECTIONS, ""), where=where)
    got = fault["input"]
    if fault["type"] == "model_type":
        return UserError(
            f"{where}: {path} = {shortened(repr(got), _LONGEST)}: it should be a section, as [{path}] in TOML"
        )
    reason = fault["msg"][0].lower() + fault["msg"][1:]
    reason = reason.replace("input should be", "it should be").replace("a valid tuple", "a list of values")
    return UserError(f"{where}: {path} = {shortened(repr(got), _LONGEST)}: {reason}{_as_share(fault)}")


def _as_share(fault: Any) -> str:
    """Advice on writing a percentage as a share: 0.5 for 50 %."""
    got, below = fault["input"], fault.get("ctx", {}).get("lt")
    if fault["type"] != "less_than" or below != 1 or not 1 < got < 100:
        return ""
    return f"; write {got / 100:g} for {got:g} %"
