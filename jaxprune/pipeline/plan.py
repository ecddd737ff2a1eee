"""The plan of a job: stages done, stages to do, estimated time."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from jaxprune.config import Settings
from jaxprune.files import SEAL
from jaxprune.pipeline.checks import check_run
from jaxprune.pipeline.comparison import checked_comparison, comparison_stage
from jaxprune.pipeline.context import Context, Silent
from jaxprune.pipeline.experiment import Experiment, resolve
from jaxprune.pipeline.run import final_stages, settings_until
from jaxprune.pipeline.stage import Stage, Workspace

_DESCRIBED = "stage.json"  # written when a stage begins; its seal is written when it ends


@dataclass(frozen=True)
class Planned:
    """One stage of a job.

    Attributes:
      stage: The stage.
      done: Whether its artefact is there.
      seconds: How long it may take, by those of its kind that are done; None where there are none, and 0 where it is
        done.
    """

    stage: Stage
    done: bool
    seconds: float | None


def plan_run(settings: Settings, out: Path, *, until: str = "report") -> list[Planned]:
    """Plan a run without making anything, in the order of the work.

    Args:
      settings: As of `pipeline.run`.
      out: As of `pipeline.run`; it need not be there.
      until: As of `pipeline.run`.

    Raises:
      UserError: A setting or the data is not fit.
    """
    settings = settings_until(settings, until)
    check_run(settings, until)
    context = _context(resolve(settings), out)
    return _planned(context, final_stages(context, until))


def plan_comparison(settings: Settings, out: Path) -> list[Planned]:
    """Plan a comparison without making anything, in the order of the work.

    Args:
      settings: As of `pipeline.compare`.
      out: As of `pipeline.compare`; it need not be there.

    Raises:
      UserError: A setting or the data is not fit.
    """
    context = _context(checked_comparison(settings), out)
    return _planned(context, [comparison_stage(context)])


def _context(experiment: Experiment, out: Path) -> Context:
    return Context(experiment, Workspace(out), Silent(), 0.0)


def _planned(context: Context, finals: Iterable[Stage]) -> list[Planned]:
    workspace, found = context.workspace, {}
    for final in finals:
        for stage in _needed(final, workspace):
            found.setdefault(stage.address, stage)
    known = _durations(workspace)
    return [
        Planned(stage, True, 0.0) if workspace.done(stage) else Planned(stage, False, _estimate(stage, known))
        for stage in found.values()
    ]


def _needed(stage: Stage, workspace: Workspace) -> Iterator[Stage]:
    """A stage after its missing parents."""
    if not workspace.done(stage):
        for parent in stage.parents:
            yield from _needed(parent, workspace)
    yield stage


def _estimate(stage: Stage, known: Mapping[str, Sequence[tuple[float, float]]]) -> float | None:
    """The mean time of the stages of its kind, in proportion to their work."""
    work = _work(stage.settings, len(stage.parents))
    times = [seconds * work / other for other, seconds in known.get(_kind(stage.name), [])]
    return mean(times) if times else None


def _kind(name: str) -> str:
    """The name of a stage without its sparsity: "none-0.5" is of the kind "none"."""
    if name.startswith("outcomes-"):
        return "outcomes"  # of several networks, which are measured together
    return "-".join(part for part in name.split("-") if not part.replace(".", "").isdigit())


def _work(settings: Mapping[str, Any], parents: int) -> int:
    """Epochs of a training; networks and the like that another stage looks at."""
    trained = settings.get("train") or settings.get("retrain") or {}
    return max(trained.get("epochs", parents), 1)


def _durations(workspace: Workspace) -> dict[str, list[tuple[float, float]]]:
    """Kind of stage -> work and own seconds of each finished one."""
    spans: dict[Path, tuple[float, float]] = {}
    for folder in sorted((workspace.root / "stages").glob("*")):
        try:
            begun, ended = ((folder / name).stat().st_mtime for name in (_DESCRIBED, SEAL))
        except OSError:
            continue
        if ended >= begun:
            spans[folder] = (begun, ended)
    found: dict[str, list[tuple[float, float]]] = {}
    for folder, (begun, ended) in spans.items():
        inner = [span for other, span in spans.items() if other != folder and begun <= span[0] and span[1] <= ended]
        if described := _described(folder):
            work = _work(described["settings"], len(described["parents"]))
            found.setdefault(_kind(described["name"]), []).append((work, ended - begun - _covered(inner)))
    return found


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of some spans of time."""
    total, until = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(ended - max(begun, until), 0.0)
        until = max(until, ended)
    return total


def _described(folder: Path) -> dict[str, Any]:
    """What `stage.json` says; nothing where it is damaged."""
    try:
        values = json.loads((folder / _DESCRIBED).read_bytes())
    except (OSError, ValueError):
        return {}
    good = isinstance(values, dict) and {"name", "settings", "parents"} <= values.keys()
    return values if good else {}
