"""The stage of the further, costly measures of the theory, each of which is asked for by name."""

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
from jaxprune.pipeline import subjects
from jaxprune.pipeline.context import Context, json_once, part_once
from jaxprune.pipeline.networks import Trained
from jaxprune.pipeline.sparing import spare
from jaxprune.pipeline.stage import Stage
from jaxprune.pipeline.theories import theory_stage
from jaxprune.theory import statements
from jaxprune.types import Array, Batch, Params, Stats

MEASURES: tuple[Measure, ...] = get_args(Measure)
_OUTPUT_PRODUCTS = 30
_GRID = 300
_ATTRIBUTION_ERROR = 0.01  # of each group's R(a)


def laboratory_stage(context: Context, measure: Measure) -> Stage:
    """The address of one measure: what it alone depends on."""
    settings = context.experiment.settings.theory
    own = {
        "spectra": {"products"},
        "density": {"density_steps", "density_starts"},
        "outputs": {"output_examples"},
    }.get(measure, set())
    return Stage(f"theory-{measure}", settings.model_dump(mode="json", include=own), (theory_stage(context),))


def laboratory(context: Context) -> dict[str, Any] | None:
    """Every measure that the settings ask for, by name, as plain values; None where they ask for none."""
    wanted = context.experiment.settings.theory.measures
    if not wanted:
        return None
    context.progress.start("further measures of the theory", len(wanted))
    found = {}
    for measure in wanted:
        found[measure] = json_once(context, laboratory_stage(context, measure), lambda m=measure: _taken(context, m))
        context.progress.advance(measure)
    context.progress.finish()
    return found


def _taken(context: Context, measure: Measure) -> dict[str, Any]:
    with subjects.precision(context):
        found = _TAKE[measure](context)
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, str) else np.asarray(leaf).tolist(), found)


def _operator(
    context: Context, chunks: theory.Chunks, params: Params, stats: Stats, curvature: Any = "hessian"
) -> theory.GroupOperator:
    experiment = context.experiment
    return theory.group_operator(
        experiment.network.freeze(stats), params, chunks, num_groups=experiment.dataset.num_groups,
        curvature=curvature, memory=subjects.memory_of_a_replica(experiment),
    )  # fmt: skip


def _ends(context: Context, operator: theory.GroupOperator, key: jax.Array, both: bool) -> theory.Extremes:
    settings = context.experiment.settings.theory
    return theory.group_extreme_eigenvalues(
        operator, key, tolerance=settings.tolerance, max_iterations=settings.max_iterations,
        memory=subjects.memory_of_a_replica(context.experiment), both=both,
    )  # fmt: skip


def _plain(statement: statements.Statement) -> dict[str, Any]:
    parts = {"left": statement.left, "right": statement.right, "holds": statement.holds, "assumed": statement.assumed}
    assumptions = {assumption.text: assumption.holds for assumption in statement.assumptions}
    return parts | statement.terms | {"assumptions": assumptions}


def _cosines(context: Context) -> dict[str, Any]:
    experiment, num_groups = context.experiment, context.experiment.dataset.num_groups
    # Of the whole split, of which the examples may be a choice.
    sizes = jnp.asarray(experiment.dataset.group_sizes(experiment.settings.theory.split), jnp.float32)

    def measure(chunks: theory.Chunks, params: Params, stats: Stats) -> dict[str, Array]:
        gradients = theory.group_gradients(experiment.network.freeze(stats), params, chunks, num_groups=num_groups)
        checked = [s for s in statements.proposition1(gradients, sizes) if s is not None]
        return {
            "cosines": theory.gradient_cosines(gradients),
            "statements": {s.name: _plain(s) for s in checked},
        }

    source = subjects.unpruned(context)
    return experiment.over_replicas(measure, subjects.chunks(context), source.params, source.stats)


def _spectra(context: Context) -> dict[str, Any]:
    experiment, source = context.experiment, subjects.unpruned(context)
    # XTrace holds as many vectors as it takes products.
    products = min(experiment.settings.theory.products, subjects.vectors_that_fit(experiment, source.params))

    def measure(chunks: theory.Chunks, params: Params, stats: Stats, key: jax.Array) -> dict[str, Any]:
        operator = _operator(context, chunks, params, stats)
        both = _ends(context, operator, key, True)
        gauss_newton = _ends(context, _operator(context, chunks, params, stats, "gauss_newton"), key, False).largest
        trace = theory.group_traces(operator, jax.random.fold_in(key, 1), products=products)
        return {
            "largest": both.largest._asdict(),
            "smallest": both.smallest._asdict(),
            "gauss_newton": gauss_newton._asdict(),
            "trace": trace.value,
            "trace_error": trace.standard_error,
        }

    found = experiment.over_replicas(
        measure, subjects.chunks(context), source.params, source.stats, experiment.theory_keys
    )
    return {**found, "products": products}


def _density(context: Context) -> dict[str, Any]:
    experiment, source = context.experiment, subjects.unpruned(context)
    settings = experiment.settings.theory
    # No vector may be given up here: what does not fit is not taken.
    steps = min(settings.density_steps, subjects.vectors_that_fit(experiment, source.params))

    def measure(chunks: theory.Chunks, params: Params, stats: Stats, key: jax.Array) -> theory.SpectralDensity:
        operator = _operator(context, chunks, params, stats)
        return theory.group_spectral_densities(operator, key, steps=steps, starts=settings.density_starts)

    found = experiment.over_replicas(
        measure, subjects.chunks(context), source.params, source.stats, experiment.theory_keys
    )
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


def _examples(context: Context) -> dict[str, Any]:
    experiment, num_groups = context.experiment, context.experiment.dataset.num_groups

    def measure(batch: Batch, params: Params, stats: Stats) -> Array:
        size = subjects.examples_at_a_time(experiment, batch, 32)
        each = theory.example_gradient_norms(experiment.network.freeze(stats), params, batch, chunk_size=size)
        return group_mean(each, batch.group, num_groups, batch.weight, empty=jnp.nan)[0]

    source = subjects.unpruned(context)
    return {"mean_of_norms": experiment.over_replicas(measure, subjects.examples(context), source.params, source.stats)}


def _distances(context: Context) -> dict[str, Any]:
    experiment, num_groups = context.experiment, context.experiment.dataset.num_groups

    def measure(batch: Batch, params: Params, stats: Stats, key: jax.Array) -> theory.BoundaryDistances:
        # In units of normalised inputs: noise and gradients mean nothing in bytes.
        batch = batch._replace(x=experiment.dataset.normalise(batch.x))
        apply, size = experiment.inner.freeze(stats), subjects.examples_at_a_time(experiment, batch, 512)
        return theory.group_boundary_distances(apply, params, batch, key, num_groups=num_groups, chunk_size=size)

    source = subjects.unpruned(context)
    found = experiment.over_replicas(
        measure, subjects.examples(context), source.params, source.stats, experiment.theory_keys
    )
    return found._asdict()


def _outputs(context: Context) -> dict[str, Any]:
    """Proposition 2 and Theorem 2 on a few examples of each group; both sides are of these examples."""
    experiment, dataset = context.experiment, context.experiment.dataset
    split, most = jax.device_get(subjects.examples(context)), experiment.settings.theory.output_examples
    order = np.random.default_rng(0).permutation(len(split.y))
    members = [order[split.group[order] == a][:most] for a in range(dataset.num_groups)]
    index = np.sort(np.concatenate(members))
    few = Batch(*(np.asarray(leaf)[index] for leaf in split))
    forms = ("multiclass", "logit", "printed") if dataset.num_classes == 2 else ("multiclass",)

    def measure(data: tuple[Batch, theory.Chunks], params: Params, stats: Stats, key: jax.Array) -> dict[str, Any]:
        batch, chunks = data
        apply = experiment.network.freeze(stats)
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        room = subjects.memory_of_a_replica(experiment) // (4 * size * (_OUTPUT_PRODUCTS + 1) * dataset.num_classes)
        options: Any = {"num_groups": dataset.num_groups, "chunk_size": int(np.clip(room, 1, 16))}
        top = _ends(context, _operator(context, chunks, params, stats), key, False).largest
        norms = theory.group_gradient_norms(apply, params, chunks, num_groups=dataset.num_groups)
        found = {"Proposition 2": statements.proposition2(apply, params, batch, gradient_norm=norms, **options)}
        third = statements.proposition3(jax.nn.softmax(apply(params, batch.x)))
        found |= {s.name: s for s in third if s is not None}
        for form in forms:
            found[form] = statements.theorem2(
                apply, params, batch, top, key, form=form, max_iterations=_OUTPUT_PRODUCTS, **options
            )
        return {name: _plain(s) for name, s in found.items()}

    source = subjects.unpruned(context)
    chunks = theory.by_group(few, dataset.num_groups, replicas=subjects.replicas_at_once(experiment))
    found = experiment.over_replicas(measure, (few, chunks), source.params, source.stats, experiment.theory_keys)
    return {"counts": [len(m) for m in members], "statements": found}


def _attribution(context: Context) -> dict[str, Any]:
    experiment, num_groups = context.experiment, context.experiment.dataset.num_groups

    def measure(
        shared: tuple[theory.Chunks, theory.Points], params: Params, stats: Stats, other: Params
    ) -> theory.Attribution:
        apply = experiment.network.freeze(stats)
        return theory.attribution_at(apply, params, other, *shared, num_groups=num_groups)

    source, chunks = subjects.unpruned(context), subjects.chunks(context)
    dtype = jnp.result_type(*jax.tree.leaves(source.params))

    def attribute(other: Params) -> dict[str, Array]:
        def integrate(points: theory.Points) -> theory.Attribution:
            return experiment.over_replicas(measure, (chunks, points), source.params, source.stats, other)

        found = theory.refined(integrate, nodes=2, segments=16, dtype=dtype, tolerance=_ATTRIBUTION_ERROR)
        return found._asdict()

    stage = laboratory_stage(context, "attribution")
    found = [
        part_once(context, stage, f"network-{i}", partial(attribute, network.params))
        for i, network in enumerate(subjects.cut(context))
    ]
    return {"leaves": theory.leaf_names(source.params)} | {
        name: np.stack([f[name] for f in found]) for name in found[0]
    }


def _pruned(context: Context) -> dict[str, Any]:
    experiment, num_groups = context.experiment, context.experiment.dataset.num_groups

    def measure(chunks: theory.Chunks, params: Params, stats: Stats, key: jax.Array) -> dict[str, Any]:
        apply = experiment.network.freeze(stats)
        norms = theory.group_gradient_norms(apply, params, chunks, num_groups=num_groups)
        return {"gradient_norm": norms} | _ends(
            context, _operator(context, chunks, params, stats), key, False
        ).largest._asdict()

    chunks, stage = subjects.chunks(context), laboratory_stage(context, "pruned")

    def measured(network: Trained) -> dict[str, Array]:
        return experiment.over_replicas(measure, chunks, network.params, network.stats, experiment.theory_keys)

    found = [
        part_once(context, stage, f"network-{i}", partial(measured, network))
        for i, network in enumerate(subjects.cut(context))
    ]
    masks = [network.masks for network in subjects.cut(context)]
    order = np.argsort(context.experiment.settings.prune.sparsities)
    nested = [statements.is_nested(masks[a], masks[b]) for a, b in itertools.pairwise(order)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found) | {"nested": nested}


_TAKE: Mapping[Measure, Callable[[Context], dict[str, Any]]] = {
    "cosines": _cosines,
    "spectra": _spectra,
    "density": _density,
    "examples": _examples,
    "distances": _distances,
    "outputs": _outputs,
    "attribution": _attribution,
    "pruned": _pruned,
    "sparing": lambda context: spare(context, laboratory_stage(context, "sparing")),
}
