"""From a TOML file and overrides to settings, and back."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from jaxprune.config.sections import SECTIONS, Settings, paths
from jaxprune.errors import UserError, unknown
from jaxprune.storage import expand, local

_PATHS = {"data": ("name", "directory"), "model": ("weights",)}  # settings that are or may be paths, by section


def load(source: str | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a config with overrides.

    Args:
      source: A TOML file or the name of a shipped config; None for the default one.
      overrides: Setting path, such as `train.epochs`, -> value; a text is read as the type of the setting.

    Returns:
      The settings.

    Raises:
      UserError: A file is missing or is not TOML, a setting is unknown, or a value is of the wrong type or range.
    """
    where, values = "command line", {}
    if source is not None:
        path = find(source)
        where = str(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a TOML file: {error}") from None
    for path, value in (overrides or {}).items():
        section, _, leaf = path.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        if not isinstance(target, dict):
            raise UserError(f"{where}: {section} is {target!r}; it is a table of settings, [{section}]")
        target[leaf] = value
    return validate(values, where)


def validate(values: Mapping[str, Any], where: str) -> Settings:
    """Settings from nested values; `where` names their origin in the messages.

    Raises:
      UserError: As `load`.
    """
    try:
        settings = Settings.model_validate(_tuples(values))
    except ValidationError as error:
        raise _explain(error, where) from None
    settings = _with_local_paths(settings)
    _check_together(settings)
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
    """The settings as TOML; settings that are None (the model's own default) are left out."""
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
    path = expand(source)
    if path.is_file():
        return path
    known = shipped()
    if source in known:
        return known[source]
    if path.suffix == ".toml" and path.stem in known:
        raise UserError(f"there is no file {source}; the shipped config of that name is run as: {path.stem}")
    raise unknown("config", source, known)


def _tuples(value: Any) -> Any:
    """Strict validation takes tuples where TOML gives lists."""
    if isinstance(value, Mapping):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _explain(error: ValidationError, where: str) -> UserError:
    """The first fault, as one line that names the setting and the remedy."""
    fault = error.errors()[0]
    location = [str(part) for part in fault["loc"]]
    kinds = ("tuple", "function", "constrained")  # of types, which stand among the names
    names = [
        part for part in location if not part.isdigit() and not part.startswith(kinds) and part not in ("float", "str")
    ]
    path = ".".join(names)
    if fault["type"] == "extra_forbidden":
        return unknown("setting", path, paths() | dict.fromkeys(SECTIONS, ""), where=where)
    got = fault["input"]
    reason = fault["msg"][0].lower() + fault["msg"][1:]
    return UserError(f"{where}: {path} = {got!r}: {reason.replace('input should be', 'it should be')}")


def _check_together(settings: Settings) -> None:
    """Settings that would do nothing, or contradict each other, are errors rather than silently ignored."""
    train, mitigation = settings.train, settings.mitigation
    if train.momentum and train.optimizer != "sgd":
        raise UserError(f"train.momentum: {train.optimizer} takes none; leave it out, or set train.optimizer to sgd")
    if train.weight_decay and train.optimizer == "adam":
        raise UserError("train.weight_decay: adam takes none; leave it out, or set train.optimizer to adamw")
    if (settings.data.upsample_times > 1) != bool(settings.data.upsample_group):
        raise UserError("data.upsample_group and data.upsample_times go together; give both or neither")
    if mitigation.tolerance and mitigation.constraint.startswith("equal"):
        raise UserError(f"mitigation.tolerance: {mitigation.constraint} takes none; use the constraint loss_gap")
    if settings.model.new_head and not settings.model.weights:
        raise UserError("model.new_head: it is about the file of model.weights; give that too, or leave it out")
    for setting, values in (
        ("prune.sparsities", settings.prune.sparsities),
        ("mitigation.methods", mitigation.methods),
        ("compare.methods", settings.compare.methods),
        ("compare.dual_rates", settings.compare.dual_rates),
        ("compare.tolerances", settings.compare.tolerances),
        ("audit.splits", settings.audit.splits),
    ):
        repeated = [v for v in values if values.count(v) > 1]
        if repeated:
            raise UserError(f"{setting}: {repeated[0]!r} is given twice; name each value once")
