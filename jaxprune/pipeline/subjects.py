"""What the theory is measured on: the networks and the examples, in the precision that is asked for."""

from contextlib import AbstractContextManager, nullcontext

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import theory
from jaxprune.compat import enable_x64
from jaxprune.data.splitting import at_most
from jaxprune.examples import chunk_size_for
from jaxprune.pipeline.context import Context
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.networks import Trained, dense, pruned
from jaxprune.theory.derivatives.operators import vectors_within
from jaxprune.types import Batch, PyTree

_DERIVATIVES = 2 << 20  # bytes of float32 inputs at a time, where derivatives of single examples are held


def precision(context: Context) -> AbstractContextManager:
    """Where the theory is measured: in float64 if the settings ask for it.

    The networks are made before, that they are the same whatever precision they are measured in.
    """
    settings = context.experiment.settings
    if not settings.theory.float64:
        return nullcontext()
    dense(context, False)
    for sparsity in settings.prune.sparsities:
        pruned(context, False, sparsity)
    return enable_x64(True)


def unpruned(context: Context) -> Trained:
    """The dense networks."""
    return _cast(context, dense(context, False))


def cut(context: Context) -> list[Trained]:
    """The pruned networks, not retrained, of every sparsity."""
    return [_cast(context, pruned(context, False, s)) for s in context.experiment.settings.prune.sparsities]


def examples(context: Context) -> Batch:
    """The examples: the theory's split, or some of each group of it."""
    if "theory-examples" not in context.loaded:
        experiment, wanted = context.experiment, context.experiment.settings.theory
        if not wanted.examples and not wanted.float64:
            return experiment.on_device(wanted.split)  # which others use too
        chosen = jax.tree.map(np.asarray, chosen_examples(experiment))
        context.loaded["theory-examples"] = experiment.to_measure(_cast(context, chosen))
    return context.loaded["theory-examples"]


def chunks(context: Context) -> theory.Chunks:
    """The examples in chunks of one group each."""
    if "theory-chunks" not in context.loaded:
        experiment = context.experiment
        groups, replicas = experiment.dataset.num_groups, replicas_at_once(experiment)
        context.loaded["theory-chunks"] = theory.by_group(examples(context), groups, replicas=replicas)
    return context.loaded["theory-chunks"]


def chosen_examples(experiment: Experiment) -> Batch:
    """The examples as they are in the data set."""
    wanted = experiment.settings.theory
    batch = experiment.dataset.split(wanted.split)
    if not wanted.examples:
        return batch
    index = at_most(batch.group, batch.y, wanted.examples)
    return Batch(batch.x[index], batch.y[index], batch.group[index], batch.weight[index])


def replicas_at_once(experiment: Experiment) -> int:
    """How many networks a device measures together."""
    mesh = experiment.measuring_mesh
    return len(experiment.seeds) // (1 if mesh is None else mesh.size)


def memory_of_a_replica(experiment: Experiment) -> int:
    """The bytes that curvature may take in each replica: those on one device are measured together."""
    return experiment.settings.theory.memory * 2**20 // replicas_at_once(experiment)


def vectors_that_fit(experiment: Experiment, params: PyTree) -> int:
    """How many vectors for each group the memory of a replica holds, at least 4."""
    leaves = jax.tree.leaves(params)  # [R, ...]
    size, width = sum(leaf[0].size for leaf in leaves), jnp.result_type(*leaves).itemsize
    return vectors_within(memory_of_a_replica(experiment), experiment.dataset.num_groups, size, width)


def examples_at_a_time(experiment: Experiment, batch: Batch, most: int) -> int:
    """How many examples may be differentiated one by one at the same time."""
    return min(most, chunk_size_for(batch.x, None, replicas=replicas_at_once(experiment), budget=_DERIVATIVES))


def _cast(context: Context, tree: PyTree) -> PyTree:
    """Floats as float64 where that is asked for; images of bytes and labels stay as they are."""
    if not context.experiment.settings.theory.float64:
        return tree
    return jax.tree.map(lambda a: a.astype(np.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)
