"""The stages in their order, and the output folder that they end in."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxprune.config import Settings
from jaxprune.errors import UserError
from jaxprune.pipeline.audits import audit, audit_stage, audited, stage_of
from jaxprune.pipeline.checks import check_constraint
from jaxprune.pipeline.context import Context, Silent, json_once, reuse
from jaxprune.pipeline.experiment import Experiment, resolve
from jaxprune.pipeline.laboratory import MEASURES, laboratory, laboratory_stage
from jaxprune.pipeline.outcomes import networks
from jaxprune.pipeline.output import gather, read_results, render, render_theory
from jaxprune.pipeline.publishing import publish_report
from jaxprune.pipeline.stage import Stage
from jaxprune.pipeline.theories import theorise, theory_stage
from jaxprune.pipeline.workspaces import open_workspace
from jaxprune.reporting.results import Results
from jaxprune.reporting.theory_findings import warnings
from jaxprune.storage import check_reachable, to_path
from jaxprune.types import Progress

STAGES = ("train", "prune", "audit", "theory", "report")  # what a run may end with


@dataclass(frozen=True)
class RunResult:
    """What a run made.

    Attributes:
      out: The folder of the report: the output folder, or one in it where a report by other groups lies there.
      settings: The settings, fully resolved.
      made: What it made or found made: stage name -> folder.
      results: The results, where the run went as far as the report.
      seconds: How long it took.
    """

    out: Path
    settings: Settings
    made: dict[str, Path]
    results: Results | None
    seconds: float


def run(
    settings: Settings,
    out: Path | str,
    *,
    until: str = "report",
    write_again: bool = False,
    progress: Progress | None = None,
    checkpoint_seconds: float = 30.0,
    command: str = "",
) -> RunResult:
    """Runs an experiment up to a stage; what is done already is not done again.

    Args:
      settings: The settings.
      out: The output folder: new, empty or from an earlier run; it may be in an object store, as gs://bucket/folder.
      until: One of `STAGES`: "train" the dense networks; "prune" and retrain; "audit" every network; "theory" at the
        dense networks (which needs no retraining), with every measure unless the settings name some; "report", which is
        everything.
      write_again: Whether a report that is there is written anew, from the measurements that are there.
      progress: Told of the work.
      checkpoint_seconds: A training that takes longer than this leaves checkpoints this often.
      command: The command that was given, for the record.

    Returns:
      What was made, and the results.

    Raises:
      UserError: A setting, the data or the folder is not fit; or a training diverged.
    """
    begun, out = time.monotonic(), to_path(out)
    check_reachable(out, "--out")
    if not max(settings.prune.sparsities):
        raise UserError("prune.sparsities: 0 prunes nothing; give at least one sparsity above 0, such as 0.5")
    if until == "theory" and not settings.theory.measures:
        every = settings.theory.model_copy(update={"measures": MEASURES})
        settings = settings.model_copy(update={"theory": every})
    if until != "theory" and set(settings.mitigation.methods) != {"none"}:
        check_constraint(settings)
    experiment = resolve(settings)
    progress = progress or Silent()
    with open_workspace(out, progress.say) as workspace:
        context = Context(experiment, workspace, progress, checkpoint_seconds)
        for warning in _data_warnings(experiment):
            context.progress.say(f"warning: {warning}")
        if until == "report":
            made, results = _report(context, command, write_again)
        elif until == "theory":
            made, results = _theory(context, command), None
        else:
            made, results = _UNTIL[until](context), None
    place = made["report"] if until == "report" else out
    return RunResult(place, experiment.settings, made, results, time.monotonic() - begun)


def _data_warnings(experiment: Experiment) -> list[str]:
    """What is to be known of the groups, those of further groupings with the name of theirs."""
    of_further = [f"by {grouping.name}: {text}" for grouping in experiment.further for text in grouping.warnings()]
    return [*experiment.dataset.warnings(), *of_further]


def _report(context: Context, command: str, write_again: bool) -> tuple[dict[str, Path], Results]:
    settings = context.experiment.settings.model_dump(mode="json")
    stage = Stage("report", settings, (audit_stage(context), theory_stage(context)))
    results = None if write_again else reuse(context, stage, read_results)
    if results is None:
        results = gather(context, audit(context), theorise(context), laboratory(context))
        _warn(context, results)
        render(context, stage, results, command)
        results = read_results(context.workspace.read(stage))
    return {"report": publish_report(context, stage)}, results


def _train(context: Context) -> dict[str, Path]:
    return _make(context, lambda sparsity: sparsity == 0)


def _prune(context: Context) -> dict[str, Path]:
    return _make(context, lambda sparsity: sparsity > 0)


def _make(context: Context, wanted: Callable[[float], bool]) -> dict[str, Path]:
    made = {}
    for model, sparsity, stage, give in networks(context):
        if wanted(sparsity):
            give()
            made[f"{model} {sparsity:g}" if sparsity else model] = context.workspace.folder(stage)
    return made


def _audit(context: Context) -> dict[str, Path]:
    audit(context)
    return {"audit": context.workspace.folder(audit_stage(context))}


def _theory(context: Context, command: str) -> dict[str, Path]:
    """The theory on a page of its own, without any retraining."""
    values, further = theorise(context), laboratory(context)
    entries = [entry for entry in networks(context) if entry.model in ("dense", "pruned")]
    groupings = context.experiment.groupings[:1]
    accuracies = stage_of(context, "theory-audit", entries, groupings)
    values_of_audit = json_once(context, accuracies, lambda: audited(context, entries, groupings))
    parents = tuple(laboratory_stage(context, m) for m in context.experiment.settings.theory.measures)
    own = {"audit": context.experiment.settings.audit.model_dump(mode="json", exclude={"groups"})}
    stage = Stage("theory-page", own, (theory_stage(context), accuracies, *parents))
    results = gather(context, values_of_audit, values, further)
    _warn(context, results)
    return render_theory(context, stage, results, command)


def _warn(context: Context, results: Results) -> None:
    for warning in warnings(results):
        context.progress.say(f"warning: {warning}")


_UNTIL: dict[str, Callable[[Context], dict[str, Path]]] = {
    "train": _train,
    "prune": _prune,
    "audit": _audit,
}
