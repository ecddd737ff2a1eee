"""The stage that measures every network on every group."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxprune import auditing, pruning
from jaxprune.pipeline.context import Context, json_once
from jaxprune.pipeline.networks import (
    METHODS,
    Trained,
    dense,
    dense_stage,
    pruned,
    pruned_stage,
    retrained,
    retrained_stage,
)
from jaxprune.pipeline.stage import Stage
from jaxprune.types import Array, Batch, Params, Stats

_TRAJECTORY_POINTS = 200

Entry = tuple[str, float, Stage, Callable[[], Trained]]


def networks(context: Context) -> Iterator[Entry]:
    """Every network of a run: model, sparsity, the stage that makes it, and the function that gives it."""
    settings = context.experiment.settings
    methods = settings.mitigation.methods
    yield "dense", 0.0, dense_stage(context, False), lambda: dense(context, False)
    if any(METHODS[method][0] for method in methods):
        yield "fair_dense", 0.0, dense_stage(context, True), lambda: dense(context, True)
    for s in settings.prune.sparsities:
        yield "pruned", s, pruned_stage(context, False, s), lambda s=s: pruned(context, False, s)
        for method in methods if settings.retrain.epochs else ():
            stage = retrained_stage(context, method, s)
            yield method, s, stage, lambda method=method, s=s: retrained(context, method, s)


def audit_stage(context: Context) -> Stage:
    """The address of the audit."""
    parents = tuple(stage for _, _, stage, _ in networks(context))
    return Stage("audit", {"splits": list(context.experiment.settings.audit.splits)}, parents)


def audit(context: Context) -> dict[str, Any]:
    """Metrics of every network on every split, as plain values."""
    return json_once(context, audit_stage(context), lambda: measured(context, list(networks(context))))


def measured(context: Context, entries: list[Entry]) -> dict[str, Any]:
    """Metrics of these networks on every split, the plain dense one first."""
    made = [(model, sparsity, give()) for model, sparsity, _, give in entries]
    found = _measured(context, [network for _, _, network in made])
    audits, layers, multipliers = [], [], []
    for i, (model, sparsity, network) in enumerate(made):
        for split in context.experiment.settings.audit.splits:
            audits.append({"model": model, "sparsity": sparsity, "split": split} | found[split][i])
        layers.append({"model": model, "sparsity": sparsity, "layers": _layers(context, network)})
        if "multipliers" in network.logs:
            trajectory = thinned(network.logs["multipliers"])
            multipliers.append({"model": model, "sparsity": sparsity, "trajectory": trajectory.tolist()})
    return {"audits": audits, "layers": layers, "multipliers": multipliers}


def _measured(context: Context, made: list[Trained]) -> dict[str, list[dict[str, Any]]]:
    """Split -> what was measured on each network, as plain values; the first is the one that others are compared with.

    Every split is read once, block by block, and every network sees each block once.
    """
    experiment = context.experiment
    network, num_groups = experiment.network, experiment.dataset.num_groups

    def passed(batch: Batch, params: Params, stats: Stats) -> auditing.Outcomes:
        return auditing.outcomes(network.freeze(stats), params, batch, chunk_size=experiment.chunk_size(batch.x))

    def sums(batch: Batch, before: auditing.Outcomes, after: auditing.Outcomes) -> tuple[Array, Array]:
        change = auditing.change_sums(before, after, batch, num_groups)
        return auditing.evaluation_sums(after, batch, num_groups), change

    splits, found = experiment.settings.audit.splits, {}
    parts = sum(experiment.num_blocks(split) for split in splits)
    context.progress.start("auditing every network", parts * len(made))
    for split in splits:
        # Added up in double precision: a split may have many blocks.
        totals = [(0.0, 0.0)] * len(made)
        for batch in experiment.blocks(split):
            before = None
            for i, trained in enumerate(made):
                after = experiment.over_replicas(passed, batch, trained.params, trained.stats)
                before = after if i == 0 else before
                more = experiment.over_replicas(sums, batch, before, after)
                totals[i] = jax.tree.map(lambda a, b: a + np.asarray(b, np.float64), totals[i], more)
                context.progress.advance()
        found[split] = [_plain(*total) for total in totals]
    context.progress.finish()
    return found


def _plain(evaluation: Array, change: Array) -> dict[str, Any]:
    results = (auditing.metrics_of(evaluation), auditing.sampling_error_of(change))
    metrics, sampling = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), results)
    return metrics._asdict() | {"sampling_error": sampling._asdict()}


def _layers(context: Context, network: Trained) -> list[dict[str, Any]]:
    """Path, size and kept [R] of every prunable layer."""
    replicas = [
        jax.tree.map(lambda m, r=r: np.asarray(m)[r], network.masks) for r in range(len(context.experiment.seeds))
    ]
    found = [pruning.layer_sparsities(masks, context.experiment.prunable) for masks in replicas]
    return [
        {"path": layers[0].path, "size": layers[0].size, "kept": [layer.kept for layer in layers]}
        for layers in zip(*found, strict=True)
    ]


def thinned(trajectory: np.ndarray) -> np.ndarray:
    """[R, T, G] -> [R, at most _TRAJECTORY_POINTS, G], the last point kept."""
    steps = trajectory.shape[1]
    return trajectory[:, np.unique(np.linspace(0, steps - 1, min(steps, _TRAJECTORY_POINTS)).astype(int))]
