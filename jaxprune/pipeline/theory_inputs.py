"""Networks and examples that the theory is measured on.

Both are in the precision that the settings ask for.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import theory
from jaxprune.compat import enable_x64
from jaxprune.data.splitting import at_most
from jaxprune.examples import chunk_size_for
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.networks import networks_of
from jaxprune.pipeline.nodes import Compress
from jaxprune.pipeline.plan import Plan
from jaxprune.pipeline.store import Store
from jaxprune.pipeline.train import Networks
from jaxprune.theory.derivatives.operators import vectors_within
from jaxprune.types import Batch, PyTree

# (name, compute) -> arrays by name: a part of a stage that is kept while the others are computed
Part = Callable[[str, Callable[[], Mapping[str, Any]]], dict[str, np.ndarray]]
_DERIVATIVES = 2 << 20  # bytes of float32 inputs at a time, where derivatives of single examples are held


@dataclass(frozen=True, eq=False)
class TheoryInputs:
    """The networks and examples that the theory is measured on.

    Attributes:
      experiment: The data and the network.
      dense: The dense networks.
      pruned: The pruned networks, not retrained, of every sparsity.
      store: Where compiled functions are remembered.
      node: One of the prunings.
    """

    experiment: Experiment
    dense: Networks
    pruned: list[Networks]
    store: Store
    node: Compress

    @cached_property
    def examples(self) -> Batch:
        """The theory's split, or some examples of each group of it."""
        settings = self.experiment.settings.theory
        if not settings.examples and not settings.float64:
            return self.experiment.on_device(settings.split)  # which the audit uses too
        chosen = jax.tree.map(np.asarray, chosen_examples(self.experiment))
        return self.experiment.to_measure(_cast(self.experiment, chosen))

    @cached_property
    def chunks(self) -> theory.Chunks:
        """The examples in chunks of one group each."""
        groups = self.experiment.dataset.num_groups
        return theory.by_group(self.examples, groups, replicas=replicas_at_once(self.experiment))


def theory_inputs(experiment: Experiment, store: Store, plan: Plan) -> TheoryInputs:
    """The inputs of the theory; to be called where its `precision` holds.

    The networks are made in float32 whatever that precision is.
    """

    def inputs() -> TheoryInputs:
        dense, *pruned = (_cast(experiment, networks_of(experiment, store, node)) for node in plan.theory_nodes)
        node = next(node for node in plan.theory_nodes if isinstance(node, Compress))
        return TheoryInputs(experiment, dense, pruned, store, node)

    return store.remember("theory inputs", inputs)


def precision(experiment: Experiment, store: Store, plan: Plan) -> AbstractContextManager:
    """The precision of the theory: float64 if the settings ask for it.

    The networks are made before it holds, so that they do not depend on it.
    """
    if not experiment.settings.theory.float64:
        return nullcontext()
    for node in plan.theory_nodes:
        networks_of(experiment, store, node)
    return enable_x64(True)


def chosen_examples(experiment: Experiment) -> Batch:
    """The examples as they are in the data set."""
    settings = experiment.settings.theory
    batch = experiment.dataset.split(settings.split)
    if not settings.examples:
        return batch
    index = at_most(batch.group, batch.y, settings.examples)
    return Batch(batch.x[index], batch.y[index], batch.group[index], batch.weight[index])


def replicas_at_once(experiment: Experiment) -> int:
    """The number of networks that a device measures together."""
    mesh = experiment.measuring_mesh
    return len(experiment.seeds) // (1 if mesh is None else mesh.size)


def memory_of_a_replica(experiment: Experiment) -> int:
    """The bytes that curvature may take in each replica.

    Replicas on one device are measured together.
    """
    return experiment.settings.theory.memory * 2**20 // replicas_at_once(experiment)


def vectors_that_fit(experiment: Experiment, params: PyTree) -> int:
    """The number of vectors by group that fit in memory, at least 4."""
    leaves = jax.tree.leaves(params)  # [R, ...]
    size, width = sum(leaf[0].size for leaf in leaves), jnp.result_type(*leaves).itemsize
    return vectors_within(memory_of_a_replica(experiment), experiment.dataset.num_groups, size, width)


def examples_at_a_time(experiment: Experiment, batch: Batch, most: int) -> int:
    """The number of examples that may be differentiated at once."""
    return min(most, chunk_size_for(batch.x, None, replicas=replicas_at_once(experiment), budget=_DERIVATIVES))


def _cast(experiment: Experiment, tree: PyTree) -> PyTree:
    """Convert floats to float64 where the settings ask for it.

    Images of bytes and labels stay as they are.
    """
    if not experiment.settings.theory.float64:
        return tree
    return jax.tree.map(lambda a: a.astype(np.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)
