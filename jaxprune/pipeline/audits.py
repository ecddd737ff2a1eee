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
from jaxprune.types import Batch, Params, Stats

_TRAJECTORY_POINTS = 200

Inputs = tuple[Params, Stats]
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

    def compute() -> dict[str, Any]:
        entries = list(networks(context))
        made = [(model, sparsity, give()) for model, sparsity, _, give in entries]
        context.progress.start("auditing every network", len(made))
        evaluate = _evaluator(context)
        reference = made[0][2]
        audits, layers, multipliers = [], [], []
        for model, sparsity, network in made:
            for split in context.experiment.settings.audit.splits:
                measured = evaluate(context.experiment.on_device[split], reference, network)
                audits.append({"model": model, "sparsity": sparsity, "split": split} | measured)
            layers.append({"model": model, "sparsity": sparsity, "layers": _layers(context, network)})
            if "multipliers" in network.logs:
                trajectory = thinned(network.logs["multipliers"])
                multipliers.append({"model": model, "sparsity": sparsity, "trajectory": trajectory.tolist()})
            context.progress.advance()
        context.progress.finish()
        return {"audits": audits, "layers": layers, "multipliers": multipliers}

    return json_once(context, audit_stage(context), compute)


def _evaluator(context: Context) -> Callable[[Batch, Trained, Trained], dict[str, Any]]:
    num_groups = context.experiment.dataset.num_groups
    network = context.experiment.network

    def measure(batch: Batch, before: Inputs, after: Inputs) -> tuple[auditing.GroupMetrics, auditing.SamplingError]:
        dense, apply = network.freeze(before[1]), network.freeze(after[1])
        metrics = auditing.evaluate(apply, after[0], batch, num_groups=num_groups)
        sampling = auditing.sampling_error(apply, before[0], after[0], batch, num_groups=num_groups, dense_apply=dense)
        return metrics, sampling

    def evaluate(batch: Batch, reference: Trained, trained: Trained) -> dict[str, Any]:
        result = context.experiment.over_replicas(
            measure, batch, (reference.params, reference.stats), (trained.params, trained.stats)
        )
        metrics, sampling = jax.tree.map(lambda leaf: np.asarray(leaf).tolist(), result)
        return metrics._asdict() | {"sampling_error": sampling._asdict()}

    return evaluate


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
