"""The stages in their order, and the output folder that they end in."""

import time
from collections.abc import Callable
from pathlib import Path

from jaxprune.config import Settings
from jaxprune.pipeline.audits import audit, audit_stage, audited, stage_of
from jaxprune.pipeline.checks import check_run
from jaxprune.pipeline.context import Context, Silent, json_once, reuse
from jaxprune.pipeline.experiment import Experiment, resolve
from jaxprune.pipeline.finished import RunResult
from jaxprune.pipeline.laboratory import MEASURES, laboratory, laboratory_stage
from jaxprune.pipeline.outcomes import Entry, networks
from jaxprune.pipeline.output import gather, read_results, render, render_theory
from jaxprune.pipeline.publishing import publish_report
from jaxprune.pipeline.stage import Stage
from jaxprune.pipeline.theories import theorise, theory_stage
from jaxprune.pipeline.workspaces import open_workspace
from jaxprune.progress import Progress
from jaxprune.reporting.results import Results
from jaxprune.reporting.theory_findings import warnings
from jaxprune.storage import check_reachable, to_path

STAGES = ("train", "prune", "audit", "theory", "report")  # what a run may end with


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
    settings = settings_until(settings, until)
    check_run(settings, until)
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


def settings_until(settings: Settings, until: str) -> Settings:
    """The settings of a run up to a stage: the theory takes every measure unless some are named."""
    if until != "theory" or settings.theory.measures:
        return settings
    every = settings.theory.model_copy(update={"measures": MEASURES})
    return settings.model_copy(update={"theory": every})


def final_stages(context: Context, until: str) -> list[Stage]:
    """The stages that a run up to a stage ends with; all others are their ancestors."""
    if until in ("train", "prune"):
        return [entry.stage for entry in networks(context) if (entry.sparsity > 0) == (until == "prune")]
    finals = {"audit": audit_stage, "theory": _theory_page_stage, "report": _report_stage}
    return [finals[until](context)]


def _report_stage(context: Context) -> Stage:
    settings = context.experiment.settings.model_dump(mode="json")
    return Stage("report", settings, (audit_stage(context), theory_stage(context)))


def _theory_page_stage(context: Context) -> Stage:
    settings = context.experiment.settings
    own = {"audit": settings.audit.model_dump(mode="json", exclude={"groups"})}
    measures = tuple(laboratory_stage(context, measure) for measure in settings.theory.measures)
    return Stage("theory-page", own, (theory_stage(context), _theory_audit(context)[0], *measures))


def _theory_audit(context: Context) -> tuple[Stage, list[Entry]]:
    """The audit of the networks that the theory speaks of."""
    entries = [entry for entry in networks(context) if entry.model in ("dense", "pruned")]
    return stage_of(context, "theory-audit", entries, context.experiment.groupings[:1]), entries


def _data_warnings(experiment: Experiment) -> list[str]:
    """What is to be known of the groups, those of further groupings with the name of theirs."""
    of_further = [f"by {grouping.name}: {text}" for grouping in experiment.further for text in grouping.warnings()]
    return [*experiment.dataset.warnings(), *of_further]


def _report(context: Context, command: str, write_again: bool) -> tuple[dict[str, Path], Results]:
    stage = _report_stage(context)
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
            made[f"{model} {sparsity}" if sparsity else model] = context.workspace.folder(stage)
    return made


def _audit(context: Context) -> dict[str, Path]:
    audit(context)
    return {"audit": context.workspace.folder(audit_stage(context))}


def _theory(context: Context, command: str) -> dict[str, Path]:
    """The theory on a page of its own, without any retraining."""
    values, further = theorise(context), laboratory(context)
    accuracies, entries = _theory_audit(context)
    groupings = context.experiment.groupings[:1]
    values_of_audit = json_once(context, accuracies, lambda: audited(context, entries, groupings))
    stage = _theory_page_stage(context)
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
