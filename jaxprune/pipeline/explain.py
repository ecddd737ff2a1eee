"""Gradients, curvature and Taylor terms that explain the harm."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import theory
from jaxprune.pipeline.addresses import theory_stage
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.networks import networks_of
from jaxprune.pipeline.plan import Plan
from jaxprune.pipeline.store import Store
from jaxprune.pipeline.theory_inputs import (
    Part,
    TheoryInputs,
    memory_of_a_replica,
    precision,
    theory_inputs,
)
from jaxprune.pipeline.train import Networks
from jaxprune.progress import Progress
from jaxprune.types import Array, Batch, Params, Stats


def explain(experiment: Experiment, store: Store, plan: Plan) -> dict[str, Any]:
    """Measure the theory at the dense networks, as plain values.

    It measures gradients, curvature, boundary distance and Taylor terms.
    """
    stage = theory_stage(experiment, plan)

    def compute() -> dict[str, Any]:
        _check(experiment, networks_of(experiment, store, plan.theory_nodes[0]))
        sparsities = experiment.settings.prune.sparsities
        store.progress.start("measuring gradients and curvature", 1 + len(sparsities))
        with precision(experiment, store, plan):
            inputs = theory_inputs(experiment, store, plan)
            values = _at_dense(inputs, partial(store.part, stage))
            store.progress.advance()
            values |= _along_pruning(inputs, store.progress)
        store.progress.finish()
        plain = {name: np.asarray(value).tolist() for name, value in values.items()}
        return {"split": experiment.settings.theory.split} | plain

    return store.values(stage, compute)


def _check(experiment: Experiment, source: Networks) -> None:
    """Raise for networks that have no curvature.

    They are not finite, or have live batch statistics.
    """
    theory.check_params(source.params)
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], (source.params, source.stats))
    x = experiment.dataset.split(experiment.settings.theory.split).x[:4]
    theory.check_frozen(experiment.network.freeze(first[1]), first[0], x)


def _at_dense(inputs: TheoryInputs, part: Part) -> dict[str, Array]:
    """Measures of the dense networks alone."""
    experiment, source = inputs.experiment, inputs.dense
    settings, num_groups = experiment.settings.theory, experiment.dataset.num_groups
    batch, chunks = inputs.examples, inputs.chunks
    sizes = experiment.dataset.group_sizes(settings.split)  # of the whole split, of which `batch` may be a choice
    shares = (sizes / sizes.sum()).astype(jnp.result_type(*jax.tree.leaves(source.params)))

    def gradients(chunks: theory.Chunks, params: Params, stats: Stats) -> tuple[Array, Array]:
        of_groups = theory.group_gradients(experiment.network.freeze(stats), params, chunks, num_groups=num_groups)
        # Where the whole loss is nearly stationary, the groups cancel: no digit is to be lost on the way.
        of_all = jax.tree.map(lambda g: jnp.tensordot(shares, g, 1, precision="highest")[None], of_groups)
        return theory.norms(of_groups), theory.norms(of_all)[0]

    def eigenvalues(chunks: theory.Chunks, params: Params, stats: Stats, key: jax.Array) -> theory.Eigenvalue:
        return theory.group_top_eigenvalues(
            experiment.network.freeze(stats),
            params,
            chunks,
            num_groups=num_groups,
            key=key,
            tolerance=settings.tolerance,
            max_iterations=settings.max_iterations,
            memory=memory_of_a_replica(experiment),
        )

    def distance(batch: Batch, params: Params, stats: Stats) -> theory.Boundary:
        size, apply = experiment.chunk_size(batch.x), experiment.network.freeze(stats)
        return theory.boundary_distance(apply, params, batch, num_groups=num_groups, chunk_size=size)

    def of_gradients() -> dict[str, Array]:
        norms, overall = experiment.over_replicas(gradients, chunks, source.params, source.stats)
        return {"gradient_norm": norms, "overall_gradient_norm": overall}

    def of_curvature() -> dict[str, Array]:
        top = experiment.over_replicas(eigenvalues, chunks, source.params, source.stats, experiment.theory_keys)
        return {"eigenvalue": top.value} | {n: getattr(top, n) for n in ("residual", "converged", "matvecs")}

    near = experiment.over_replicas(distance, batch, source.params, source.stats)
    return {
        **part("gradients", of_gradients),
        **part("curvature", of_curvature),
        "margin": near.margin,
        "closeness": near.closeness,
    }


def _along_pruning(inputs: TheoryInputs, progress: Progress) -> dict[str, Array]:
    """The Taylor terms towards each pruned network, and the R(a) observed there."""
    experiment, source = inputs.experiment, inputs.dense
    num_groups = experiment.dataset.num_groups

    def terms(batch: Batch, dense: Params, stats: Stats, other: Params) -> tuple[Array, theory.Taylor]:
        delta = jax.tree.map(lambda p, q: (q - p)[None], dense, other)
        apply = experiment.network.freeze(stats)
        size = experiment.chunk_size(batch.x)
        return theory.norms(delta)[0], theory.taylor(apply, dense, other, batch, num_groups=num_groups, chunk_size=size)

    of_networks = []
    for network in inputs.pruned:
        of_networks.append(
            experiment.over_replicas(terms, inputs.examples, source.params, source.stats, network.params)
        )
        progress.advance()
    return {
        "sparsities": np.array(experiment.settings.prune.sparsities),
        "distance": np.stack([distance for distance, _ in of_networks]),
        "first_order": np.stack([taylor.first_order for _, taylor in of_networks]),
        "second_order": np.stack([taylor.second_order for _, taylor in of_networks]),
        "observed": np.stack([taylor.observed for _, taylor in of_networks]),
    }
