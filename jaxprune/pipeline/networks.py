"""The networks of a node: from this process, from disk, or made."""

from pathlib import Path
from typing import Any

import jax

from jaxprune import checkpoints
from jaxprune.components import CONFIGURED, PLAIN
from jaxprune.numbers import percent
from jaxprune.pipeline.addresses import stage_of
from jaxprune.pipeline.build import Experiment
from jaxprune.pipeline.checkpoint_writer import read_logs, save_logs
from jaxprune.pipeline.compress import compress
from jaxprune.pipeline.convolution_form import say_other_form
from jaxprune.pipeline.methods import method_of
from jaxprune.pipeline.plan import DENSE, Compress, Node, Plan, Retrain, Train, phase_of
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
        networks = store.read(stage, lambda folder: _read(experiment, folder))
        if networks is None:
            if node == DENSE:
                say_other_form(store, stage)
            with store.workspace.writing(stage) as folder:
                networks = _make(experiment, store, node, folder)
                tree = {"params": networks.params, "stats": networks.stats, "masks": networks.masks}
                checkpoints.save(folder / "network", tree)
                if networks.logs:
                    save_logs(folder, networks.logs)
        return networks

    # Retrained networks are many, and each is looked at once: only what others are made from stays in memory.
    return read_or_make() if isinstance(node, Retrain) else store.remember(stage.address, read_or_make)


def make_all(experiment: Experiment, store: Store, plan: Plan, kinds: tuple[type, ...]) -> dict[str, Path]:
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
    if isinstance(node, Compress):
        return compress(experiment, networks_of(experiment, store, node.parent), node.criterion, node.sparsity)
    if isinstance(node, Train):
        params, stats = experiment.initialise()
        start = Networks(params, stats, experiment.all_kept(params))
    else:
        start = networks_of(experiment, store, node.parent)
    return train(experiment, store, folder, _training(experiment, store, node), start)


def _training(experiment: Experiment, store: Store, node: Train | Retrain) -> Training:
    """The way in which the networks of a node are trained."""
    method = method_of(experiment.settings, node.method)
    halved = isinstance(node, Retrain) and node.halved
    held_out = [node.method] if halved else []
    return Training(
        phase=phase_of(node),
        method=method,
        values=dict(node.values),
        halves=store.remember(("halves", halved), lambda: validation_halves(experiment.dataset, held_out)),
        reference=None if node.reference is None else networks_of(experiment, store, node.reference),
        label=_label(node, method.title),
        remedy=_remedy(experiment, node),
    )


def _label(node: Train | Retrain, title: str) -> str:
    """Name a training on the display."""
    if isinstance(node, Train):
        return "training dense networks" if node.method == PLAIN else "training fair dense networks"
    source = "" if node.parent.parent == DENSE else "fair networks "
    values = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in node.values)
    what = f"retraining {source}, {percent(node.parent.sparsity)} pruned".replace(" ,", ",")
    return f"{what}: {title}{f' ({values})' if values else ''}"


def _remedy(experiment: Experiment, node: Train | Retrain) -> str:
    """Say how to mend a training that diverges."""
    section = "train" if isinstance(node, Train) else "retrain"
    lower = f"lower {section}.learning_rate (now {getattr(experiment.settings, section).learning_rate:g})"
    dual = dict(node.values).get("dual_rate")
    if dual is None:
        return lower
    if node.method == CONFIGURED:
        return f"{lower} or mitigation.dual_rate (now {dual:g})"
    return f"{lower}, or leave {dual:g} out of choice.dual_rates"


def _read(experiment: Experiment, folder: Path) -> Networks:
    params, stats = jax.eval_shape(experiment.initialise)
    masks = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, bool), params)
    like: Any = {"params": params, "stats": stats, "masks": masks}
    tree = checkpoints.restore(folder / "network", like, remedy=f"delete {folder} and run again")
    logs = read_logs(folder) if (folder / "logs.npz").exists() else {}
    return Networks(tree["params"], tree["stats"], tree["masks"], logs)
