"""What a sparsity for each layer would spare the worst group."""

from functools import partial
from typing import Any

import numpy as np

from jaxprune import theory
from jaxprune.pipeline.compress import scores_of
from jaxprune.pipeline.spared_levels import LEVELS, loss_measurer, means, prunable_layers, prune_layers, sizes_of
from jaxprune.pipeline.theory_inputs import Part, TheoryInputs


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
    layers = prunable_layers(experiment)
    sizes, losses = sizes_of(source, layers), partial(loss_measurer(experiment, source.stats), inputs.examples)
    before = losses(source.params)
    values = scores_of(experiment, inputs.store, inputs.node, source)
    levels = sorted({*LEVELS, *sparsities})

    def of_layer(layer: int) -> dict[str, np.ndarray]:
        harm = np.zeros((len(levels), *before.shape))
        for column, level in enumerate(levels):
            if level > 0:
                harm[column] = losses(prune_layers(source, values, {layer: level})) - before
        return {"alone": harm}

    alone = np.stack([part(f"layer-{i}", partial(of_layer, i))["alone"] for i in layers])
    together = [losses(network.params) - before for network in inputs.pruned]
    groups, allocations, spared = [], [], []
    for s, harm in zip(sparsities, together, strict=True):
        worst = int(np.argmax(means(harm, empty=-np.inf)))
        allocation = theory.sparing_allocation(sizes, levels, means(alone[..., worst], 2), s)
        groups.append(worst)
        allocations.append(allocation)
        spared.append(losses(prune_layers(source, values, dict(zip(layers, allocation, strict=True)))) - before)
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
