"""Pruning of dense networks, without retraining."""

from typing import Any

import jax
import numpy as np

from jaxprune import pruning
from jaxprune.data.batching import select
from jaxprune.data.splitting import at_most
from jaxprune.pipeline.build import Experiment
from jaxprune.pipeline.train import Networks
from jaxprune.types import Batch, Masks, Params, PyTree, Scores, Stats

_SCORED = 1024  # training examples of each group that criteria look at


def compress(experiment: Experiment, source: Networks, criterion: str, sparsity: float) -> Networks:
    """Prune the networks of every seed.

    Args:
      experiment: The data and the network.
      source: Dense networks.
      criterion: A name in `pruning.CRITERIA`.
      sparsity: The share of prunable weights to prune.
    """
    own = pruning.CRITERIA.make(criterion).allocation
    allocation = own or pruning.ALLOCATIONS.make(experiment.settings.prune.allocation)

    def masks_of(scores: Scores) -> Masks:
        return allocation(scores, sparsity, experiment.prunable)

    masks = jax.vmap(masks_of)(scores(experiment, source, criterion))
    return Networks(pruning.apply_masks(source.params, masks), source.stats, masks)


def scores(experiment: Experiment, source: Networks, criterion: str) -> Scores:
    """The criterion's scores of every replica, leaves [R, ...]."""
    chosen = pruning.CRITERIA.make(criterion)
    if "batch" not in chosen.needs:
        return jax.vmap(lambda params, key: chosen.score(params, key=key))(source.params, experiment.criterion_keys)

    def score(batch: Batch, params: Params, stats: Stats, key: jax.Array) -> PyTree:
        apply, num_groups = experiment.network.freeze(stats), experiment.dataset.num_groups
        return chosen.score(params, apply=apply, batch=batch, num_groups=num_groups, key=key)

    batch, keys = experiment.to_measure(scored_examples(experiment)), experiment.criterion_keys
    return experiment.over_replicas(score, batch, source.params, source.stats, keys)


def scored_examples(experiment: Experiment) -> Batch:
    """Some training examples of each group, to score weights with.

    They are weighted so that the groups keep their shares of people.
    """
    data, num_groups = experiment.dataset.train, experiment.dataset.num_groups
    group = np.asarray(data.group)
    rows = at_most(group, np.asarray(data.y), _SCORED)
    chosen: Any = jax.tree.map(np.asarray, select(data, rows))
    people, kept = (np.bincount(codes, minlength=num_groups) for codes in (group, chosen.group))
    shares = people / np.maximum(kept, 1)
    return chosen._replace(weight=(chosen.weight * shares[chosen.group]).astype(np.float32))
