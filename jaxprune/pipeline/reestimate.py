"""BatchNorm's statistics of pruned networks, measured anew."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import pruning
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.store import Store
from jaxprune.pipeline.train import Networks
from jaxprune.types import Batch, Params, PyTree, Stats


def reestimate(experiment: Experiment, store: Store, source: Networks) -> Networks:
    """Measure the statistics on the training split.

    A streamed split is read in blocks, whose statistics are averaged by their examples.
    """
    size = experiment.settings.train.batch_size

    def make() -> Callable[[Batch, Params, Stats], Stats]:  # compiled once for all sparsities
        def again(batch: Batch, params: Params, stats: Stats) -> Stats:
            return pruning.reestimate_statistics(experiment.network, params, stats, batch, batch_size=size)

        return again

    again = store.remember("reestimate", make)
    total: PyTree = None
    people = 0.0
    for batch in experiment.blocks("train"):
        weight = float(np.sum(np.asarray(batch.weight)))
        stats = experiment.over_replicas(again, batch, source.params, source.stats)
        part = jax.tree.map(lambda leaf, w=weight: _times(leaf, w), stats)
        total = part if total is None else jax.tree.map(jnp.add, total, part)
        people += weight
    stats = jax.tree.map(lambda leaf, old: (leaf / people).astype(old.dtype), total, source.stats)
    return Networks(source.params, stats, source.masks)


def _times(leaf: jax.Array, weight: float) -> jax.Array:
    return leaf.astype(jnp.float32) * weight
