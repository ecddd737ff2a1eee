"""The stage that audits every network on every group, from the outcomes of single people."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxprune import auditing, pruning
from jaxprune.data import Grouping
from jaxprune.pipeline.context import Context, grouping_settings, json_once
from jaxprune.pipeline.harm_tests import SplitOutcomes, harm_tests
from jaxprune.pipeline.networks import Trained
from jaxprune.pipeline.outcomes import Entry, measure, networks, outcomes_stage, read_outcomes
from jaxprune.pipeline.stage import Stage
from jaxprune.reporting.results import answered_split

_TRAJECTORY_POINTS = 200

Values = dict[str, Any]


def audit_stage(context: Context) -> Stage:
    """The address of the audit of all networks in all groupings."""
    return stage_of(context, "audit", list(networks(context)), context.experiment.groupings)


def stage_of(context: Context, name: str, entries: Sequence[Entry], groupings: Sequence[Grouping]) -> Stage:
    """The address of an audit of these networks in these groupings."""
    own = {
        "splits": list(context.experiment.settings.audit.splits),
        "groupings": [grouping_settings(grouping) for grouping in groupings],
    }
    return Stage(name, own, tuple(outcomes_stage(context, entry.stage) for entry in entries))


def audit(context: Context) -> Values:
    """Metrics of every network on every split in every grouping, as plain values."""
    entries, groupings = list(networks(context)), context.experiment.groupings
    return json_once(context, audit_stage(context), lambda: audited(context, entries, groupings))


def audited(context: Context, entries: Sequence[Entry], groupings: Sequence[Grouping]) -> Values:
    """Metrics of these networks on every split, the plain dense one first.

    Returns:
      "audits" in the first grouping, "further" by the name of each other one, and "layers" and "multipliers" of the
      networks.
    """
    measure(context, entries)
    splits = context.experiment.settings.audit.splits
    audits = {split: audit_split(_split_outcomes(context, entries, groupings, split)) for split in splits}
    tested = answered_split(splits)
    commonest = np.bincount(context.experiment.dataset.train.y).argmax()
    people = _split_outcomes(context, entries, groupings, tested)
    tests = harm_tests(people, [entry.sparsity > 0 for entry in entries], float(np.mean(people.y == commonest)))
    for name, rows in tests.items():
        for row, test in zip(audits[tested][name], rows, strict=True):
            row |= test
    rows = {
        grouping.name: [
            {"model": entry.model, "sparsity": entry.sparsity, "split": split} | audits[split][grouping.name][i]
            for i, entry in enumerate(entries)
            for split in splits
        ]
        for grouping in groupings
    }
    primary = rows.pop(groupings[0].name)
    return {"audits": primary, "further": rows} | _of_networks(context, entries)


def audit_split(people: SplitOutcomes) -> dict[str, list[Values]]:
    """Compute the figures of every group on one split.

    Returns:
      Name of each grouping -> plain values for each network, in the order of `people.networks`.
    """
    return {grouping.name: _audit_grouping(people, grouping) for grouping in people.groupings}


def _audit_grouping(people: SplitOutcomes, grouping: Grouping) -> list[Values]:
    """Compute metrics and sampling errors of each network in one grouping."""
    group, rows = grouping.codes[people.split], []
    for after in people.networks:
        metrics = auditing.metrics_of_people(after.loss, after.wrong, group, grouping.num_groups)
        sampling = auditing.sampling_error_of_people(people.networks[0], after, group, grouping.num_groups)
        rows.append(_plain(metrics) | {"sampling_error": _plain(sampling)})
    return rows


def _split_outcomes(
    context: Context, entries: Sequence[Entry], groupings: Sequence[Grouping], split: str
) -> SplitOutcomes:
    """Read what is kept of one split, once for all groupings."""
    return SplitOutcomes(
        split=split,
        y=np.asarray(context.experiment.dataset.split(split).y),
        groupings=groupings,
        networks=[read_outcomes(context, entry.stage, split) for entry in entries],
    )


def _plain(leaves: Any) -> Values:
    return {name: np.asarray(leaf).tolist() for name, leaf in leaves._asdict().items()}


def _of_networks(context: Context, entries: Sequence[Entry]) -> Values:
    """The layers of every network, and the multipliers of constrained ones."""
    layers, multipliers = [], []
    for entry in entries:
        network, key = entry.give(), {"model": entry.model, "sparsity": entry.sparsity}
        layers.append(key | {"layers": _layers(context, network)})
        if "multipliers" in network.logs:
            multipliers.append(key | {"trajectory": thinned(network.logs["multipliers"]).tolist()})
    return {"layers": layers, "multipliers": multipliers}


def _layers(context: Context, network: Trained) -> list[Values]:
    """Path, size and kept [R] of every prunable layer."""
    replicas = [
        jax.tree.map(lambda m, r=r: np.asarray(m)[r], network.masks) for r in range(len(context.experiment.seeds))
    ]
    of_replicas = [pruning.layer_sparsities(masks, context.experiment.prunable) for masks in replicas]
    return [
        {"path": layers[0].path, "size": layers[0].size, "kept": [layer.kept for layer in layers]}
        for layers in zip(*of_replicas, strict=True)
    ]


def thinned(trajectory: np.ndarray) -> np.ndarray:
    """[R, T, G] -> [R, at most _TRAJECTORY_POINTS, G], the last point kept."""
    steps = trajectory.shape[1]
    return trajectory[:, np.unique(np.linspace(0, steps - 1, min(steps, _TRAJECTORY_POINTS)).astype(int))]
