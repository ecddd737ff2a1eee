"""The stage that measures, at the dense networks, what is to explain the harm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import theory
from jaxprune.pipeline import subjects
from jaxprune.pipeline.context import Context, grouping_settings, json_once, part_once
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.networks import Trained, dense, dense_stage, pruned_stage
from jaxprune.pipeline.stage import Stage
from jaxprune.types import Array, Batch, Params, Stats


def theory_stage(context: Context) -> Stage:
    """The address of the theory."""
    settings = context.experiment.settings
    parents = tuple(pruned_stage(context, False, s) for s in settings.prune.sparsities)
    basic = settings.theory.model_dump(
        mode="json", include={"split", "examples", "tolerance", "max_iterations", "memory", "float64"}
    )
    basic |= {"grouping": grouping_settings(context.experiment.dataset.primary)}
    return Stage("theory", basic, (dense_stage(context, False), *parents))


def theorise(context: Context) -> dict[str, Any]:
    """Gradients, curvature, boundary distance and Taylor terms at the dense networks, as plain values."""

    def compute() -> dict[str, Any]:
        experiment = context.experiment
        _check(experiment, dense(context, False))
        context.progress.start("measuring gradients and curvature", 1 + len(experiment.settings.prune.sparsities))
        with subjects.precision(context):
            values = _at_dense(context)
            context.progress.advance()
            values |= _along_pruning(context)
        context.progress.finish()
        plain = {name: np.asarray(value).tolist() for name, value in values.items()}
        return {"split": experiment.settings.theory.split} | plain

    return json_once(context, theory_stage(context), compute)


def _check(experiment: Experiment, source: Trained) -> None:
    """Refuses networks that have no curvature: not finite, or with live batch statistics."""
    theory.check_params(source.params)
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], (source.params, source.stats))
    x = experiment.dataset.split(experiment.settings.theory.split).x[:4]
    theory.check_frozen(experiment.network.freeze(first[1]), first[0], x)


def _at_dense(context: Context) -> dict[str, Array]:
    """What the dense networks alone tell."""
    experiment, source = context.experiment, subjects.unpruned(context)
    settings, num_groups = experiment.settings.theory, experiment.dataset.num_groups
    batch, chunks = subjects.examples(context), subjects.chunks(context)
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
            memory=subjects.memory_of_a_replica(experiment),
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
    stage = theory_stage(context)
    return {
        **part_once(context, stage, "gradients", of_gradients),
        **part_once(context, stage, "curvature", of_curvature),
        "margin": near.margin,
        "closeness": near.closeness,
    }


def _along_pruning(context: Context) -> dict[str, Array]:
    """The Taylor terms towards each pruned network, and what was observed there."""
    experiment, source = context.experiment, subjects.unpruned(context)
    num_groups = experiment.dataset.num_groups

    def terms(batch: Batch, dense: Params, stats: Stats, other: Params) -> tuple[Array, theory.Taylor]:
        delta = jax.tree.map(lambda p, q: (q - p)[None], dense, other)
        apply = experiment.network.freeze(stats)
        size = experiment.chunk_size(batch.x)
        return theory.norms(delta)[0], theory.taylor(apply, dense, other, batch, num_groups=num_groups, chunk_size=size)

    found, batch = [], subjects.examples(context)
    for network in subjects.cut(context):
        found.append(experiment.over_replicas(terms, batch, source.params, source.stats, network.params))
        context.progress.advance()
    return {
        "sparsities": np.array(experiment.settings.prune.sparsities),
        "distance": np.stack([distance for distance, _ in found]),
        "first_order": np.stack([taylor.first_order for _, taylor in found]),
        "second_order": np.stack([taylor.second_order for _, taylor in found]),
        "observed": np.stack([taylor.observed for _, taylor in found]),
    }
