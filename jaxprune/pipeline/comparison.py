"""The comparison of methods: every trial measured, the choice on validation, and its report."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxprune import auditing, config, mitigation
from jaxprune.config import Settings, check_names
from jaxprune.errors import TrainingDiverged, UserError
from jaxprune.files import write_atomically
from jaxprune.mitigation import Constraint, GroupStatistics
from jaxprune.pipeline.audits import thinned
from jaxprune.pipeline.context import Context, Silent, grouping_settings, json_once
from jaxprune.pipeline.experiment import Experiment, resolve
from jaxprune.pipeline.finished import ComparisonResult
from jaxprune.pipeline.networks import Trained, dense, dense_stage
from jaxprune.pipeline.outcomes import check_outputs
from jaxprune.pipeline.output import environment_of, warn_of_letters
from jaxprune.pipeline.protocol import candidates, deciders, held_out_methods, method_of
from jaxprune.pipeline.publishing import place_of, publish
from jaxprune.pipeline.stage import Stage
from jaxprune.pipeline.trials import Trials, trial_stage
from jaxprune.pipeline.workspaces import open_workspace
from jaxprune.progress import Progress
from jaxprune.published import REPORT
from jaxprune.reporting.comparison import BASELINE, SPLITS, Comparison
from jaxprune.reporting.comparison_figures import COMPARISON_FIGURES, draw_comparison
from jaxprune.reporting.comparison_page import render_comparison
from jaxprune.reporting.comparison_tables import trial_rows
from jaxprune.reporting.shown import drawn, shown
from jaxprune.reporting.tables import write_csv
from jaxprune.storage import check_reachable, to_path
from jaxprune.types import Batch, Params, Stats

Values = dict[str, Any]


def compare(
    settings: Settings,
    out: Path | str,
    *,
    progress: Progress | None = None,
    checkpoint_seconds: float = 30.0,
    command: str = "",
) -> ComparisonResult:
    """Retrains pruned networks by every method and reports them side by side; what is done is not done again.

    Args:
      settings: The settings.
      out: The output folder: new, empty or from an earlier run, of which the dense networks are used.
      progress: Told of the work.
      checkpoint_seconds: A training that takes longer than this leaves checkpoints this often.
      command: The command that was given, for the record.

    Returns:
      What was found; the report lies in `out/compare`, or in `out/by-.../compare` where reports by other groups lie in
      `out`.

    Raises:
      UserError: A setting, the data or the folder is not fit; or plain fine-tuning itself diverged.
    """
    begun, out, progress = time.monotonic(), to_path(out), progress or Silent()
    check_reachable(out, "--out")
    experiment = checked_comparison(settings)
    with open_workspace(out, progress.say) as workspace:
        context = Context(experiment, workspace, progress, checkpoint_seconds)
        for warning in experiment.dataset.warnings():
            context.progress.say(f"warning: {warning}")
        comparison = _gather(context, json_once(context, comparison_stage(context), lambda: _measure(context)))
        folder = place_of(out, experiment.dataset.group_by) / "compare"
        _write(context, folder, comparison, command)
    return ComparisonResult(folder, comparison, time.monotonic() - begun)


def checked_comparison(settings: Settings) -> Experiment:
    """The experiment, once it is known that every method can be tried: before the hours, not after them.

    Raises:
      UserError: A setting or the data is not fit for it.
    """
    if not settings.retrain.epochs:
        raise UserError("retrain.epochs: 0 leaves nothing to compare; give at least 1")
    if not max(settings.prune.sparsities):
        raise UserError("prune.sparsities: 0 prunes nothing, so there is nothing to compare; give some above 0")
    if settings.data.stream:
        raise UserError("data.stream: the methods look examples up by their row, in memory; leave it out to compare")
    check_names(settings)
    methods = {name: method_of(settings, name) for name in settings.compare.methods}
    imitating = [name for name, method in methods.items() if method.needs_dense]
    if imitating and (settings.train.flip or settings.train.crop):
        raise UserError(
            f"compare.methods: {', '.join(imitating)} look at the dense network's outputs for images as they are, not "
            "flipped or cropped; set train.flip to false and train.crop to 0, or leave them out"
        )
    experiment = resolve(settings)
    splits = experiment.dataset.train, deciders(settings, experiment.dataset).held_out
    for method in methods.values():
        mitigation.method_data(method, *splits, num_groups=experiment.dataset.num_groups)
    return experiment


def _planned(context: Context) -> list[tuple[str, float, dict[str, float]]]:
    """Every trial: method, sparsity, hyperparameters."""
    settings = context.experiment.settings
    names = dict.fromkeys((BASELINE, *settings.compare.methods))
    sparsities = [s for s in settings.prune.sparsities if s > 0]
    return [(name, s, values) for s in sparsities for name in names for values in candidates(settings, name)]


def comparison_stage(context: Context) -> Stage:
    """The address of the measurements."""
    trials = tuple(trial_stage(context, *trial) for trial in _planned(context))
    own: Values = {"works": "judged"} | (
        {"validation": "halves"} if held_out_methods(context.experiment.settings) else {}
    )
    own["grouping"] = grouping_settings(context.experiment.dataset.primary)
    return Stage("comparison", own, (dense_stage(context, False), *trials))


def _measure(context: Context) -> Values:
    """Metrics of every trial on every split, as plain values; a training that diverges is said and left out."""
    trials, plan = Trials(context), _planned(context)
    evaluate = _evaluator(context, trials.deciders.choosing)
    of_dense, dense_labels = evaluate(dense(context, False), "dense")
    found = []
    for name, sparsity, values in plan:
        entry: Values = {"method": name, "sparsity": sparsity, "values": values, "metrics": {}, "trouble": ""}
        try:
            trained = trials.train(name, sparsity, values)
            metrics, labels = evaluate(trained, name)
        except TrainingDiverged as error:
            if name == BASELINE:
                raise
            context.progress.say(f"warning: {error}; the comparison goes on without it")
            entry["trouble"] = str(error)
        else:
            entry["metrics"] = {split: _plain(of_split) for split, of_split in metrics.items()}
            entry["works"] = _works(context, dense_labels, labels)
            if "multipliers" in trained.logs:
                entry["multipliers"] = thinned(trained.logs["multipliers"]).tolist()
        found.append(entry)
    return {"dense": {split: _plain(metrics) for split, metrics in of_dense.items()}, "trials": found}


def _evaluator(context: Context, choosing: Batch) -> Any:
    """Metrics of networks on every split, and labels on the test split; of validation, those who choose are taken."""
    experiment = context.experiment
    splits = {split: choosing if split == "validation" else experiment.on_device(split) for split in SPLITS}
    groups = {split: np.asarray(batch.group) for split, batch in splits.items()}

    def measure(batch: Batch, params: Params, stats: Stats) -> auditing.Outcomes:
        apply = experiment.network.freeze(stats)
        return auditing.outcomes(apply, params, batch, chunk_size=experiment.chunk_size(batch.x))

    def evaluate(trained: Trained, name: str) -> tuple[dict[str, auditing.GroupMetrics], np.ndarray]:
        found, labels = {}, np.zeros(0)
        for split, batch in splits.items():
            people = experiment.over_replicas(measure, batch, trained.params, trained.stats)
            found[split] = auditing.metrics_of_people(
                check_outputs(context, name, np.asarray(people.loss)),
                np.asarray(people.wrong),
                groups[split],
                experiment.dataset.num_groups,
            )
            if split == "test":
                labels = np.asarray(people.label)
        return found, labels

    return evaluate


def _works(context: Context, dense_labels: np.ndarray, labels: np.ndarray) -> list[bool]:
    """Whether the networks of each seed still work on the test split."""
    dataset = context.experiment.dataset
    y, commonest = np.asarray(dataset.test.y), np.bincount(dataset.train.y).argmax()
    judged = auditing.judge_networks(
        dense_labels, labels, y, np.asarray(dataset.test.group),
        num_groups=dataset.num_groups, commonest=float(np.mean(y == commonest)),
    )  # fmt: skip
    return judged.works.tolist()


def _gather(context: Context, measured: Values) -> Comparison:
    """The results of a comparison from its measurements."""
    experiment, dataset = context.experiment, context.experiment.dataset
    choosing = np.bincount(deciders(experiment.settings, dataset).choosing.group, minlength=dataset.num_groups)
    names = dict.fromkeys((BASELINE, *experiment.settings.compare.methods))
    methods = {name: method_of(experiment.settings, name) for name in names}
    constraints = {name: method.constraint for name, method in methods.items()}
    inequality = {n: make(dataset.num_groups).inequality for n, make in constraints.items() if make is not None}
    trials = []
    for entry in measured["trials"]:
        make = constraints[entry["method"]]
        violation = {}
        if make is not None and entry["metrics"]:
            constraint, tolerance = make(dataset.num_groups), entry["values"].get("tolerance", 0.0)
            violation = {
                split: _violation(constraint, tolerance, entry["metrics"][split], measured["dense"][split])
                for split in SPLITS
            }
        trials.append(entry | {"violation": violation, "multipliers": entry.get("multipliers")})
    return Comparison.from_json(
        {
            "settings": experiment.settings.model_dump(mode="json"),
            "provenance": dataset.provenance,
            "group_names": list(dataset.group_names),
            "seeds": experiment.seeds,
            "group_sizes": {s: dataset.group_sizes(s).tolist() for s in SPLITS} | {"validation": choosing.tolist()},
            "titles": {name: method.title for name, method in methods.items()},
            "about": {name: method.about for name, method in methods.items()},
            "inequality": inequality,
            "held_out": held_out_methods(experiment.settings),
            "dense": measured["dense"],
            "trials": trials,
        }
    )


def _violation(
    constraint: Constraint, tolerance: float, metrics: Mapping[str, Any], of_dense: Mapping[str, Any]
) -> list[list[float]]:
    """[R, G] the violation of a constraint on a whole split; the tolerance that was trained with is let through."""

    def one(mine: Mapping[str, Any], dense: Mapping[str, Any]) -> mitigation.GroupStatistics:
        return GroupStatistics(
            loss=mine["loss"],
            overall_loss=mine["overall_loss"],
            count=mine["size"],
            accuracy=mine["accuracy"],
            overall_accuracy=mine["overall_accuracy"],
            dense_loss=dense["loss"],
            overall_dense_loss=dense["overall_loss"],
            dense_accuracy=dense["accuracy"],
            overall_dense_accuracy=dense["overall_accuracy"],
        )

    def arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {name: np.nan_to_num(np.array(value, np.float32)) for name, value in values.items()}

    measure = jax.vmap(lambda mine, dense: constraint.violation(one(mine, dense), np.float32(tolerance)))
    return np.asarray(measure(arrays(metrics), arrays(of_dense))).tolist()


def _plain(metrics: auditing.GroupMetrics) -> Values:
    return {name: np.asarray(leaf).tolist() for name, leaf in metrics._asdict().items()}


def _write(context: Context, folder: Path, comparison: Comparison, command: str) -> None:
    """Writes the report into a stage of its own, and from there into the folder for readers."""
    page, figures = shown(comparison), drawn(comparison)
    warn_of_letters(context.progress, figures.group_names)
    context.progress.start("writing the comparison", len(COMPARISON_FIGURES) + 1)
    environment = environment_of(command)
    settings = context.experiment.settings.model_dump(mode="json")
    stage = Stage("comparison-report", settings, (comparison_stage(context),))
    with context.workspace.writing(stage) as aside:
        write_atomically(aside / "comparison.json", json.dumps(comparison.to_json(), allow_nan=False))
        write_atomically(aside / "config.toml", config.to_toml(context.experiment.settings))
        write_atomically(aside / "environment.json", json.dumps(environment, indent=2))
        write_csv(aside / "methods.csv", trial_rows(comparison))
        (aside / "figures").mkdir()
        for name in COMPARISON_FIGURES:
            draw_comparison(name, figures, aside / "figures")
            context.progress.advance()
        write_atomically(aside / "report.html", render_comparison(page, aside / "figures", environment))
        context.progress.advance()
    publish(context, stage, folder, REPORT)
    context.progress.finish()
