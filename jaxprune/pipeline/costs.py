"""What pruning buys: the costs of compressed networks and dense ones."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxprune import costs
from jaxprune.costs import Forward, Median, Timing
from jaxprune.coupling.compaction import Compact, compact
from jaxprune.networks import Network
from jaxprune.numbers import plural
from jaxprune.pipeline.addresses import costs_stage, network_costs_stage
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.networks import networks_of
from jaxprune.pipeline.nodes import DENSE, Node, Train, structure_of
from jaxprune.pipeline.parts import is_coupled
from jaxprune.pipeline.plan import Plan
from jaxprune.pipeline.store import Store
from jaxprune.results.costs import FormCosts, NetworkCosts, ProgramCosts, costs_to_json
from jaxprune.types import Masks, Params, Stats

Plain = dict[str, Any]
_UNTIMED = Median(np.nan, np.nan, np.nan)


class _Form(NamedTuple):
    """One form of the network of the first seed, on the device.

    Attributes:
      params: Its parameters.
      stats: Its statistics.
      bytes: Its arrays in a file.
      flops: For one example.
      programs: Batch size -> its program.
    """

    params: Params
    stats: Stats
    bytes: int
    flops: float
    programs: Mapping[int, Forward]


def measure_costs(experiment: Experiment, store: Store, plan: Plan, audited: Plain) -> Plain:
    """Measure every reported compressed network of a plan.

    Args:
      experiment: The data and the network.
      store: Of the artefacts; networks that are measured already are not measured again.
      plan: The networks.
      audited: Of the audit, which chose among candidates.

    Returns:
      Key of a network -> its costs, as plain values.
    """
    reported = {network["key"] for network in audited["networks"] if network["chosen"] and not network["trouble"]}
    entries = [entry for entry in plan.compressed if entry.network.key in reported]

    def compute() -> Plain:
        store.progress.start(f"measuring the size and speed of {plural(len(entries), 'network')}", len(entries))
        values = {}
        for entry in entries:
            measure = partial(_measure, experiment, store, entry.node)
            values[entry.network.key] = store.values(network_costs_stage(experiment, entry.node), measure)
            store.progress.advance()
        store.progress.finish()
        return values

    return store.values(costs_stage(experiment, plan), compute)


def _measure(experiment: Experiment, store: Store, node: Node) -> Plain:
    """Measure the network of the first seed beside the dense one."""
    batches = batch_sizes(experiment)
    dense = store.remember(("dense form", batches), lambda: _dense(experiment, store, batches))
    networks = networks_of(experiment, store, node)
    params, stats, masks = _first((networks.params, networks.stats, networks.masks))
    forms = {"dense": dense, "masked": _masked(params, stats, masks, dense)}
    smaller = _compact(experiment, node, params, stats, masks)
    if smaller is not None:
        forms["compact"] = _form(experiment, smaller.network, smaller.params, smaller.stats, batches)
    times = {batch: _times(experiment, forms, batch) for batch in batches}
    return costs_to_json(
        NetworkCosts(
            device=device_name(),
            forms={
                name: _costs(form, {batch: times[batch].get(name) for batch in batches}) for name, form in forms.items()
            },
        )
    )


def batch_sizes(experiment: Experiment) -> tuple[int, ...]:
    """One example, and a large batch."""
    return tuple(dict.fromkeys((1, experiment.settings.costs.batch)))


def device_name() -> str:
    """The device that networks are measured on, for readers."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"CPU, {plural(cores, 'core')}"


def _dense(experiment: Experiment, store: Store, batches: tuple[int, ...]) -> _Form:
    networks = networks_of(experiment, store, DENSE)
    params, stats = _first((networks.params, networks.stats))
    return _form(experiment, experiment.network, params, stats, batches)


def _masked(params: Params, stats: Stats, masks: Masks, dense: _Form) -> _Form:
    """The network with its zeros, which runs the dense network's program."""
    stored = costs.packed_bytes(params, masks) + costs.packed_bytes(stats)
    return _Form(params, stats, stored, dense.flops, dense.programs)


def _compact(experiment: Experiment, node: Node, params: Params, stats: Stats, masks: Masks) -> Compact | None:
    """The network without its pruned channels, at its own widths.

    The audited ones have the widths of the widest replica; this is what `export` writes. None where the structure
    removes no channels, and where this network lost none, or all of a coupling.
    """
    if isinstance(node, Train) or not is_coupled(structure_of(node)):
        return None
    couplings = experiment.couplings
    keeps = couplings.keep(masks).values()
    if all(keep.all() for keep in keeps) or not all(keep.any() for keep in keeps):
        return None
    return compact(experiment.network, params, stats, masks, sample=_inputs(experiment, 1), couplings=couplings)


def _form(experiment: Experiment, network: Network, params: Params, stats: Stats, batches: tuple[int, ...]) -> _Form:
    """The programs of a form for each batch size."""
    programs = {batch: costs.compile_forward(network, params, stats, _inputs(experiment, batch)) for batch in batches}
    flops = costs.flops_of(network, params, stats, _inputs(experiment, 1))
    return _Form(params, stats, costs.dense_bytes((params, stats)), flops, programs)


def _first(tree: Any) -> Any:
    """The arrays of the first seed, on the device."""
    return jax.device_put(jax.tree.map(lambda leaf: np.asarray(leaf)[0], tree), jax.local_devices()[0])


def _inputs(experiment: Experiment, batch: int) -> jax.Array:
    """[batch, ...] training examples, repeated where there are fewer."""
    x = np.asarray(experiment.dataset.train.x[:batch])
    return jax.device_put(x[np.arange(batch) % len(x)], jax.local_devices()[0])


def _times(experiment: Experiment, forms: Mapping[str, _Form], batch: int) -> Mapping[str, Timing]:
    """Time the forms in turns at one batch size; nothing without speed."""
    settings = experiment.settings.costs
    if not settings.speed:
        return {}
    x = _inputs(experiment, batch)
    calls = {name: partial(form.programs[batch].run, form.params, form.stats, x) for name, form in forms.items()}
    return costs.time_in_turns(calls, seconds=settings.seconds)


def _costs(form: _Form, times: Mapping[int, Timing | None]) -> FormCosts:
    programs = []
    for batch, timing in times.items():
        memory = form.programs[batch].memory
        of_time = (_UNTIMED, _UNTIMED, 0) if timing is None else (timing.seconds, timing.ratio, timing.rounds)
        programs.append(ProgramCosts(batch, memory, *of_time))
    sizes = costs.sizes_of(form.params, form.stats)
    return FormCosts(sizes.parameters, sizes.nonzeros, form.bytes, form.flops, tuple(programs))
