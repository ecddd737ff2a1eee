"""The audit: metrics by group, the choice, and tests of the harm."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxprune import auditing, pruning
from jaxprune.auditing import GroupMetrics
from jaxprune.components import PLAIN
from jaxprune.data import Grouping
from jaxprune.errors import TrainingDiverged
from jaxprune.numbers import plural
from jaxprune.pipeline.addresses import audit_stage, outcomes_stage, plan_groupings
from jaxprune.pipeline.channel_shares import channel_shares
from jaxprune.pipeline.compacting import compact_of, equality_of, outcomes_of_compact
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.harm_tests import SplitOutcomes, harm_tests
from jaxprune.pipeline.methods import method_of
from jaxprune.pipeline.networks import networks_of
from jaxprune.pipeline.nodes import Node, Pruned, Train, phase_of, structure_of
from jaxprune.pipeline.outcomes import Measured, read_outcomes, write_outcomes
from jaxprune.pipeline.parts import is_coupled
from jaxprune.pipeline.plan import Entry, Plan
from jaxprune.pipeline.store import Store
from jaxprune.pipeline.train import Networks
from jaxprune.pipeline.validation import validation_halves
from jaxprune.pipeline.violations import violation_of
from jaxprune.results.choice import choose
from jaxprune.results.figures import figures_of
from jaxprune.results.records import Audit, Network
from jaxprune.results.store import audits_to_json, network_to_json
from jaxprune.types import Array

_TRAJECTORY_POINTS = 200

Plain = dict[str, Any]


def audit(experiment: Experiment, store: Store, plan: Plan) -> Plain:
    """Audit every network of a plan in every grouping of it.

    Returns:
      Plain values: "networks", and "audits" by the name of each grouping.
    """
    groupings = plan_groupings(experiment, plan)
    return store.values(audit_stage(experiment, plan, groupings), lambda: _audit(experiment, store, plan, groupings))


def _audit(experiment: Experiment, store: Store, plan: Plan, groupings: Sequence[Grouping]) -> Plain:
    trouble = measure(experiment, store, plan)
    entries = [entry for entry in plan.entries if entry.network.key not in trouble]
    outcomes = {split: _outcomes(experiment, store, plan, entries, groupings, split) for split in plan.splits}
    audits = {grouping.name: _audits(experiment, plan, entries, outcomes, grouping) for grouping in groupings}
    chosen = _choices(experiment, plan, entries, audits[groupings[0].name])
    tested = "test" if "test" in plan.splits else plan.splits[0]
    commonest = np.bincount(experiment.dataset.train.y).argmax()
    compressed = [entry.network.sparsity > 0 and entry.network.key in chosen for entry in entries]
    store.progress.start(f"testing the harm of {plural(sum(compressed), 'network')}", 1)
    tests = harm_tests(outcomes[tested], compressed, float(np.mean(outcomes[tested].y == commonest)))
    store.progress.advance()
    store.progress.finish()
    for name, by_network in tests.items():
        for entry, found in zip(entries, by_network, strict=True):
            key = (entry.network.key, tested)
            audits[name][key] = audits[name][key]._replace(tests=found)
    networks = [
        replace(entry.network, chosen=False, trouble=trouble[entry.network.key])
        if entry.network.key in trouble
        else _with_training(experiment, store, entry, entry.network.key in chosen)
        for entry in plan.entries
    ]
    return {
        "networks": [network_to_json(network) for network in networks],
        "audits": {name: audits_to_json(networks, found) for name, found in audits.items()},
    }


def measure(experiment: Experiment, store: Store, plan: Plan) -> dict[str, str]:
    """Make and measure those networks whose outcomes are missing.

    In memory one network is measured after the other; of a streamed set, every block is read once for all of them.

    Returns:
      Key of a network -> why it has no outcomes, for those that are not required.

    Raises:
      TrainingDiverged: A required network did.
    """
    trouble: dict[str, str] = {}

    def attempt(entries: Sequence[Entry], do: Callable[[], Any]) -> bool:
        """Return whether it succeeds; raise where a required network diverges."""
        try:
            do()
        except TrainingDiverged as error:
            if any(entry.required for entry in entries):
                raise
            store.progress.say(f"warning: {error}; the other networks are measured without it")
            trouble.update({entry.network.key: str(error) for entry in entries})
            return False
        return True

    def is_measured(entry: Entry) -> bool:
        return store.read(outcomes_stage(experiment, entry, plan.splits), lambda folder: folder) is not None

    missing: dict[Node, list[Entry]] = {}  # two entries may be one network, such as "none" and "naive"
    for entry in plan.entries:
        if not is_measured(entry):
            missing.setdefault(entry.node, []).append(entry)
    made = [same for node, same in missing.items() if attempt(same, partial(networks_of, experiment, store, node))]
    if made:
        blocks = sum(experiment.num_blocks(split) for split in plan.splits)
        store.progress.start(f"measuring {len(made)} network{'s' * (len(made) > 1)}", blocks * len(made))
        together = [same[0] for same in made]
        if not experiment.dataset.streamed or not _measured_together(experiment, store, plan, together):
            for same in made:
                attempt(same, partial(_measure, experiment, store, plan, same[:1]))
        store.progress.finish()
    return trouble


def _measured_together(experiment: Experiment, store: Store, plan: Plan, entries: Sequence[Entry]) -> bool:
    """Measure networks in one pass over a streamed set.

    Returns False where the outputs of one of them are not finite.
    """
    try:
        _measure(experiment, store, plan, entries)
    except TrainingDiverged:
        return False
    return True


def _measure(experiment: Experiment, store: Store, plan: Plan, entries: Sequence[Entry]) -> None:
    networks = [_measured(experiment, store, entry.node) for entry in entries]
    with ExitStack() as stack:
        stages = [outcomes_stage(experiment, entry, plan.splits) for entry in entries]
        folders = [stack.enter_context(store.workspace.writing(stage)) for stage in stages]
        for split in plan.splits:
            for _ in write_outcomes(experiment, folders, split, networks):
                store.progress.advance()


def _measured(experiment: Experiment, store: Store, node: Node) -> Measured:
    """The networks of a node; the compact ones where channels are removed."""
    compact = compact_of(experiment, store, node)
    if compact is not None:
        outcomes = outcomes_of_compact(experiment, store, compact)
        return Measured(phase_of(node), outcomes, compact.params, compact.stats)
    return Measured(phase_of(node), experiment.outcomes, *networks_of(experiment, store, node)[:2])


def _outcomes(
    experiment: Experiment,
    store: Store,
    plan: Plan,
    entries: Sequence[Entry],
    groupings: Sequence[Grouping],
    split: str,
) -> SplitOutcomes:
    """Read the outcomes of every network on one split.

    On the validation split, only the people that the choice is made on are read.
    """
    y = np.asarray(experiment.dataset.split(split).y)
    rows = None
    if split == "validation" and plan.halved:
        rows = validation_halves(experiment.dataset, plan.held_out).choosing
    networks = []
    for entry in entries:
        folder = store.workspace.read(outcomes_stage(experiment, entry, plan.splits))
        networks.append(read_outcomes(folder, split, y))
    codes = [np.asarray(grouping.codes[split]) for grouping in groupings]
    if rows is not None:
        y, codes = y[rows], [code[rows] for code in codes]
        networks = [jax.tree.map(lambda leaf: leaf[:, rows], network) for network in networks]
    return SplitOutcomes(y, codes, [(g.name, g.num_groups) for g in groupings], networks)


def _audits(
    experiment: Experiment,
    plan: Plan,
    entries: Sequence[Entry],
    outcomes: Mapping[str, SplitOutcomes],
    grouping: Grouping,
) -> dict[tuple[str, str], Audit]:
    """The audits of each network by one grouping."""
    metrics = {}
    for split in plan.splits:
        group = outcomes[split].codes_of(grouping.name)
        for entry, people in zip(entries, outcomes[split].networks, strict=True):
            of_people = auditing.metrics_of_people(people.loss, people.wrong, group, grouping.num_groups)
            metrics[entry.network.key, split] = GroupMetrics(*(np.asarray(leaf, np.float64) for leaf in of_people))
    dense = {entry.network.name: entry.network.key for entry in entries if entry.network.role == "dense"}
    audits, is_primary = {}, grouping.name == experiment.dataset.primary.name
    for i, entry in enumerate(entries):
        network = entry.network
        for split in plan.splits:
            people, own = outcomes[split], metrics[network.key, split]
            plain, source = (metrics[dense[name], split] for name in ("dense", network.dense))
            with np.errstate(invalid="ignore"):  # infinite losses have no difference
                impact = auditing.impact(plain, own)
                own_impact = impact if network.dense == "dense" else auditing.impact(source, own)
            audits[network.key, split] = Audit(
                metrics=own,
                impact=impact,
                own_impact=own_impact,
                sampling=auditing.sampling_error_of_people(
                    people.networks[0], people.networks[i], people.codes_of(grouping.name), grouping.num_groups
                ),
                violation=_violation(experiment, entry, own, plain) if is_primary else None,
            )
    return audits


def _violation(experiment: Experiment, entry: Entry, metrics: GroupMetrics, dense: GroupMetrics) -> np.ndarray | None:
    """[R, G] violation of a network's own constraint on a split.

    It is None without a constraint.
    """
    if isinstance(entry.node, Pruned):
        return None
    make = method_of(experiment.settings, entry.node.method).constraint
    if make is None:
        return None
    tolerance = dict(entry.node.values).get("tolerance", 0.0)
    return violation_of(make(experiment.dataset.num_groups), tolerance, metrics, dense)


def _choices(
    experiment: Experiment, plan: Plan, entries: Sequence[Entry], audits: Mapping[tuple[str, str], Audit]
) -> set[str]:
    """Choose among candidates; return the keys of reported networks.

    The choice is made on the validation split.
    """
    settings, chosen = experiment.settings.choice, set()
    candidates: dict[tuple[str, float], list[Network]] = {}
    for entry in entries:
        candidates.setdefault((entry.network.name, entry.network.sparsity), []).append(entry.network)
    for networks in candidates.values():
        place = 0
        if len(networks) > 1:
            dense = audits[entries[0].network.key, "validation"].metrics
            base = baseline_of(entries, networks[0])
            measured = [figures_of(audits[n.key, "validation"].metrics, dense) for n in networks]
            baseline = dense if base is None else audits[base.key, "validation"].metrics
            place = choose(measured, figures_of(baseline, dense), measure=settings.measure, max_cost=settings.max_cost)
        chosen.add(networks[place].key)
    return chosen


def baseline_of(entries: Sequence[Entry], candidate: Network) -> Network | None:
    """Return the plainly retrained networks that a candidate may cost accuracy against.

    They are those of the same pruned networks, or else the first ones of that sparsity.
    """
    parent = next(entry.node for entry in entries if entry.network.key == candidate.key).parents[0]
    plain = [
        entry
        for entry in entries
        if (entry.network.role, entry.network.method, entry.network.dense) == ("retrained", PLAIN, "dense")
        and entry.network.sparsity == candidate.sparsity
    ]
    same = [entry.network for entry in plain if entry.node.parents[0] == parent]
    return next(iter((*same, *(entry.network for entry in plain))), None)


def _with_training(experiment: Experiment, store: Store, entry: Entry, chosen: bool) -> Network:
    """Add layers and multipliers to the record of a network."""
    networks = networks_of(experiment, store, entry.node)
    multipliers = networks.logs.get("multipliers")
    return replace(
        entry.network,
        chosen=chosen,
        layers=_layers(experiment, networks),
        channels=_channels(experiment, store, entry.node, networks),
        multipliers=None if multipliers is None else thinned(multipliers),
    )


def _layers(experiment: Experiment, networks: Networks) -> list[Plain]:
    """Path, size and kept [R] of every prunable layer."""
    replicas = [jax.tree.map(lambda m, r=r: np.asarray(m)[r], networks.masks) for r in range(len(experiment.seeds))]
    of_replicas = [pruning.layer_sparsities(masks, experiment.prunable) for masks in replicas]
    return [
        {"path": layers[0].path, "size": layers[0].size, "kept": [layer.kept for layer in layers]}
        for layers in zip(*of_replicas, strict=True)
    ]


def _channels(experiment: Experiment, store: Store, node: Node, networks: Networks) -> Plain | None:
    """The channels removed, and the equality of the compact network."""
    if isinstance(node, Train) or not is_coupled(structure_of(node)):
        return None
    part, seeds = structure_of(node), range(len(experiment.seeds))
    masks = [jax.tree.map(lambda m, r=r: np.asarray(m)[r], networks.masks) for r in seeds]
    kept = [experiment.couplings.left(one) for one in masks]
    equality = equality_of(experiment, store, node)
    return {
        "couplings": [
            {"name": c.name, "kind": c.kind, "size": c.size, "kept": [int(one[c.name].sum()) for one in kept]}
            for c in experiment.couplings
        ],
        "removed": {name: list(share) for name, share in channel_shares(experiment, part, networks.masks).items()},
        "equality": None if equality is None else equality._asdict(),
    }


def thinned(trajectory: Array) -> Array:
    """[R, T, G] -> [R, at most _TRAJECTORY_POINTS, G], the last point kept."""
    steps = trajectory.shape[1]
    return trajectory[:, np.unique(np.linspace(0, steps - 1, min(steps, _TRAJECTORY_POINTS)).astype(int))]
