"""The stages of a job before it runs, with estimated times."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from jaxprune.config import Settings
from jaxprune.files import SEAL
from jaxprune.pipeline.addresses import audit_stage, plan_groupings, report_stage, stage_of
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.nodes import Pruned, Retrain, Train
from jaxprune.pipeline.plan import Plan
from jaxprune.pipeline.run import build, comparison_plan, run_plan
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


def dry_run(settings: Settings, out: Path, *, until: str = "report") -> list[Planned]:
    """List the stages of a job, in order, without making anything.

    Args:
      settings: The settings.
      out: The output folder; it need not be there.
      until: The stage that a run ends with, or "compare" for a comparison.

    Raises:
      UserError: A setting or the data is not fit.
    """
    settings, plan = (settings, comparison_plan(settings)) if until == "compare" else run_plan(settings, until)
    experiment = build(settings, plan)
    workspace, stages = Workspace(out), {}
    for final in _final_stages(experiment, plan, until):
        for stage in _needed(final, workspace):
            stages.setdefault(stage.address, stage)
    known = _durations(workspace)
    return [
        Planned(stage, True, 0.0) if workspace.done(stage) else Planned(stage, False, _estimate(stage, known))
        for stage in stages.values()
    ]


def _final_stages(experiment: Experiment, plan: Plan, until: str) -> list[Stage]:
    """The stages that a job ends with; all others are their ancestors."""
    if until in ("train", "prune"):
        kinds = Train if until == "train" else Pruned | Retrain
        return [stage_of(experiment, entry.node) for entry in plan.entries if isinstance(entry.node, kinds)]
    if until == "audit":
        return [audit_stage(experiment, plan, plan_groupings(experiment, plan))]
    return [report_stage(experiment, plan)]


def _needed(stage: Stage, workspace: Workspace) -> Iterator[Stage]:
    """A stage after its missing parents."""
    if not workspace.done(stage):
        for parent in stage.parents:
            yield from _needed(parent, workspace)
    yield stage


def _estimate(stage: Stage, known: Mapping[str, Sequence[tuple[float, float]]]) -> float | None:
    """Estimate a stage's time from others of its kind.

    Times are scaled by the work of the stages.
    """
    work = _work(stage.settings, len(stage.parents))
    times = [seconds * work / other for other, seconds in known.get(_kind(stage.name), [])]
    return mean(times) if times else None


def _kind(name: str) -> str:
    """A stage's name without its sparsity: "none" for "none-0.5"."""
    if name.startswith("outcomes-"):
        return "outcomes"  # of several networks, which are measured together
    if name.startswith("costs-"):
        return "costs of a network"
    return "-".join(part for part in name.split("-") if not part.replace(".", "").isdigit())


def _work(settings: Mapping[str, Any], parents: int) -> int:
    """The size of a stage: epochs of training, or networks measured."""
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
    """Read `stage.json`; return nothing where it is damaged."""
    try:
        values = json.loads((folder / _DESCRIBED).read_bytes())
    except (OSError, ValueError):
        return {}
    good = isinstance(values, dict) and {"name", "settings", "parents"} <= values.keys()
    return values if good else {}
