"""The networks of a node: from this process, from disk, or made."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxprune import checkpoints, pruning
from jaxprune.components import CONFIGURED, PLAIN, SPARED
from jaxprune.config import Prune
from jaxprune.numbers import percent
from jaxprune.pipeline.addresses import stage_of
from jaxprune.pipeline.checkpoint_writer import read_logs, save_logs
from jaxprune.pipeline.compress import check_reachable, compress
from jaxprune.pipeline.convolution_form import say_other_form
from jaxprune.pipeline.experiment import Experiment, Span
from jaxprune.pipeline.methods import method_of
from jaxprune.pipeline.nodes import (
    DENSE,
    Compress,
    Node,
    Reestimate,
    Retrain,
    Train,
    TrainSparse,
    criterion_of,
    dense_source,
    structure_of,
)
from jaxprune.pipeline.plan import Plan
from jaxprune.pipeline.prunings import structure_title
from jaxprune.pipeline.reestimate import reestimate
from jaxprune.pipeline.spared_levels import spared_levels
from jaxprune.pipeline.sparse_training import span_of, sparsifier_of
from jaxprune.pipeline.store import Store
from jaxprune.pipeline.train import Networks, Training, train
from jaxprune.pipeline.validation import validation_halves


def networks_of(experiment: Experiment, store: Store, node: Node) -> Networks:
    """Return the networks of a node, made unless on disk.

    Everything that they are made from is made first.

    Raises:
      TrainingDiverged: A training did.
    """
    stage = stage_of(experiment, node)

    def read_or_make() -> Networks:
        networks = store.read(stage, lambda folder: read_networks(experiment, folder))
        if networks is None:
            if node == DENSE:
                say_other_form(store, stage)
            with store.workspace.writing(stage) as folder:
                networks = _make(experiment, store, node, folder)
                bits = jax.vmap(pruning.pack_masks)(networks.masks).bits
                tree = {"params": networks.params, "stats": networks.stats, "mask_bits": bits}
                checkpoints.save(folder / "network", tree)
                if networks.logs:
                    save_logs(folder, networks.logs)
        return networks

    # Dense networks are few, and all others are made from them; of those, a comparison may have hundreds.
    remember = store.remember if isinstance(node, Train) else store.remember_recent
    return remember(stage.address, read_or_make)


def make_all(experiment: Experiment, store: Store, plan: Plan, kinds: Any) -> dict[str, Path]:
    """Make the networks of a plan's entries of some kinds of nodes.

    Returns:
      Key of the network -> the folder of its stage.
    """
    folders = {}
    for entry in plan.entries:
        if isinstance(entry.node, kinds):
            networks_of(experiment, store, entry.node)
            folders[entry.network.key] = store.workspace.folder(stage_of(experiment, entry.node))
    return folders


def _make(experiment: Experiment, store: Store, node: Node, folder: Path) -> Networks:
    if isinstance(node, Reestimate):
        return reestimate(experiment, store, networks_of(experiment, store, node.parent))
    levels = None
    if isinstance(node, Compress | TrainSparse) and node.allocation.name == SPARED:
        levels = spared_levels(experiment, store, node, networks_of(experiment, store, dense_source(node)))
    if isinstance(node, Compress):
        return compress(experiment, store, node, networks_of(experiment, store, node.parent), levels)
    start = start_of(experiment, store, node)
    if isinstance(node, TrainSparse):
        check_reachable(experiment, node.structure, start.masks, node.sparsity)
    return train(experiment, store, folder, _training(experiment, store, node, start, levels), start)


def start_of(experiment: Experiment, store: Store, node: Train | TrainSparse | Retrain) -> Networks:
    """The networks that a training begins with, and their masks."""
    if isinstance(node, Retrain) and node.rewound is not None:
        early, pruned = (networks_of(experiment, store, one) for one in (node.rewound, node.parent))
        if isinstance(node.parent, Compress) and node.parent.parent == node.rewound:
            return pruned  # at these weights already, and perhaps corrected
        return Networks(pruning.apply_masks(early.params, pruned.masks), early.stats, pruned.masks)
    if isinstance(node, Train) or node.parent is None:
        params, stats = experiment.initialise()
        zeros = experiment.settings.model.keep_zeros
        return Networks(params, stats, experiment.zeros_of(params) if zeros else experiment.all_kept(params))
    return networks_of(experiment, store, node.parent)


def _training(
    experiment: Experiment,
    store: Store,
    node: Train | TrainSparse | Retrain,
    start: Networks,
    levels: Mapping[str, float] | None,
) -> Training:
    """The way in which the networks of a node are trained."""
    if isinstance(node, TrainSparse):
        return Training(
            method=method_of(experiment.settings, PLAIN),
            values={},
            halves=store.remember(("halves", False), lambda: validation_halves(experiment.dataset, [])),
            reference=None,
            label=f"training sparse networks, {node.schedule.replace('_', ' ')}, {percent(node.sparsity)} pruned",
            remedy=_remedy(experiment, node),
            span=span_of(experiment, node),
            sparsifier=sparsifier_of(experiment, node, levels),
        )
    method = method_of(experiment.settings, node.method)
    halved = isinstance(node, Retrain) and node.halved
    held_out = [node.method] if halved else []
    return Training(
        method=method,
        values=dict(node.values),
        halves=store.remember(("halves", halved), lambda: validation_halves(experiment.dataset, held_out)),
        reference=None if node.reference is None else networks_of(experiment, store, node.reference),
        label=_label(node, method.title, experiment.settings.prune),
        remedy=_remedy(experiment, node),
        span=_span(experiment, node),
    )


def _span(experiment: Experiment, node: Train | Retrain) -> Span:
    """The epochs of a training, and its learning rates."""
    if isinstance(node, Train):
        return experiment.span("dense", until=node.until)
    if node.rewound is not None and node.repeats_rates:
        return experiment.span("dense", first=node.rewound.until or 0)
    return experiment.span("retrain")


def _label(node: Train | Retrain, title: str, prune: Prune) -> str:
    """Name a training on the display.

    Args:
      node: What is trained.
      title: Of its method.
      prune: The settings; of several criteria or structures that are compared, the node's is named as well.
    """
    if isinstance(node, Train):
        if node.until is not None:
            return f"training dense networks up to epoch {node.until}"
        return "training dense networks" if node.method == PLAIN else "training fair dense networks"
    source = "" if dense_source(node).method == PLAIN else "fair networks "
    values = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in node.values)
    by = f" by {criterion_of(node)}" if prune.criteria else ""
    if prune.structures:
        by = f" as {structure_title(structure_of(node))}"
    what = f"retraining {source}, {percent(node.sparsity)} pruned{by}".replace(" ,", ",")
    return f"{what}: {title}{f' ({values})' if values else ''}"


def _remedy(experiment: Experiment, node: Train | TrainSparse | Retrain) -> str:
    """Say how to mend a training that diverges."""
    repeats = isinstance(node, Retrain) and node.repeats_rates
    section = "train" if isinstance(node, Train) or not node.parents or repeats else "retrain"
    lower = f"lower {section}.learning_rate (now {getattr(experiment.settings, section).learning_rate:g})"
    dual = None if isinstance(node, TrainSparse) else dict(node.values).get("dual_rate")
    if isinstance(node, TrainSparse) or dual is None:
        return lower
    if node.method == CONFIGURED:
        return f"{lower} or mitigation.dual_rate (now {dual:g})"
    return f"{lower}, or leave {dual:g} out of choice.dual_rates"


def read_networks(experiment: Experiment, folder: Path) -> Networks:
    """Read the networks in the folder of a finished stage.

    Raises:
      DamagedFile: A file is damaged.
    """
    params, stats = jax.eval_shape(experiment.initialise)
    masks = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, bool), params)
    packed = jax.eval_shape(jax.vmap(pruning.pack_masks), masks)
    like: Any = {"params": params, "stats": stats, "mask_bits": packed.bits}
    tree = checkpoints.restore(folder / "network", like, remedy=f"delete {folder} and run again")
    logs = read_logs(folder) if (folder / "logs.npz").exists() else {}
    masks = pruning.unpack_masks(replace(packed, bits=tree["mask_bits"]))
    return Networks(tree["params"], tree["stats"], masks, logs)
