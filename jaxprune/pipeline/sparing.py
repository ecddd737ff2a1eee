"""A sparsity for each layer that spares the group hurt most, and what it changes when it is tried."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import auditing, pruning, theory
from jaxprune.pipeline import subjects
from jaxprune.pipeline.context import Context, part_once
from jaxprune.pipeline.networks import Trained
from jaxprune.pipeline.stage import Stage
from jaxprune.types import Array, Batch, Masks, Params, PyTree, Stats

_LEVELS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


@np.errstate(invalid="ignore")  # of infinite losses there is no difference
def spare(context: Context, stage: Stage) -> dict[str, Any]:
    """For every sparsity: the group hurt most, the allocation found for it, and the harm of every group under both.

    The harm of each layer pruned alone, by the criterion of the settings, is measured at a few levels on the theory's
    split; `theory.sparing_allocation` then chooses a level for each layer, one choice for all seeds (their mean harm).
    """
    experiment = context.experiment
    source, sparsities = subjects.unpruned(context), experiment.settings.prune.sparsities
    layers = _layers(experiment.prunable)
    sizes = np.array([jax.tree.leaves(source.params)[i][0].size for i in layers])
    before = _losses(context, source.params, source)
    scores = _scores(context, source)
    levels = sorted({*_LEVELS, *sparsities})

    def of_layer(layer: int) -> dict[str, np.ndarray]:
        harm = np.zeros((len(levels), *before.shape))
        for column, level in enumerate(levels):
            if level > 0:
                harm[column] = _losses(context, _prune(context, source, scores, {layer: level}), source) - before
        return {"alone": harm}

    alone = np.stack([part_once(context, stage, f"layer-{i}", partial(of_layer, i))["alone"] for i in layers])
    together = [_losses(context, network.params, source) - before for network in subjects.cut(context)]
    groups, allocations, spared = [], [], []
    for s, harm in zip(sparsities, together, strict=True):
        worst = int(np.argmax(_means(harm, empty=-np.inf)))
        chosen = theory.sparing_allocation(sizes, levels, _means(alone[..., worst], 2), s)
        cut = _prune(context, source, scores, dict(zip(layers, chosen, strict=True)))
        groups.append(worst)
        allocations.append(chosen)
        spared.append(_losses(context, cut, source) - before)
    names = theory.leaf_names(source.params)
    return {
        "layers": [names[i] for i in layers],
        "sizes": sizes,
        "levels": levels,
        "alone": alone,
        "group": groups,
        "allocation": np.stack(allocations),
        "reached": np.stack(allocations) @ sizes / sizes.sum(),
        "harm": np.stack(together),
        "spared_harm": np.stack(spared),
    }


def _means(harm: np.ndarray, axis: int = 0, empty: float = np.nan) -> np.ndarray:
    """Means over the seeds with a finite harm; `empty` where none has one."""
    known = np.isfinite(harm)
    total = np.sum(np.where(known, harm, 0), axis)
    return np.where(known.any(axis), total / np.maximum(known.sum(axis), 1), empty)


def _layers(prunable: PyTree) -> list[int]:
    return [i for i, wanted in enumerate(jax.tree.leaves(prunable)) if wanted]


def _scores(context: Context, source: Trained) -> PyTree:
    """The criterion's scores of every replica."""
    return context.experiment.scores(source.params)


def _prune(context: Context, source: Trained, scores: PyTree, levels: dict[int, float]) -> Params:
    """Each of these layers cut by itself, in every replica."""

    def mask(scores: PyTree) -> Masks:
        leaves, structure = jax.tree.flatten(scores)
        kept = [
            pruning.global_masks([leaf], float(levels[i]))[0] if levels.get(i) else jnp.ones(leaf.shape, bool)
            for i, leaf in enumerate(leaves)
        ]
        return jax.tree.unflatten(structure, kept)

    return pruning.apply_masks(source.params, jax.vmap(mask)(scores))


def _losses(context: Context, params: Params, source: Trained) -> np.ndarray:
    """[R, G] losses of these parameters on the theory's split."""
    experiment = context.experiment
    batch = subjects.examples(context)
    if "losses" not in context.loaded:  # one function object, so that it is compiled once

        def measure(batch: Batch, params: Params, stats: Stats) -> Array:
            apply = experiment.network.freeze(stats)
            return auditing.evaluate(apply, params, batch, num_groups=experiment.dataset.num_groups).loss

        context.loaded["losses"] = measure
    return np.asarray(experiment.over_replicas(context.loaded["losses"], batch, params, source.stats))
