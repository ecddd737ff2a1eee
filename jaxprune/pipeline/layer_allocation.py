"""A sparsity for each layer that spares the worst group."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import auditing, pruning, theory
from jaxprune.pipeline.compress import scores
from jaxprune.pipeline.theory_inputs import Part, TheoryInputs
from jaxprune.pipeline.train import Networks
from jaxprune.types import Array, Batch, Masks, Params, Scores, Stats

_LEVELS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


@np.errstate(invalid="ignore")  # infinite losses have no difference
def allocate(inputs: TheoryInputs, part: Part) -> dict[str, Any]:
    """Find and measure layer sparsities that spare the worst group.

    The harm of each layer pruned alone, by the criterion of the settings, is measured at a few levels on the theory's
    split; `theory.sparing_allocation` then chooses a level for each layer, one choice for all seeds (their mean harm).

    Returns:
      For every sparsity: the group hurt most, the allocation for it, and the harm of every group under both.
    """
    experiment, source = inputs.experiment, inputs.dense
    sparsities = experiment.settings.prune.sparsities
    layers = [i for i, is_prunable in enumerate(jax.tree.leaves(experiment.prunable)) if is_prunable]
    sizes = np.array([jax.tree.leaves(source.params)[i][0].size for i in layers])
    losses = _loss_measurer(inputs)
    before = losses(source.params)
    values = scores(experiment, source, experiment.settings.prune.criterion)
    levels = sorted({*_LEVELS, *sparsities})

    def of_layer(layer: int) -> dict[str, np.ndarray]:
        harm = np.zeros((len(levels), *before.shape))
        for column, level in enumerate(levels):
            if level > 0:
                harm[column] = losses(_prune(source, values, {layer: level})) - before
        return {"alone": harm}

    alone = np.stack([part(f"layer-{i}", partial(of_layer, i))["alone"] for i in layers])
    together = [losses(network.params) - before for network in inputs.pruned]
    groups, allocations, spared = [], [], []
    for s, harm in zip(sparsities, together, strict=True):
        worst = int(np.argmax(_means(harm, empty=-np.inf)))
        allocation = theory.sparing_allocation(sizes, levels, _means(alone[..., worst], 2), s)
        groups.append(worst)
        allocations.append(allocation)
        spared.append(losses(_prune(source, values, dict(zip(layers, allocation, strict=True)))) - before)
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
    """Average over seeds with a finite harm; else return `empty`."""
    known = np.isfinite(harm)
    total = np.sum(np.where(known, harm, 0), axis)
    return np.where(known.any(axis), total / np.maximum(known.sum(axis), 1), empty)


def _prune(source: Networks, values: Scores, levels: dict[int, float]) -> Params:
    """Prune each of these layers by itself, in every replica."""

    def mask(scores: Scores) -> Masks:
        leaves, structure = jax.tree.flatten(scores)
        masks = [
            pruning.global_masks([leaf], float(levels[i]))[0] if levels.get(i) else jnp.ones(leaf.shape, bool)
            for i, leaf in enumerate(leaves)
        ]
        return jax.tree.unflatten(structure, masks)

    return pruning.apply_masks(source.params, jax.vmap(mask)(values))


def _loss_measurer(inputs: TheoryInputs) -> Callable[[Params], np.ndarray]:
    """Return a compiled function from parameters to losses [R, G]."""
    experiment, num_groups = inputs.experiment, inputs.experiment.dataset.num_groups

    def measure(batch: Batch, params: Params, stats: Stats) -> Array:
        return auditing.evaluate(experiment.network.freeze(stats), params, batch, num_groups=num_groups).loss

    def losses(params: Params) -> np.ndarray:
        return np.asarray(experiment.over_replicas(measure, inputs.examples, params, inputs.dense.stats))

    return losses
