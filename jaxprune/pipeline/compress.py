"""Pruning of networks, without retraining."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import pruning
from jaxprune.config.options import Part
from jaxprune.data.batching import select
from jaxprune.data.splitting import at_most
from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.numbers import percent
from jaxprune.pipeline.channel_shares import check_channels_reachable
from jaxprune.pipeline.experiment import READS_BATCH, Experiment
from jaxprune.pipeline.nodes import Compress, Train, TrainSparse
from jaxprune.pipeline.parts import allocation_for, criterion_for, is_coupled, structure_for
from jaxprune.pipeline.store import Store
from jaxprune.pipeline.train import Networks
from jaxprune.pruning.finite_scores import check_finite
from jaxprune.pruning.gradients import mean_gradient
from jaxprune.pruning.oneshot import allocation_of
from jaxprune.types import Batch, Masks, Params, PyTree, Scores, Stats


@dataclass(frozen=True, eq=False)
class Pruner:
    """The axes of a pruning as functions.

    Attributes:
      criterion: What is pruned first.
      structure: What is pruned together.
      allocation: How the sparsity is shared out over the layers.
      prunable: Which parameters may be pruned.
    """

    criterion: pruning.Criterion
    structure: pruning.Structure
    allocation: pruning.Allocation
    prunable: PyTree

    def masks(self, scores: Scores, masks: Masks | None, sparsity: float) -> Masks:
        """The masks of one network from its scores."""
        return self.structure.masks(scores, sparsity, self.prunable, masks, self.allocation)


def pruner_of(
    experiment: Experiment, node: Compress | TrainSparse, levels: Mapping[str, float] | None = None
) -> Pruner:
    """The functions of a node's pruning.

    Args:
      experiment: The data and the network.
      node: The node.
      levels: Path -> sparsity, where the allocation is by measured levels.
    """
    criterion, structure = (
        criterion_for(node.criterion),
        structure_for(node.structure, lambda: experiment.reduction_axes, lambda: experiment.couplings),
    )
    wanted = allocation_for(node.allocation, levels)
    # Methods and compared criteria may have an allocation of their own, which then takes the place of the settings'.
    allocation = criterion.allocation or allocation_of(criterion, structure, wanted)
    return Pruner(criterion, structure, allocation, experiment.prunable)


def compress(
    experiment: Experiment, store: Store, node: Compress, source: Networks, levels: Mapping[str, float] | None = None
) -> Networks:
    """Prune the networks of every seed.

    Args:
      experiment: The data and the network.
      store: Where compiled functions are remembered.
      node: The pruning.
      source: Networks, with the masks of what is pruned already.
      levels: Path -> sparsity, where the allocation is by measured levels.
    """
    pruner = pruner_of(experiment, node, levels)
    plain = isinstance(node.parent, Train) and not experiment.settings.model.keep_zeros
    held = None if plain else source.masks
    if held is not None:
        check_reachable(experiment, node.structure, held, node.sparsity)
    if pruner.criterion.rounds > 1:
        params, masks = _in_rounds(experiment, pruner, node.sparsity, source)
        return Networks(params, source.stats, masks)
    scores = scores_of(experiment, store, node, source)
    masks = jax.vmap(partial(pruner.masks, sparsity=node.sparsity))(scores, held)
    if held is not None:
        # Also in what is not prunable, where zeros are held all the same.
        masks = jax.tree.map(jnp.logical_and, masks, held)
        if not is_coupled(node.structure):  # of channels, whatever is held, the asked number is cut
            _check_held(experiment, pruner, node.sparsity, scores, masks)
    params = pruning.apply_masks(source.params, masks)
    if pruner.criterion.correct is not None:
        params = _corrected(experiment, store, node, source, masks)
    return Networks(params, source.stats, masks)


def scores_of(experiment: Experiment, store: Store, node: Compress | TrainSparse, source: Networks) -> Scores:
    """The criterion's scores of every replica, leaves [R, ...].

    Raises:
      UserError: One is not finite.
    """
    criterion = criterion_for(node.criterion)

    def make() -> Any:  # compiled once for all sparsities
        def score(batch: Batch | None, params: Params, stats: Stats, masks: Masks, key: jax.Array) -> PyTree:
            evidence = _evidence(experiment, criterion, batch, params, stats, key)
            return criterion.score(params, **evidence, masks=masks)

        return score

    score = store.remember(("score", node.criterion), make)
    batch, keys = _batch(experiment, criterion), experiment.criterion_keys
    scores = experiment.over_replicas(score, batch, source.params, source.stats, source.masks, keys)
    check_finite(scores, experiment.prunable)
    return scores


def _corrected(experiment: Experiment, store: Store, node: Compress, source: Networks, masks: Masks) -> Params:
    """Adjust the kept weights of every replica."""
    criterion = criterion_for(node.criterion)

    def make() -> Any:  # compiled once for all sparsities
        def correct(batch: Batch | None, dense: Params, stats: Stats, masks: Masks, key: jax.Array) -> Params:
            assert criterion.correct is not None
            return criterion.correct(dense, masks, **_evidence(experiment, criterion, batch, dense, stats, key))

        return correct

    correct = store.remember(("correct", node.criterion), make)
    batch = _batch(experiment, criterion)
    before = pruning.apply_masks(source.params, source.masks)
    return experiment.over_replicas(correct, batch, before, source.stats, masks, experiment.criterion_keys)


def _in_rounds(experiment: Experiment, pruner: Pruner, sparsity: float, source: Networks) -> tuple[Params, Masks]:
    """Prune in rounds of scoring and pruning."""

    def prune(batch: Batch | None, params: Params, stats: Stats, masks: Masks, key: jax.Array) -> tuple[Params, Masks]:
        return pruning.prune(
            params, sparsity, criterion=pruner.criterion, structure=pruner.structure, allocation=pruner.allocation,
            prunable=pruner.prunable, masks=masks,
            **_evidence(experiment, pruner.criterion, batch, params, stats, key),
        )  # fmt: skip

    batch, keys = _batch(experiment, pruner.criterion), experiment.criterion_keys
    return experiment.over_replicas(prune, batch, source.params, source.stats, source.masks, keys)


def _evidence(
    experiment: Experiment,
    criterion: pruning.Criterion,
    batch: Batch | None,
    params: Params,
    stats: Stats,
    key: jax.Array,
) -> dict[str, Any]:
    """What a criterion may need, of one replica."""
    known: dict[str, Any] = {"num_groups": experiment.dataset.num_groups, "key": key, "loss": cross_entropy}
    if batch is None:
        return known
    apply = experiment.network.freeze(stats)
    grads = mean_gradient(apply, params, batch, loss=cross_entropy) if "gradients" in criterion.needs else None
    return known | {"apply": apply, "batch": batch, "grads": grads}


def _batch(experiment: Experiment, criterion: pruning.Criterion) -> Batch | None:
    """The examples that a criterion looks at, or None."""
    return experiment.to_measure(scored_examples(experiment)) if criterion.needs & READS_BATCH else None


def scored_examples(experiment: Experiment) -> Batch:
    """Some training examples of each group, to score weights with.

    They are weighted so that the groups keep their shares of people.
    """
    data, num_groups = experiment.dataset.train, experiment.dataset.num_groups
    group = np.asarray(data.group)
    rows = at_most(group, np.asarray(data.y), experiment.settings.prune.examples)
    chosen: Any = jax.tree.map(np.asarray, select(data, rows))
    people, kept = (np.bincount(codes, minlength=num_groups) for codes in (group, chosen.group))
    shares = people / np.maximum(kept, 1)
    return chosen._replace(weight=(chosen.weight * shares[chosen.group]).astype(np.float32))


def check_reachable(experiment: Experiment, structure: Part, masks: Masks, sparsity: float) -> None:
    """Raise for a sparsity below that of what is pruned already."""
    if is_coupled(structure):
        check_channels_reachable(experiment, structure, masks, sparsity)
        return
    for replica in range(len(experiment.seeds)):
        mine = jax.tree.map(lambda mask, r=replica: mask[r], masks)
        layers = pruning.layer_sparsities(mine, experiment.prunable)
        size = sum(layer.size for layer in layers)
        pruned = size - sum(layer.kept for layer in layers)
        if pruned > round(sparsity * size):
            raise UserError(
                f"prune.sparsities: {sparsity:g} is below the {percent(pruned / size, 2)} of the weights that are 0 "
                "already; give a higher one"
            )


def _check_held(experiment: Experiment, pruner: Pruner, sparsity: float, scores: Scores, masks: Masks) -> None:
    """Raise where zeros make a layer sparser than it was to be.

    Without them the same structure and allocation prune the asked number; more is pruned where a layer, a group or a
    block holds more zeros than its share.
    """
    asked = jax.vmap(lambda scores: pruner.masks(scores, None, sparsity))(scores)
    trees = zip(*map(jax.tree.leaves, (asked, masks, experiment.prunable)), strict=True)
    picked = [(np.asarray(one), np.asarray(other)) for one, other, prune in trees if prune]
    wanted, reached = (sum(int(np.sum(~pair[i])) for pair in picked) for i in (0, 1))
    if reached > wanted:
        share = sum(mask.size for _, mask in picked)
        raise UserError(
            f"prune.sparsities: {sparsity:g} cannot be met, since some layers hold more zeros than their share; "
            f"{percent(reached / share, 2)} would be pruned: take the global allocation of single weights, or a higher "
            "sparsity"
        )
