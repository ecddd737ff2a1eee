"""Train the networks of a node, with their masks held."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprune import auditing, mitigation, pruning, sharding, streaming, training
from jaxprune.data.batching import select
from jaxprune.errors import TrainingDiverged
from jaxprune.mitigation import DenseReference, Method, MethodInputs
from jaxprune.pipeline.checkpoint_writer import CheckpointWriter, newest
from jaxprune.pipeline.experiment import Experiment, Span
from jaxprune.pipeline.outcomes import outcomes_on
from jaxprune.pipeline.sparsifier import Sparsifier
from jaxprune.pipeline.store import Store
from jaxprune.pipeline.validation import ValidationHalves
from jaxprune.types import Batch, Logs, Masks, Params, Stats, Step, TrainState

_KEPT_LOGS = ("loss", "multipliers", "violation")


class Networks(NamedTuple):
    """Networks by seed, leaves [R, ...], with the logs of their training.

    The logs are empty for networks that were not trained.
    """

    params: Params
    stats: Stats
    masks: Masks
    logs: Logs = {}  # noqa: RUF012 (never changed)


@dataclass(frozen=True, eq=False)
class Training:
    """One way of training, from given networks.

    Attributes:
      method: How it is trained.
      values: Hyperparameter -> value.
      halves: The rows of the validation split that the method reads.
      reference: The plain dense networks, where the method compares with them.
      label: What the display says.
      remedy: What to do where the training diverges.
      span: The epochs, and whose learning rates and order of examples are taken.
      sparsifier: What prunes while it is trained; None where the masks are held.
    """

    method: Method
    values: Mapping[str, float]
    halves: ValidationHalves
    reference: Networks | None
    label: str
    remedy: str
    span: Span
    sparsifier: Sparsifier | None = None


def train(experiment: Experiment, store: Store, folder: Path, task: Training, start: Networks) -> Networks:
    """Train networks, from the newest checkpoint if there is one.

    Args:
      experiment: The data, the network and its optimiser.
      store: Where steps and compared outputs are remembered, and how often checkpoints are written.
      folder: The folder of the stage, in which checkpoints are left.
      task: The way of training.
      start: The networks to begin with, and their masks.

    Raises:
      TrainingDiverged: The loss or a multiplier did; the last good state is kept in the folder.
    """
    epochs, seeds = task.span.epochs, len(experiment.seeds)
    store.progress.start(f"{task.label}, {seeds} seed{'s' * (seeds > 1)}", _parts(experiment, epochs))
    try:
        params, stats, masks, logs = _fit(experiment, store, folder, task, start, epochs)
    finally:
        store.progress.finish()
    params, stats, masks = jax.device_put((params, stats, masks), jax.devices()[0])
    return Networks(params, stats, masks, {name: logs[name] for name in _KEPT_LOGS if name in logs})


def _fit(
    experiment: Experiment, store: Store, folder: Path, task: Training, start: Networks, epochs: int
) -> tuple[Params, Stats, Masks, Logs]:
    inputs = method_inputs(experiment, store, task)
    streamed, mesh = experiment.dataset.streamed, experiment.mesh
    unit = "step" if streamed else "epoch"
    steps = training.num_steps(experiment.dataset.train, experiment.settings.train.batch_size) if streamed else 1
    state = sharding.place(_initial_state(experiment, task, start, inputs), mesh, "replica")
    best = {"score": jnp.full(len(experiment.seeds), -jnp.inf), "network": (start.params, start.stats)}
    select = task.method.selection
    first = task.span.first * steps  # the order of the examples goes on from there
    begun = newest(store, folder, unit, {"state": state} | ({"best": best} if select else {}))
    if begun.done:
        placed = sharding.place(begun.state["state"], mesh, "replica")
        begun = begun._replace(state=begun.state | {"state": placed})
        store.progress.say(f"continuing after {unit} {begun.done} of {epochs * steps}")
        store.progress.resume(begun.done * _parts(experiment, epochs) // (epochs * steps))
    writer = CheckpointWriter(folder, store, begun, unit)
    score = partial(score_on, experiment, select, task.halves.choosing) if select else None

    def keep(done: int, state: TrainState, logs: Logs) -> None:
        done -= first
        kept: dict[str, Any] = {"state": state}
        if score is not None:
            best = writer.kept.state["best"]
            kept["best"] = _better(best, state, score(state.params, state.stats)) if done % steps == 0 else best
        writer(done, kept, logs)

    options: dict[str, Any] = {
        "key": sharding.place(experiment.shuffle_keys[task.span.phase], mesh, "replica"),
        "epochs": task.span.first + epochs,
        "batch_size": experiment.settings.train.batch_size,
        "start": first + begun.done,
        "augment": experiment.augment,
    }
    step, data = _step(experiment, store, task, start, inputs), training_data(experiment, task)
    try:
        with writer.saving():
            if streamed:
                state, _ = streaming.fit(step, begun.state["state"], data, on_block=keep, mesh=mesh, **options)
            else:
                split = sharding.batch_sharding(mesh)
                state, _ = training.fit(step, begun.state["state"], data, on_epoch=keep, data_sharding=split, **options)
    except TrainingDiverged as error:
        raise _explained(experiment, error, task, writer) from None
    params, stats = writer.kept.state["best"]["network"] if select else (state.params, state.stats)
    masks = start.masks if task.sparsifier is None else task.sparsifier.masks_of(state.opt_state)
    return params, stats, masks, writer.logs()


def _parts(experiment: Experiment, epochs: int) -> int:
    """The moves of a training's display: epochs, or blocks of steps."""
    if not experiment.dataset.streamed:
        return epochs
    settings, data = experiment.settings, experiment.dataset.train
    length = streaming.steps_in_block(data, settings.train.batch_size, settings.seeds)
    return epochs * -(-training.num_steps(data, settings.train.batch_size) // length)


def method_inputs(experiment: Experiment, store: Store, task: Training) -> MethodInputs:
    """What a method knows of each replica, leaves [R, ...]."""
    dataset, count = experiment.dataset, len(experiment.seeds)

    def shares(codes: np.ndarray, size: int) -> jax.Array:
        found = np.bincount(codes, minlength=size) / len(codes)
        return jnp.broadcast_to(jnp.asarray(found, jnp.float32), (count, size))

    outputs = None
    if task.method.needs_dense:
        assert task.reference is not None
        held_out = task.method.held_out
        outputs = store.remember(("outputs", held_out), partial(_reference, experiment, task, task.reference))
    return MethodInputs(
        shares(np.asarray(dataset.train.group), dataset.num_groups),
        shares(np.asarray(dataset.train.y), dataset.num_classes),
        outputs,
        experiment.method_keys,
    )


def _reference(experiment: Experiment, task: Training, networks: Networks) -> DenseReference:
    """The plain dense networks' outputs for training and held-out examples."""
    num_groups, data = experiment.dataset.num_groups, experiment.dataset.train
    held_out = _held_out(experiment, task) if task.method.held_out else None

    def logits(batch: Batch) -> jax.Array:
        """[R, N, C]; what is on disk is read once for each replica."""

        def of_replica(params: Params, stats: Stats) -> np.ndarray:
            return streaming.logits(experiment.network.freeze(stats), params, batch)

        replicas = range(len(experiment.seeds))
        one = [jax.tree.map(lambda leaf, r=r: leaf[r], (networks.params, networks.stats)) for r in replicas]
        return jnp.stack([of_replica(*network) for network in one])

    def reference(splits: tuple[Batch, Batch | None], params: Params, stats: Stats) -> DenseReference:
        apply, (data, held_out) = experiment.network.freeze(stats), splits
        size = experiment.chunk_size(data.x)
        return mitigation.dense_reference(
            apply, params, data, num_groups=num_groups, held_out=held_out, chunk_size=size
        )

    if experiment.dataset.streamed:
        unseen = None if held_out is None else logits(held_out)
        known = partial(mitigation.reference_of_logits, data=data._replace(x=None), num_groups=num_groups)
        return jax.vmap(known)(logits(data))._replace(held_out=unseen)
    held_out = None if held_out is None else experiment.to_measure(held_out)
    return experiment.over_replicas(
        reference, (experiment.on_device("train"), held_out), networks.params, networks.stats
    )


def _held_out(experiment: Experiment, task: Training) -> Batch:
    return select(experiment.dataset.validation, task.halves.held_out)


def _transformation(
    experiment: Experiment, task: Training, params: Params, masks: Masks | None, inputs: MethodInputs
) -> optax.GradientTransformation:
    numbers = {name: jnp.float32(value) for name, value in task.values.items()}
    primal = (
        experiment.primal(task.span, masks)
        if task.sparsifier is None
        else task.sparsifier.transformation(masks, inputs.key)
    )
    buffer = experiment.settings.retrain.buffer
    return mitigation.method_transformation(task.method, primal, params, inputs, numbers, buffer=buffer)


def _initial_state(experiment: Experiment, task: Training, start: Networks, inputs: MethodInputs) -> TrainState:
    def init(params: Params, stats: Stats, masks: Masks, inputs: MethodInputs) -> TrainState:
        state = training.init_state(params, _transformation(experiment, task, params, masks, inputs), stats)
        if task.sparsifier is None:
            return state
        # Sparse from the first gradient on, where the masks are random.
        return state._replace(params=pruning.apply_masks(params, task.sparsifier.masks_of(state.opt_state)))

    return jax.vmap(init)(start.params, start.stats, start.masks, inputs)


def _step(experiment: Experiment, store: Store, task: Training, start: Networks, inputs: MethodInputs) -> Step:
    """Return one step for all trainings of one program.

    It is compiled once for all masks and values.
    """
    method = task.method

    def make() -> Step:
        params, one = jax.tree.map(lambda leaf: leaf[0], (start.params, inputs))
        tx = _transformation(experiment, task, params, None, one)
        return mitigation.method_step(method, experiment.network, tx, num_groups=experiment.dataset.num_groups)

    pruned = None if task.sparsifier is None else task.sparsifier.key
    return store.remember(("step", task.span, method.program, pruned), make)


def training_data(experiment: Experiment, task: Training) -> Any:
    """The training examples as the method draws them."""
    method, dataset = task.method, experiment.dataset
    if not method.needs & {"dense", "held_out", "rows"}:
        return dataset.train if dataset.streamed else experiment.train_data
    train = dataset.train if dataset.streamed else jax.tree.map(jnp.asarray, dataset.train)
    held_out = _held_out(experiment, task) if method.held_out else dataset.validation
    data = mitigation.method_data(method, train, held_out, num_groups=dataset.num_groups)
    return data if dataset.streamed else sharding.place(data, experiment.mesh)


def score_on(
    experiment: Experiment, selection: mitigation.Selection, rows: np.ndarray, params: Params, stats: Stats
) -> jax.Array:
    """[R] the score of networks on rows of the validation split."""
    outcomes = outcomes_on(experiment, "validation", params, stats)
    group = np.asarray(experiment.dataset.validation.group)[rows]
    of_people = auditing.metrics_of_people(
        outcomes.loss[:, rows], outcomes.wrong[:, rows], group, experiment.dataset.num_groups
    )
    return jnp.asarray(selection(of_people), jnp.float32)


def _better(best: dict[str, Any], state: TrainState, score: jax.Array) -> dict[str, Any]:
    """Keep every replica's best state, the earlier one on a tie."""
    higher = score > best["score"]

    def pick(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(higher.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    here = jax.device_put((state.params, state.stats), jax.devices()[0])
    network = jax.tree.map(pick, here, best["network"])
    return {"score": jnp.maximum(score, best["score"]), "network": network}


def _explained(
    experiment: Experiment, error: TrainingDiverged, task: Training, writer: CheckpointWriter
) -> TrainingDiverged:
    seed = experiment.seeds[error.replica]
    return TrainingDiverged(
        f"{task.label}: the training loss became NaN or infinite at step {error.step} of seed {seed}; {task.remedy}; "
        f"the last good state is kept in {writer.path()}",
        step=error.step,
        replica=error.replica,
    )
