"""The commands: make a plan, audit, explain and report it."""

import time
from collections.abc import Callable
from pathlib import Path

from jaxprune.components import ONE_SHOT
from jaxprune.config import Settings
from jaxprune.errors import UserError
from jaxprune.pipeline.addresses import audit_stage, plan_groupings, report_stage
from jaxprune.pipeline.audit import audit
from jaxprune.pipeline.build import resolve
from jaxprune.pipeline.checks import check_settings
from jaxprune.pipeline.costs import measure_costs
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.explain import explain
from jaxprune.pipeline.finished import JobResult
from jaxprune.pipeline.method_checks import check_methods
from jaxprune.pipeline.networks import make_all
from jaxprune.pipeline.nodes import Pruned, Retrain, Train
from jaxprune.pipeline.plan import Plan, plan_comparison, plan_run, plan_theory
from jaxprune.pipeline.pruning_checks import check_pruning, needs_single_layers
from jaxprune.pipeline.report import gather, publish_report, write_report
from jaxprune.pipeline.store import NoProgress, Store
from jaxprune.pipeline.theory_measures import MEASURES, measures
from jaxprune.pipeline.workspaces import open_workspace
from jaxprune.progress import Progress
from jaxprune.reporting.reports import warnings
from jaxprune.results import Results
from jaxprune.results.store import load
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
) -> JobResult:
    """Run an experiment up to a stage; finished stages are kept.

    Args:
      settings: The settings.
      out: The output folder: new, empty or from an earlier job; it may be in an object store, as gs://bucket/folder.
      until: One of `STAGES`: "train" the dense networks; "prune" and retrain; "audit" every network; "theory" at the
        dense networks (which needs no retraining), with every measure unless the settings name some; "report", which is
        everything.
      write_again: Whether a report that is there is written anew, from the measurements that are there.
      progress: The display of the work.
      checkpoint_seconds: A training that takes longer than this leaves checkpoints this often.
      command: The command that was given, for the record.

    Returns:
      What was made, and the results.

    Raises:
      UserError: A setting, the data or the folder is not fit; or a training diverged.
    """
    settings, plan = run_plan(settings, until)
    return _job(settings, plan, out, until, write_again, progress, checkpoint_seconds, command)


def compare(
    settings: Settings,
    out: Path | str,
    *,
    progress: Progress | None = None,
    checkpoint_seconds: float = 30.0,
    command: str = "",
) -> JobResult:
    """Retrain pruned networks by every method and report them together.

    What is done is not done again.

    Args:
      settings: The settings.
      out: The output folder: new, empty or from an earlier job, whose networks are used.
      progress: The display of the work.
      checkpoint_seconds: A training that takes longer than this leaves checkpoints this often.
      command: The command that was given, for the record.

    Returns:
      The results; the report lies in `out/compare`, or in `out/by-.../compare` where reports by other groups lie in
      `out`.

    Raises:
      UserError: A setting, the data or the folder is not fit; or plain fine-tuning itself diverged.
    """
    plan = comparison_plan(settings)
    return _job(settings, plan, out, "report", False, progress, checkpoint_seconds, command)


def run_plan(settings: Settings, until: str) -> tuple[Settings, Plan]:
    """The settings and the plan of a run up to a stage.

    The theory takes every measure unless some are named.

    Raises:
      UserError: A setting is not fit for it.
    """
    check_settings(settings, explained=until in ("theory", "report"))
    if until == "theory" and not settings.theory.measures:
        fit = tuple(measure for measure in MEASURES if not needs_single_layers(measure, settings.prune))
        settings = settings.model_copy(update={"theory": settings.theory.model_copy(update={"measures": fit})})
    if settings.prune.criteria:
        raise UserError("prune.criteria: compare tries several; give prune.criterion here, or run jaxprune compare")
    if settings.prune.structures:
        raise UserError("prune.structures: compare tries several; give prune.structure here, or run jaxprune compare")
    if until == "theory" and settings.prune.schedule != ONE_SHOT:
        raise UserError(
            f"prune.schedule: the theory is about pruning dense networks at once, not {settings.prune.schedule}; "
            "leave it out"
        )
    if until == "theory" and settings.prune.reestimate:
        raise UserError(
            "prune.reestimate: the theory is about networks with the dense networks' statistics; leave it out"
        )
    return settings, plan_theory(settings) if until == "theory" else plan_run(settings)


def comparison_plan(settings: Settings) -> Plan:
    """The plan of a comparison.

    Raises:
      UserError: A setting is not fit for it.
    """
    if not settings.retrain.epochs:
        raise UserError("retrain.epochs: 0 leaves nothing to compare; give at least 1")
    check_settings(settings, explained=False)
    return plan_comparison(settings)


def build(settings: Settings, plan: Plan) -> Experiment:
    """Build the experiment of a plan, checked before hours of work.

    Every method is known to fit the data.

    Raises:
      UserError: A setting or the data is not fit.
    """
    experiment = resolve(settings)
    check_pruning(experiment, plan)
    check_methods(experiment, plan)
    return experiment


def _job(
    settings: Settings,
    plan: Plan,
    out: Path | str,
    until: str,
    write_again: bool,
    progress: Progress | None,
    checkpoint_seconds: float,
    command: str,
) -> JobResult:
    begun, out, progress = time.monotonic(), to_path(out), progress or NoProgress()
    check_reachable(out, "--out")
    experiment = build(settings, plan)
    with open_workspace(out, progress.say) as workspace:
        store = Store(workspace, progress, checkpoint_seconds)
        for warning in _data_warnings(experiment):
            progress.say(f"warning: {warning}")
        if until in _PARTS:
            made, results = _PARTS[until](experiment, store, plan), None
        else:
            results = _report(experiment, store, plan, command, write_again)
            out = publish_report(experiment, store, plan)
            made = {"report": out}
    return JobResult(out, experiment.settings, plan.report, made, results, time.monotonic() - begun)


def _report(experiment: Experiment, store: Store, plan: Plan, command: str, write_again: bool) -> Results:
    """The results, and their report in its stage."""
    stage = report_stage(experiment, plan)
    results = None if write_again else store.read(stage, load)
    if results is None:
        audited = audit(experiment, store, plan)
        explained, further = None, None
        if plan.explained:
            explained, further = explain(experiment, store, plan), measures(experiment, store, plan)
        costs = measure_costs(experiment, store, plan, audited) if plan.has_costs else {}
        results = gather(experiment, audited, explained, further, costs)
        for warning in warnings(results):
            store.progress.say(f"warning: {warning}")
        write_report(experiment, store, plan, results, command)
        results = load(store.workspace.read(stage))
    return results


def _data_warnings(experiment: Experiment) -> list[str]:
    """Warnings about groups, those of further groupings with the name of theirs."""
    of_further = [f"by {grouping.name}: {text}" for grouping in experiment.further for text in grouping.warnings()]
    return [*experiment.dataset.warnings(), *of_further]


def _audit(experiment: Experiment, store: Store, plan: Plan) -> dict[str, Path]:
    audit(experiment, store, plan)
    return {"audit": store.workspace.folder(audit_stage(experiment, plan, plan_groupings(experiment, plan)))}


# Stage that a run may end with before its report -> what makes it.
_PARTS: dict[str, Callable[[Experiment, Store, Plan], dict[str, Path]]] = {
    "train": lambda experiment, store, plan: make_all(experiment, store, plan, Train),
    "prune": lambda experiment, store, plan: make_all(experiment, store, plan, Pruned | Retrain),
    "audit": _audit,
}
