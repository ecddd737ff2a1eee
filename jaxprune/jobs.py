"""Experiments from Python: `jaxprune.run` and `jaxprune.compare`, for notebooks and scripts."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxprune import config
from jaxprune.config import Settings
from jaxprune.errors import UserError, unknown
from jaxprune.files import MARKER, folder_name
from jaxprune.published import restore_config
from jaxprune.storage import expand, to_path
from jaxprune.text import path_fault, shortened

if TYPE_CHECKING:
    from jaxprune.pipeline import JobResult
    from jaxprune.pipeline.exporting import NetworkFile

_CHECKPOINT_SECONDS = 30.0


class Job(NamedTuple):
    """Validated settings, and the folder for what they make."""

    settings: Settings
    out: Path


def resolve_job(
    source: str | Path | None,
    overrides: Mapping[str, Any],
    out: str | Path | None,
    *,
    origin: str = "command line",
    warn: Callable[[str], None] | None = None,
) -> Job:
    """Find the settings of a job and its folder.

    Args:
      source: A TOML file, the name of a shipped config or the folder of an earlier run; None for the default config.
      overrides: Setting path, such as `train.epochs`, -> value.
      out: The output folder; None for the folder of that run, or else `runs/<name>`.
      origin: Where the overrides come from, for the messages.
      warn: Told where the config of an earlier run was changed, and is written anew.

    Raises:
      UserError: A file is missing or is not TOML, a setting is unknown, or a value is of the wrong type or range.
    """
    source, out = None if source is None else str(source), None if out is None else to_path(out)
    if source and not path_fault(source) and expand(source).is_dir():
        folder = expand(source)
        within = not (folder / MARKER).exists() and (folder.parent / MARKER).exists()  # a report by other groups
        source, out = str(folder / "config.toml"), out or (folder.parent if within else folder)
        line = restore_config(folder)
        if line and warn is not None:
            warn(line)
        if not Path(source).is_file():
            raise UserError(f"{folder} holds no config.toml; give a config, and the folder as --out")
    if fault := path_fault(str(out or "")):
        raise UserError(f"--out {shortened(str(out), 60)}: {fault}; name another folder")
    settings = config.load(source, overrides, origin=origin)
    return Job(settings, out or Path("runs") / folder_name(settings.name))


def run(
    source: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    /,
    *,
    out: str | Path | None = None,
    until: str = "report",
    progress: str = "auto",
    checkpoint_seconds: float = _CHECKPOINT_SECONDS,
    **changes: Any,
) -> "JobResult":
    """Runs an experiment in this process, as `jaxprune run` does.

    For example, `jaxprune.run("adult", seeds=2, train={"epochs": 3}, out="runs/adult")`. The devices that this process
    uses are used, and compiled programs are kept on disk.

    Args:
      source: The name of a shipped config, a TOML file or the folder of an earlier run; adult without it.
      settings: Setting path, such as "train.epochs", -> value.
      out: The output folder; `runs/<name>` without it.
      until: "report" for everything; "train", "prune", "audit" and "theory" end earlier, as those commands do.
      progress: How progress is shown: "auto", "bars", "lines" or "none".
      checkpoint_seconds: A training longer than this leaves checkpoints this often.
      **changes: More settings: a section with a mapping, as `train={"epochs": 3}`, or a setting of no section, as
        `seeds=2`.

    Returns:
      The result, which shows itself in a notebook: its answer and a table. `report()` shows the page, `to_pandas()`
      gives tables.

    Raises:
      UserError: A setting, the data, the devices or the folder is not fit; or a training diverged.
    """
    given = _flat({**(settings or {}), **changes})
    job = resolve_job(source, given, out, origin="jaxprune.run", warn=warnings.warn)
    command = _call("run", source, given, out, {} if until == "report" else {"until": until})
    from jaxprune import pipeline

    if until not in pipeline.STAGES:
        raise unknown("stage", until, pipeline.STAGES, where="jaxprune.run: until", listed=True)
    with _started(progress) as display:
        told: Any = {"progress": display, "checkpoint_seconds": checkpoint_seconds, "command": command}
        return pipeline.run(*job, until=until, **told)


def compare(
    source: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    /,
    *,
    out: str | Path | None = None,
    progress: str = "auto",
    checkpoint_seconds: float = _CHECKPOINT_SECONDS,
    **changes: Any,
) -> "JobResult":
    """Compares ways of retraining in this process, as `jaxprune compare` does.

    For example, `jaxprune.compare("compare_adult", seeds=4, retrain={"methods": ["naive", "equal_loss"]})`.

    Args:
      source: As of `jaxprune.run`.
      settings: As of `jaxprune.run`.
      out: The output folder; `runs/<name>` without it. The report lies in `compare` in it.
      progress: How progress is shown: "auto", "bars", "lines" or "none".
      checkpoint_seconds: A training longer than this leaves checkpoints this often.
      **changes: As of `jaxprune.run`.

    Returns:
      The result, which shows itself in a notebook.

    Raises:
      UserError: A setting, the data, the devices or the folder is not fit; or plain fine-tuning itself diverged.
    """
    given = _flat({**(settings or {}), **changes})
    job = resolve_job(source, given, out, origin="jaxprune.compare", warn=warnings.warn)
    command = _call("compare", source, given, out, {})
    from jaxprune import pipeline

    with _started(progress) as display:
        told: Any = {"progress": display, "checkpoint_seconds": checkpoint_seconds, "command": command}
        return pipeline.compare(*job, **told)


def export_network(
    source: str | Path,
    network: str,
    out: str | Path,
    *,
    format: str = "safetensors",
    seed: int | None = None,
    batch: int | None = None,
) -> "NetworkFile":
    """Write a network of a finished run, as `jaxprune export` does.

    For example, `jaxprune.export_network("runs/digits", "pruned 0.9", "pruned.safetensors")`.

    Args:
      source: The folder of the run, or its config where that folder is `runs/<name>`.
      network: The key of the network in the results, or its name or title, with its sparsity where that is needed.
      out: The file, which must not be there.
      format: "safetensors", "packed", "bcoo" or "stablehlo".
      seed: The seed of the network; None for the first of the run.
      batch: The number of examples in a call of a StableHLO program; None for any number.

    Returns:
      The file, its size, and that of the dense arrays.

    Raises:
      UserError: The run, the network or the seed is not known, or the file cannot be written.
    """
    job = resolve_job(source, {}, None, origin="jaxprune.export_network", warn=warnings.warn)
    from jaxprune.pipeline import exporting

    asked: Any = {"form": format, "seed": seed, "batch": batch, "warn": warnings.warn}
    return exporting.export_network(*job, network, out, **asked)


def _started(progress: str) -> Any:
    """A display, once JAX has its devices and its cache."""
    from jaxprune import console
    from jaxprune.devices import check_devices

    display = console.Display(progress)
    console.start_jax()
    if warning := check_devices():
        display.say(f"warning: {warning}")
    return display


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Setting path -> plain value, of settings that may be nested by section."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{leaf}": _plain(inner) for leaf, inner in value.items()}
        else:
            flat[name] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    """A value as TOML would give it, without numpy types and paths."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple | range) else value


def _call(
    function: str, source: str | Path | None, given: Mapping[str, Any], out: str | Path | None, more: Mapping[str, Any]
) -> str:
    """The call as one would type it, for the record."""
    arguments = [] if source is None else [repr(str(source))]
    arguments += [repr(dict(given))] if given else []
    if given and source is None:
        arguments.insert(0, "None")
    arguments += [f"out={str(out)!r}"] if out is not None else []
    arguments += [f"{name}={value!r}" for name, value in more.items()]
    return f"jaxprune.{function}({', '.join(arguments)})"
