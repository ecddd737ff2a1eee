"""A sparsity for each layer that spares the group hurt most."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import auditing, pruning, theory
from jaxprune.pipeline.addresses import spared_levels_stage
from jaxprune.pipeline.compress import pruner_of, scored_examples, scores_of
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.nodes import USUAL, Compress, TrainSparse
from jaxprune.pipeline.store import Store
from jaxprune.pipeline.train import Networks
from jaxprune.trees import leaf_names
from jaxprune.types import Array, Batch, Masks, Params, Scores, Stats

LEVELS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)


def spared_levels(
    experiment: Experiment, store: Store, node: Compress | TrainSparse, source: Networks
) -> Mapping[str, float]:
    """Find layer sparsities that spare the group hurt most.

    The harm of each layer pruned alone is measured at a few levels, on those training examples that criteria look at.
    `theory.sparing_allocation` then chooses a level for each layer, one choice for all seeds, by their mean harm to the
    group that the usual allocation hurts most.

    Args:
      experiment: The data and the network.
      store: Where the levels are kept.
      node: The pruning.
      source: The dense networks.

    Returns:
      Path -> sparsity of every prunable layer; together they are the sparsity of the node, to one weight.
    """
    stage = spared_levels_stage(experiment, node)

    def compute() -> dict[str, Any]:
        usual = replace(node, allocation=USUAL)
        scores, losses = scores_of(experiment, store, node, source), loss_measurer(experiment, source.stats)
        layers, pruner = prunable_layers(experiment), pruner_of(experiment, usual)
        sizes, levels = sizes_of(source, layers), sorted({*LEVELS, node.sparsity})
        examples = experiment.to_measure(scored_examples(experiment))
        before = losses(examples, source.params)
        masks = jax.vmap(lambda scores: pruner.masks(scores, None, node.sparsity))(scores)
        together = losses(examples, pruning.apply_masks(source.params, masks)) - before
        worst = int(np.argmax(means(together, empty=-np.inf)))
        alone = np.stack([
            np.stack([losses(examples, prune_layers(source, scores, {layer: level})) - before for level in levels])
            for layer in layers
        ])  # fmt: skip
        chosen = theory.sparing_allocation(sizes, levels, means(alone[..., worst], 2), node.sparsity)
        exact = exactly(chosen, sizes, node.sparsity)
        names = leaf_names(source.params)
        return {"levels": {names[i]: float(level) for i, level in zip(layers, exact, strict=True)}, "group": worst}

    return store.values(stage, compute)["levels"]


def exactly(levels: np.ndarray, sizes: np.ndarray, sparsity: float) -> np.ndarray:
    """Change levels a little, so that they prune the exact share.

    The layers that lose most weights give or take what is missing.

    Args:
      levels: [L] sparsities.
      sizes: [L] weights in each layer.
      sparsity: The share of all weights to prune.

    Returns:
      [L] sparsities.
    """
    sizes = np.asarray(sizes).astype(int)
    counts = np.minimum(np.round(levels * sizes).astype(int), sizes - 1)  # no layer is cut to nothing
    missing = round(sparsity * int(sizes.sum())) - int(counts.sum())
    for layer in np.argsort(-counts, kind="stable"):
        change = int(np.clip(missing, -counts[layer], sizes[layer] - 1 - counts[layer]))
        counts[layer] += change
        missing -= change
    return counts / sizes


def prunable_layers(experiment: Experiment) -> list[int]:
    """The places of the prunable leaves."""
    return [i for i, is_prunable in enumerate(jax.tree.leaves(experiment.prunable)) if is_prunable]


def sizes_of(source: Networks, layers: list[int]) -> np.ndarray:
    """[L] weights of some leaves of one network."""
    leaves = jax.tree.leaves(source.params)
    return np.array([leaves[i][0].size for i in layers])


@np.errstate(invalid="ignore")  # infinite losses have no difference
def means(harm: np.ndarray, axis: int = 0, empty: float = np.nan) -> np.ndarray:
    """Average over seeds with a finite harm; else return `empty`."""
    known = np.isfinite(harm)
    total = np.sum(np.where(known, harm, 0), axis)
    return np.where(known.any(axis), total / np.maximum(known.sum(axis), 1), empty)


def prune_layers(source: Networks, values: Scores, levels: Mapping[int, float]) -> Params:
    """Prune each of these layers by itself, in every replica."""

    def mask(scores: Scores) -> Masks:
        leaves, structure = jax.tree.flatten(scores)
        masks = [
            pruning.global_masks([leaf], float(levels[i]))[0] if levels.get(i) else jnp.ones(leaf.shape, bool)
            for i, leaf in enumerate(leaves)
        ]
        return jax.tree.unflatten(structure, masks)

    return pruning.apply_masks(source.params, jax.vmap(mask)(values))


def loss_measurer(experiment: Experiment, stats: Stats) -> Callable[[Batch, Params], np.ndarray]:
    """Return a compiled function from examples and parameters to losses [R, G]."""
    num_groups = experiment.dataset.num_groups

    def measure(batch: Batch, params: Params, stats: Stats) -> Array:
        return auditing.evaluate(experiment.network.freeze(stats), params, batch, num_groups=num_groups).loss

    def losses(batch: Batch, params: Params) -> np.ndarray:
        return np.asarray(experiment.over_replicas(measure, batch, params, stats))

    return losses
