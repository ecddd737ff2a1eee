"""Optional, expensive measures of the theory, selected by name."""

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import theory
from jaxprune.config.sections import Measure
from jaxprune.groups import group_mean
from jaxprune.pipeline.addresses import measure_stage
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.layer_allocation import allocate
from jaxprune.pipeline.plan import Plan
from jaxprune.pipeline.store import Store
from jaxprune.pipeline.theory_inputs import (
    Part,
    TheoryInputs,
    examples_at_a_time,
    memory_of_a_replica,
    precision,
    replicas_at_once,
    theory_inputs,
    vectors_that_fit,
)
from jaxprune.pipeline.train import Networks
from jaxprune.theory import statements
from jaxprune.types import Array, Batch, Params, Stats

MEASURES: tuple[Measure, ...] = get_args(Measure)
Plain = dict[str, Any]

_OUTPUT_PRODUCTS = 30
_GRID = 300
_ATTRIBUTION_ERROR = 0.01  # of each group's R(a)


def measures(experiment: Experiment, store: Store, plan: Plan) -> Plain | None:
    """Take the further measures that the settings name, or None."""
    names = experiment.settings.theory.measures
    if not names:
        return None
    store.progress.start("further measures of the theory", len(names))
    values = {}
    for name in names:
        stage = measure_stage(experiment, plan, name)
        values[name] = store.values(stage, partial(_measured, experiment, store, plan, name))
        store.progress.advance(name)
    store.progress.finish()
    return values


def _measured(experiment: Experiment, store: Store, plan: Plan, name: Measure) -> Plain:
    part = partial(store.part, measure_stage(experiment, plan, name))
    with precision(experiment, store, plan):
        values = _MEASURE[name](theory_inputs(experiment, store, plan), part)
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, str) else np.asarray(leaf).tolist(), values)


def _operator(
    inputs: TheoryInputs, chunks: theory.Chunks, params: Params, stats: Stats, curvature: Any = "hessian"
) -> theory.GroupOperator:
    experiment = inputs.experiment
    return theory.group_operator(
        experiment.network.freeze(stats), params, chunks, num_groups=experiment.dataset.num_groups,
        curvature=curvature, memory=memory_of_a_replica(experiment),
    )  # fmt: skip


def _ends(inputs: TheoryInputs, operator: theory.GroupOperator, key: jax.Array, both: bool) -> theory.Extremes:
    settings = inputs.experiment.settings.theory
    return theory.group_extreme_eigenvalues(
        operator, key, tolerance=settings.tolerance, max_iterations=settings.max_iterations,
        memory=memory_of_a_replica(inputs.experiment), both=both,
    )  # fmt: skip


def _plain(statement: statements.Statement) -> dict[str, Any]:
    parts = {"left": statement.left, "right": statement.right, "holds": statement.holds, "assumed": statement.assumed}
    assumptions = {assumption.text: assumption.holds for assumption in statement.assumptions}
    return parts | statement.terms | {"assumptions": assumptions}


def _cosines(inputs: TheoryInputs, part: Part) -> dict[str, Any]:
    experiment, num_groups = inputs.experiment, inputs.experiment.dataset.num_groups
    # Of the whole split, of which the examples may be a choice.
    sizes = jnp.asarray(experiment.dataset.group_sizes(experiment.settings.theory.split), jnp.float32)

    def measure(chunks: theory.Chunks, params: Params, stats: Stats) -> dict[str, Any]:
        gradients = theory.group_gradients(experiment.network.freeze(stats), params, chunks, num_groups=num_groups)
        checked = [s for s in statements.proposition1(gradients, sizes) if s is not None]
        return {
            "cosines": theory.gradient_cosines(gradients),
            "statements": {s.name: _plain(s) for s in checked},
        }

    source = inputs.dense
    return experiment.over_replicas(measure, inputs.chunks, source.params, source.stats)


def _spectra(inputs: TheoryInputs, part: Part) -> dict[str, Any]:
    experiment, source = inputs.experiment, inputs.dense
    # XTrace holds as many vectors as it takes products.
    products = min(experiment.settings.theory.products, vectors_that_fit(experiment, source.params))

    def measure(chunks: theory.Chunks, params: Params, stats: Stats, key: jax.Array) -> dict[str, Any]:
        operator = _operator(inputs, chunks, params, stats)
        both = _ends(inputs, operator, key, True)
        gauss_newton = _ends(inputs, _operator(inputs, chunks, params, stats, "gauss_newton"), key, False).largest
        trace = theory.group_traces(operator, jax.random.fold_in(key, 1), products=products)
        return {
            "largest": both.largest._asdict(),
            "smallest": both.smallest._asdict(),
            "gauss_newton": gauss_newton._asdict(),
            "trace": trace.value,
            "trace_error": trace.standard_error,
        }

    found = experiment.over_replicas(measure, inputs.chunks, source.params, source.stats, experiment.theory_keys)
    return {**found, "products": products}


def _density(inputs: TheoryInputs, part: Part) -> dict[str, Any]:
    experiment, source = inputs.experiment, inputs.dense
    settings = experiment.settings.theory
    # No vector may be given up here: what does not fit is not taken.
    steps = min(settings.density_steps, vectors_that_fit(experiment, source.params))

    def measure(chunks: theory.Chunks, params: Params, stats: Stats, key: jax.Array) -> theory.SpectralDensity:
        operator = _operator(inputs, chunks, params, stats)
        return theory.group_spectral_densities(operator, key, steps=steps, starts=settings.density_starts)

    found = experiment.over_replicas(measure, inputs.chunks, source.params, source.stats, experiment.theory_keys)
    nodes, weights = (jnp.reshape(leaf, (-1, *leaf.shape[2:])) for leaf in found)  # seeds as so many starts more
    together = theory.SpectralDensity(nodes, weights)
    width = together.width()
    # Groups without examples have no nodes.
    widest = jnp.nanmax(width)
    grid = jnp.linspace(jnp.nanmin(nodes) - 4 * widest, jnp.nanmax(nodes) + 4 * widest, _GRID)
    smooth = together.smooth(grid, jnp.broadcast_to(widest, width.shape))
    floor = 1e-3 * jnp.max(jnp.abs(nodes), (0, 2))[:, None]
    return {
        "grid": grid,
        "density": smooth,
        "steps": steps,
        "width": widest,
        "negative_share": together.share(-jnp.inf, -floor),
        "positive_share": together.share(floor, jnp.inf),
    }


def _examples(inputs: TheoryInputs, part: Part) -> dict[str, Any]:
    experiment, num_groups = inputs.experiment, inputs.experiment.dataset.num_groups

    def measure(batch: Batch, params: Params, stats: Stats) -> Array:
        size = examples_at_a_time(experiment, batch, 32)
        each = theory.example_gradient_norms(experiment.network.freeze(stats), params, batch, chunk_size=size)
        return group_mean(each, batch.group, num_groups, batch.weight, empty=jnp.nan)[0]

    source = inputs.dense
    return {"mean_of_norms": experiment.over_replicas(measure, inputs.examples, source.params, source.stats)}


def _distances(inputs: TheoryInputs, part: Part) -> dict[str, Any]:
    experiment, num_groups = inputs.experiment, inputs.experiment.dataset.num_groups

    def measure(batch: Batch, params: Params, stats: Stats, key: jax.Array) -> theory.BoundaryDistances:
        # In units of normalised inputs: noise and gradients mean nothing in bytes.
        batch = batch._replace(x=experiment.dataset.normalise(batch.x))
        apply, size = experiment.inner.freeze(stats), examples_at_a_time(experiment, batch, 512)
        return theory.group_boundary_distances(apply, params, batch, key, num_groups=num_groups, chunk_size=size)

    source = inputs.dense
    found = experiment.over_replicas(measure, inputs.examples, source.params, source.stats, experiment.theory_keys)
    return found._asdict()


def _outputs(inputs: TheoryInputs, part: Part) -> dict[str, Any]:
    """Check Proposition 2 and Theorem 2 on examples of each group.

    Both sides are of these examples.
    """
    experiment, dataset = inputs.experiment, inputs.experiment.dataset
    split, most = jax.device_get(inputs.examples), experiment.settings.theory.output_examples
    order = np.random.default_rng(0).permutation(len(split.y))
    members = [order[split.group[order] == a][:most] for a in range(dataset.num_groups)]
    index = np.sort(np.concatenate(members))
    few = Batch(*(np.asarray(leaf)[index] for leaf in split))
    forms = ("multiclass", "logit", "printed") if dataset.num_classes == 2 else ("multiclass",)

    def measure(data: tuple[Batch, theory.Chunks], params: Params, stats: Stats, key: jax.Array) -> dict[str, Any]:
        batch, chunks = data
        apply = experiment.network.freeze(stats)
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        room = memory_of_a_replica(experiment) // (4 * size * (_OUTPUT_PRODUCTS + 1) * dataset.num_classes)
        options: Any = {"num_groups": dataset.num_groups, "chunk_size": int(np.clip(room, 1, 16))}
        top = _ends(inputs, _operator(inputs, chunks, params, stats), key, False).largest
        norms = theory.group_gradient_norms(apply, params, chunks, num_groups=dataset.num_groups)
        found = {"Proposition 2": statements.proposition2(apply, params, batch, gradient_norm=norms, **options)}
        third = statements.proposition3(jax.nn.softmax(apply(params, batch.x)))
        found |= {s.name: s for s in third if s is not None}
        for form in forms:
            found[form] = statements.theorem2(
                apply, params, batch, top, key, form=form, max_iterations=_OUTPUT_PRODUCTS, **options
            )
        return {name: _plain(s) for name, s in found.items()}

    source = inputs.dense
    chunks = theory.by_group(few, dataset.num_groups, replicas=replicas_at_once(experiment))
    found = experiment.over_replicas(measure, (few, chunks), source.params, source.stats, experiment.theory_keys)
    return {"counts": [len(m) for m in members], "statements": found}


def _attribution(inputs: TheoryInputs, part: Part) -> dict[str, Any]:
    experiment, num_groups = inputs.experiment, inputs.experiment.dataset.num_groups

    def measure(
        shared: tuple[theory.Chunks, theory.Points], params: Params, stats: Stats, other: Params
    ) -> theory.Attribution:
        apply = experiment.network.freeze(stats)
        return theory.attribution_at(apply, params, other, *shared, num_groups=num_groups)

    source, chunks = inputs.dense, inputs.chunks
    dtype = jnp.result_type(*jax.tree.leaves(source.params))

    def attribute(other: Params) -> dict[str, Array]:
        def integrate(points: theory.Points) -> theory.Attribution:
            return experiment.over_replicas(measure, (chunks, points), source.params, source.stats, other)

        found = theory.refined(integrate, nodes=2, segments=16, dtype=dtype, tolerance=_ATTRIBUTION_ERROR)
        return found._asdict()

    found = [part(f"network-{i}", partial(attribute, network.params)) for i, network in enumerate(inputs.pruned)]
    return {"leaves": theory.leaf_names(source.params)} | {
        name: np.stack([f[name] for f in found]) for name in found[0]
    }


def _pruned(inputs: TheoryInputs, part: Part) -> dict[str, Any]:
    experiment, num_groups = inputs.experiment, inputs.experiment.dataset.num_groups

    def measure(chunks: theory.Chunks, params: Params, stats: Stats, key: jax.Array) -> dict[str, Any]:
        apply = experiment.network.freeze(stats)
        norms = theory.group_gradient_norms(apply, params, chunks, num_groups=num_groups)
        return {"gradient_norm": norms} | _ends(
            inputs, _operator(inputs, chunks, params, stats), key, False
        ).largest._asdict()

    chunks = inputs.chunks

    def measured(network: Networks) -> dict[str, Array]:
        return experiment.over_replicas(measure, chunks, network.params, network.stats, experiment.theory_keys)

    found = [part(f"network-{i}", partial(measured, network)) for i, network in enumerate(inputs.pruned)]
    masks = [network.masks for network in inputs.pruned]
    order = np.argsort(inputs.experiment.settings.prune.sparsities)
    nested = [statements.is_nested(masks[a], masks[b]) for a, b in itertools.pairwise(order)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found) | {"nested": nested}


_MEASURE: Mapping[Measure, Callable[[TheoryInputs, Part], Plain]] = {
    "cosines": _cosines,
    "spectra": _spectra,
    "density": _density,
    "examples": _examples,
    "distances": _distances,
    "outputs": _outputs,
    "attribution": _attribution,
    "pruned": _pruned,
    "sparing": allocate,
}
