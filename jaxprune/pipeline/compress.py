"""Pruning of dense networks, without retraining."""

from typing import Any

import jax
import numpy as np

from jaxprune import pruning
from jaxprune.data.splitting import at_most
from jaxprune.pipeline.build import Experiment
from jaxprune.pipeline.train import Networks
from jaxprune.types import Batch, Masks, Params, Scores, Stats

_SCORED = 1024  # training examples of each group that criteria look at


def compress(experiment: Experiment, source: Networks, criterion: str, sparsity: float) -> Networks:
    """Prune the networks of every seed.

    Args:
      experiment: The data and the network.
      source: Dense networks.
      criterion: A name in `pruning.CRITERIA`.
      sparsity: The share of prunable weights to prune.
    """
    scope = pruning.SCOPES[experiment.settings.prune.scope]
    if criterion in pruning.GROUP_CRITERIA:
        make, num_groups = pruning.GROUP_CRITERIA[criterion], experiment.dataset.num_groups

        def masks_of(batch: Batch, params: Params, stats: Stats) -> Masks:
            apply = experiment.network.freeze(stats)
            return make(apply, params, batch, sparsity, experiment.prunable, num_groups, scope)

        masks = experiment.over_replicas(masks_of, scored_examples(experiment), source.params, source.stats)
    else:
        masks = jax.vmap(lambda s: scope(s, sparsity, experiment.prunable))(scores(experiment, source, criterion))
    return Networks(pruning.apply_masks(source.params, masks), source.stats, masks)


def scores(experiment: Experiment, source: Networks, criterion: str) -> Scores:
    """The criterion's scores of every replica, leaves [R, ...]."""
    return jax.vmap(pruning.CRITERIA[criterion])(source.params, experiment.criterion_keys)


def scored_examples(experiment: Experiment) -> Batch:
    """Some training examples of each group, weighted so that the groups keep their shares of people."""
    data, num_groups = experiment.dataset.train, experiment.dataset.num_groups
    group = np.asarray(data.group)
    rows = at_most(group, np.asarray(data.y), _SCORED)
    chosen: Any = jax.tree.map(lambda leaf: np.asarray(leaf[rows]), data)
    people, kept = (np.bincount(codes, minlength=num_groups) for codes in (group, chosen.group))
    shares = people / np.maximum(kept, 1)
    return chosen._replace(weight=(chosen.weight * shares[chosen.group]).astype(np.float32))
