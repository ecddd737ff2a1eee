"""The stages that make networks: dense, pruned, retrained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxprune import checkpoints, sharding, streaming, training
from jaxprune.errors import TrainingDiverged
from jaxprune.pipeline.context import Context, grouping_settings, reuse
from jaxprune.pipeline.forms import form_of, say_other_form
from jaxprune.pipeline.keeping import Keeper, Kept, newest, read_logs, save_logs
from jaxprune.pipeline.stage import Stage
from jaxprune.reporting.numbers import percent
from jaxprune.reporting.results import MODEL_NAMES
from jaxprune.types import Logs, Masks, Params, Stats, TrainState

# The paper's four models: whether the dense training and the retraining are constrained.
METHODS = {
    "none": (False, False),
    "fair_before": (True, False),
    "fair_after": (False, True),
    "fair_both": (True, True),
}


class Trained(NamedTuple):
    """A network of every replica, leaves [R, ...], and how its training went (empty for one that was not trained)."""

    params: Params
    stats: Stats
    masks: Masks
    logs: Logs


# Settings of the data that tell in the examples' fingerprint whether anything that is trained depends on them.
_TELL_BY_THE_EXAMPLES = {"group", "bins", "min_group_size"}


def dense_stage(context: Context, fair: bool) -> Stage:
    """The address of the dense networks, which depends on the groups only where the training does."""
    s = context.experiment.settings
    settings = {
        "seeds": s.seeds,
        "first_seed": s.first_seed,
        "data": s.data.model_dump(mode="json", exclude=_TELL_BY_THE_EXAMPLES)
        | {"fingerprint": context.experiment.fingerprint},
        "model": s.model.model_dump(mode="json"),
        "train": s.train.model_dump(mode="json"),
        **form_of(context.experiment),
    }
    return Stage("fair_dense" if fair else "dense", settings | _fair_settings(context, fair))


def pruned_stage(context: Context, fair: bool, sparsity: float) -> Stage:
    """The address of the networks pruned from the dense ones, not retrained."""
    settings = context.experiment.settings.prune.model_dump(mode="json", exclude={"sparsities"})
    name = f"{'fair_' if fair else ''}pruned-{sparsity:g}"
    return Stage(name, settings | {"sparsity": sparsity}, (dense_stage(context, fair),))


def retrained_stage(context: Context, method: str, sparsity: float) -> Stage:
    """The address of the networks retrained after pruning."""
    before, after = METHODS[method]
    settings = {"retrain": context.experiment.settings.retrain.model_dump(mode="json")}
    return Stage(
        f"{method}-{sparsity:g}",
        settings | _fair_settings(context, after),
        (pruned_stage(context, before, sparsity),),
    )


def dense(context: Context, fair: bool) -> Trained:
    """The dense networks, trained plainly or under the constraint."""

    def begin() -> tuple[Params, Stats, Masks]:
        params, stats = context.experiment.initialise()
        return params, stats, context.experiment.all_kept(params)

    label = "training fair dense networks" if fair else "training dense networks"
    stage = dense_stage(context, fair)
    say_other_form(context, stage)
    return _trained(context, stage, "dense", fair, begin, label)


def pruned(context: Context, fair: bool, sparsity: float) -> Trained:
    """The dense networks pruned once, not retrained."""
    stage = pruned_stage(context, fair, sparsity)

    def compute(folder: Path) -> Trained:
        source = dense(context, fair)
        params, masks = context.experiment.prune(source.params, sparsity)
        checkpoints.save(folder / "network", {"params": params, "stats": source.stats, "masks": masks})
        return Trained(params, source.stats, masks, {})

    def read(folder: Path) -> Trained:
        return read_network(context, folder, {})

    return once(context, stage, compute, read)


def retrained(context: Context, method: str, sparsity: float) -> Trained:
    """The pruned networks, trained on with their masks held."""
    before, after = METHODS[method]
    stage = retrained_stage(context, method, sparsity)

    def begin() -> tuple[Params, Stats, Masks]:
        source = pruned(context, before, sparsity)
        return source.params, source.stats, source.masks

    label = f"retraining, {percent(sparsity)} pruned: {MODEL_NAMES[method].lower()}"
    return _trained(context, stage, "retrain", after, begin, label)


def _trained(
    context: Context,
    stage: Stage,
    phase: str,
    fair: bool,
    begin: Callable[[], tuple[Params, Stats, Masks]],
    label: str,
) -> Trained:
    settings = context.experiment.settings
    epochs = settings.train.epochs if phase == "dense" else settings.retrain.epochs

    def compute(folder: Path) -> Trained:
        params, stats, masks = begin()
        context.progress.start(f"{label}, {settings.seeds} seed{'s' * (settings.seeds > 1)}", _parts(context, epochs))
        try:
            state, logs = _fit(context, folder, phase, fair, epochs, params, stats, masks)
        finally:
            context.progress.finish()
        state = jax.device_put(state, jax.devices()[0])
        checkpoints.save(folder / "network", {"params": state.params, "stats": state.stats, "masks": masks})
        save_logs(folder, logs)
        return Trained(state.params, state.stats, masks, logs)

    def read(folder: Path) -> Trained:
        return read_network(context, folder, read_logs(folder))

    return once(context, stage, compute, read)


def _fit(
    context: Context,
    folder: Path,
    phase: str,
    fair: bool,
    epochs: int,
    params: Params,
    stats: Stats,
    masks: Masks,
) -> tuple[TrainState, Logs]:
    """Trains from the newest checkpoint in `folder`, if there is one, and leaves more of them on the way."""
    experiment = context.experiment
    state = experiment.initial_state(phase, fair, params, stats, masks)
    unit = "step" if experiment.dataset.streamed else "epoch"
    begun = newest(context, folder, unit, state)
    if begun.done:
        begun = Kept(begun.done, sharding.place(begun.state, experiment.mesh, "replica"), begun.logs)
        context.progress.say(f"continuing after {unit} {begun.done} of {epochs * _steps_of(context, unit)}")
        context.progress.resume(begun.done * _parts(context, epochs) // (epochs * _steps_of(context, unit)))
    state, keeper = begun.state, Keeper(folder, context, begun, unit)
    options: dict[str, Any] = {
        "key": sharding.place(experiment.shuffle_keys[phase], experiment.mesh, "replica"),
        "epochs": epochs,
        "batch_size": experiment.settings.train.batch_size,
        "start": begun.done,
        "augment": experiment.augment,
    }
    step = experiment.steps[phase, fair]
    try:
        with keeper.saving():
            if experiment.dataset.streamed:
                train, mesh = experiment.dataset.train, experiment.mesh
                state, _ = streaming.fit(step, state, train, on_block=keeper, mesh=mesh, **options)
            else:
                train, split = experiment.train_data, sharding.batch_sharding(experiment.mesh)
                state, _ = training.fit(step, state, train, on_epoch=keeper, data_sharding=split, **options)
    except TrainingDiverged as error:
        raise _explained(context, error, phase, fair, keeper) from None
    return state, keeper.logs()


def _steps_of(context: Context, unit: str) -> int:
    """Units of an epoch: 1, or its steps."""
    train, batch_size = context.experiment.dataset.train, context.experiment.settings.train.batch_size
    return training.num_steps(train, batch_size) if unit == "step" else 1


def _parts(context: Context, epochs: int) -> int:
    """How often the progress of a training is told: every epoch, or every block of steps."""
    if not context.experiment.dataset.streamed:
        return epochs
    settings, train = context.experiment.settings, context.experiment.dataset.train
    length = streaming.steps_in_block(train, settings.train.batch_size, settings.seeds)
    return epochs * -(-training.num_steps(train, settings.train.batch_size) // length)


def _explained(context: Context, error: TrainingDiverged, phase: str, fair: bool, keeper: Keeper) -> TrainingDiverged:
    section = "train" if phase == "dense" else "retrain"
    rate = getattr(context.experiment.settings, section).learning_rate
    also = f" or mitigation.dual_rate (now {context.experiment.settings.mitigation.dual_rate:g})" if fair else ""
    seed = context.experiment.seeds[error.replica]
    return TrainingDiverged(
        f"{section}: the training loss became NaN or infinite at step {error.step} of seed {seed}; "
        f"lower {section}.learning_rate (now {rate:g}){also}; the last good state is kept in {keeper.path()}",
        step=error.step,
        replica=error.replica,
    )


def once(
    context: Context, stage: Stage, compute: Callable[[Path], Trained], read: Callable[[Path], Trained]
) -> Trained:
    """The artefact of a stage: from this process, from disk, or computed."""
    if stage.address not in context.loaded:
        found = reuse(context, stage, read)
        if found is None:
            with context.workspace.writing(stage) as folder:
                found = compute(folder)
        context.loaded[stage.address] = found
    return context.loaded[stage.address]


def read_network(context: Context, folder: Path, logs: Logs) -> Trained:
    """The networks that a finished stage has saved."""
    params, stats = jax.eval_shape(context.experiment.initialise)
    masks = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, bool), params)
    like: Any = {"params": params, "stats": stats, "masks": masks}
    tree = checkpoints.restore(folder / "network", like, remedy=f"delete {folder} and run again")
    return Trained(tree["params"], tree["stats"], tree["masks"], logs)


def _fair_settings(context: Context, fair: bool) -> dict[str, Any]:
    if not fair:
        return {}
    return {
        "mitigation": context.experiment.settings.mitigation.model_dump(mode="json", exclude={"methods"}),
        "grouping": grouping_settings(context.experiment.dataset.primary),
    }
