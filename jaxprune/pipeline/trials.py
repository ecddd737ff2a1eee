"""The stages that retrain pruned networks by one method with one choice of hyperparameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import auditing, checkpoints, mitigation, pruning, sharding, training
from jaxprune.data.splitting import at_most
from jaxprune.errors import TrainingDiverged
from jaxprune.mitigation import CONFIGURED, Method, MethodInputs
from jaxprune.pipeline.context import Context, grouping_settings
from jaxprune.pipeline.keeping import Keeper, Kept, newest, read_logs, save_logs
from jaxprune.pipeline.networks import Trained, dense, dense_stage, once, pruned, pruned_stage, read_network
from jaxprune.pipeline.protocol import Deciders, deciders, deciding, method_of
from jaxprune.pipeline.stage import Stage
from jaxprune.reporting.numbers import percent
from jaxprune.types import Batch, Logs, Masks, Params, Stats, Step, TrainState

_SCORED = 1024  # training examples of each group that group-aware criteria look at


def trial_stage(context: Context, name: str, sparsity: float, values: Mapping[str, float]) -> Stage:
    """The address of the networks retrained by a method."""
    settings = context.experiment.settings
    method = method_of(settings, name)
    own: dict[str, Any] = {"retrain": settings.retrain.model_dump(mode="json"), "values": dict(values)}
    own |= deciding(settings, name)
    if method.needs_groups or "validation" in own:  # the halves of the validation split have equal groups
        own["grouping"] = grouping_settings(context.experiment.dataset.primary)
    parents = (dense_stage(context, False), pruned_stage(context, False, sparsity))
    if method.criterion:
        own |= {"sparsity": sparsity, "prune": settings.prune.model_dump(mode="json", exclude={"sparsities"})}
        parents = parents[:1]
    return Stage(f"trial-{name}-{sparsity:g}", own, parents)


@dataclass
class Trials:
    """What the trials of a comparison share: dense networks, masks, and one compiled step for each way of training."""

    context: Context
    _steps: dict[Any, Step] = field(default_factory=dict)
    _masked: dict[tuple[str, float], Trained] = field(default_factory=dict)
    _selections: dict[mitigation.Selection, Any] = field(default_factory=dict)

    def train(self, name: str, sparsity: float, values: Mapping[str, float]) -> Trained:
        """The networks of one trial: from disk, or trained.

        Raises:
          TrainingDiverged: The loss or a multiplier did; the last good state is kept in the folder that it names.
        """
        stage = trial_stage(self.context, name, sparsity, values)

        def compute(folder: Path) -> Trained:
            return self._compute(folder, name, sparsity, values)

        def read(folder: Path) -> Trained:
            return read_network(self.context, folder, read_logs(folder))

        trained = once(self.context, stage, compute, read)
        self.context.loaded.pop(stage.address, None)  # there are many, and each is looked at once
        return trained

    @cached_property
    def deciders(self) -> Deciders:
        """The people of the validation split who decide: where networks are measured, and on the first device."""
        experiment = self.context.experiment
        found = deciders(experiment.settings, experiment.dataset)
        if found.held_out is found.choosing:  # the whole split: nobody is held out
            return Deciders(experiment.on_device("validation"), experiment.on_device("validation"))
        return Deciders(experiment.to_measure(found.choosing), jax.device_put(found.held_out, jax.devices()[0]))

    @cached_property
    def surroundings(self) -> MethodInputs:
        """What the methods need to know, leaves [R, ...]."""
        experiment, network = self.context.experiment, dense(self.context, False)
        dataset, count = experiment.dataset, len(experiment.seeds)

        def reference(splits: tuple[Batch, Batch], params: Params, stats: Stats) -> mitigation.DenseReference:
            apply = experiment.network.freeze(stats)
            train, validation = splits
            size = experiment.chunk_size(train.x)
            return mitigation.dense_reference(
                apply, params, train, num_groups=dataset.num_groups, held_out=validation, chunk_size=size
            )

        outputs, settings = None, experiment.settings
        wanted = [method_of(settings, name) for name in settings.compare.methods]
        if any(method.needs_dense for method in wanted):
            held_out = self.deciders.held_out if any(method.held_out for method in wanted) else None
            splits = (experiment.on_device("train"), held_out)
            outputs = experiment.over_replicas(reference, splits, network.params, network.stats)

        def shares(codes: np.ndarray, size: int) -> jax.Array:
            found = np.bincount(codes, minlength=size) / len(codes)
            return jnp.broadcast_to(jnp.asarray(found, jnp.float32), (count, size))

        return MethodInputs(
            shares(np.asarray(dataset.train.group), dataset.num_groups),
            shares(np.asarray(dataset.train.y), dataset.num_classes),
            outputs,
            experiment.method_keys,
        )

    def _compute(self, folder: Path, name: str, sparsity: float, values: Mapping[str, float]) -> Trained:
        experiment, progress = self.context.experiment, self.context.progress
        method = method_of(experiment.settings, name)
        source = self._start(method, sparsity)
        epochs = experiment.settings.retrain.epochs
        chosen = ", ".join(f"{hyper} {value:g}" for hyper, value in values.items())
        progress.start(f"{percent(sparsity)} pruned: {method.title}{f' ({chosen})' if chosen else ''}", epochs)
        try:
            params, stats, logs = self._fit(folder, name, source, values, epochs)
        finally:
            progress.finish()
        params, stats = jax.device_put((params, stats), jax.devices()[0])
        checkpoints.save(folder / "network", {"params": params, "stats": stats, "masks": source.masks})
        save_logs(folder, {n: v for n, v in logs.items() if n in ("loss", "multipliers", "violation")})
        return Trained(params, stats, source.masks, logs)

    def _start(self, method: Method, sparsity: float) -> Trained:
        """The pruned networks that a method begins with."""
        if not method.criterion:
            return pruned(self.context, False, sparsity)
        if (method.criterion, sparsity) in self._masked:
            return self._masked[method.criterion, sparsity]
        experiment, source = self.context.experiment, dense(self.context, False)
        settings, num_groups = experiment.settings.prune, experiment.dataset.num_groups
        criterion, allocation = pruning.CRITERIA.make(method.criterion), pruning.ALLOCATIONS[settings.allocation]

        def masks(batch: Batch, params: Params, stats: Stats) -> Masks:
            apply = experiment.network.freeze(stats)
            return pruning.prune(
                params, sparsity, criterion=criterion, allocation=allocation, prunable=experiment.prunable,
                apply=apply, batch=batch, num_groups=num_groups,
            )[1]  # fmt: skip

        found = experiment.over_replicas(masks, self._scored(), source.params, source.stats)
        start = Trained(pruning.apply_masks(source.params, found), source.stats, found, {})
        return self._masked.setdefault((method.criterion, sparsity), start)

    def _scored(self) -> Batch:
        """Up to `_SCORED` training examples of each group, weighted so that the groups keep their shares of people."""
        dataset = self.context.experiment.dataset
        group = np.asarray(dataset.train.group)
        rows = at_most(group, np.asarray(dataset.train.y), _SCORED)
        chosen = jax.tree.map(lambda a: np.asarray(a)[rows], dataset.train)
        people, kept = (np.bincount(codes, minlength=dataset.num_groups) for codes in (group, chosen.group))
        shares = people / np.maximum(kept, 1)
        return chosen._replace(weight=(chosen.weight * shares[chosen.group]).astype(np.float32))

    def _fit(
        self, folder: Path, name: str, source: Trained, values: Mapping[str, float], epochs: int
    ) -> tuple[Params, Stats, Logs]:
        """Trains, from the newest checkpoint in `folder` if there is one, and keeps the epoch that is to be kept."""
        experiment = self.context.experiment
        method = method_of(experiment.settings, name)
        state = sharding.place(self._initial_state(method, source, values), experiment.mesh, "replica")
        best = {"score": jnp.full(len(experiment.seeds), -jnp.inf), "network": (source.params, source.stats)}
        kept: Any = {"state": state} | ({"best": best} if method.selection else {})
        begun = newest(self.context, folder, "epoch", kept)
        if begun.done:
            placed = sharding.place(begun.state["state"], experiment.mesh, "replica")
            self.context.progress.resume(begun.done)
            begun = Kept(begun.done, begun.state | {"state": placed}, begun.logs)
        keeper = Keeper(folder, self.context, begun, "epoch")

        def on_epoch(done: int, state: TrainState, logs: Logs) -> None:
            keep: dict[str, Any] = {"state": state}
            if method.selection:
                keep["best"] = self._better(method.selection, keeper.kept.state["best"], state)
            keeper(done, keep, logs)

        try:
            with keeper.saving():
                state, _ = training.fit(
                    self._step(name, source), begun.state["state"], self._data(name),
                    key=sharding.place(experiment.shuffle_keys["retrain"], experiment.mesh, "replica"),
                    epochs=epochs, batch_size=experiment.settings.train.batch_size, start=begun.done,
                    on_epoch=on_epoch, augment=experiment.augment,
                    data_sharding=sharding.batch_sharding(experiment.mesh),
                )  # fmt: skip
        except TrainingDiverged as error:
            raise _explained(error, name, method, values, keeper, experiment.seeds[error.replica]) from None
        params, stats = keeper.kept.state["best"]["network"] if method.selection else (state.params, state.stats)
        return params, stats, keeper.logs()

    def _initial_state(self, method: Method, source: Trained, values: Mapping[str, float]) -> TrainState:
        experiment = self.context.experiment
        numbers = {hyper: jnp.float32(value) for hyper, value in values.items()}

        def init(params: Params, stats: Stats, masks: Masks, around: MethodInputs) -> TrainState:
            primal = experiment.primal("retrain", masks)
            tx = mitigation.method_transformation(
                method, primal, params, around, numbers, buffer=experiment.settings.compare.buffer
            )
            return training.init_state(params, tx, stats)

        return jax.vmap(init)(source.params, source.stats, source.masks, self.surroundings)

    def _step(self, name: str, source: Trained) -> Step:
        """One step object for each way of training, so that it is compiled once for all masks and candidates."""
        experiment = self.context.experiment
        method = method_of(experiment.settings, name)
        if method.program not in self._steps:
            params, around = jax.tree.map(lambda leaf: leaf[0], (source.params, self.surroundings))
            numbers = {hyper: jnp.float32(tried[0]) for hyper, tried in method.candidates.items()}
            primal = experiment.primal("retrain", None)
            tx = mitigation.method_transformation(
                method, primal, params, around, numbers, buffer=experiment.settings.compare.buffer
            )
            groups = experiment.dataset.num_groups
            self._steps[method.program] = mitigation.method_step(method, experiment.network, tx, num_groups=groups)
        return self._steps[method.program]

    def _data(self, name: str) -> Any:
        experiment = self.context.experiment
        data = mitigation.method_data(
            method_of(experiment.settings, name),
            jax.tree.map(jnp.asarray, experiment.dataset.train),
            self.deciders.held_out,
            num_groups=experiment.dataset.num_groups,
        )
        return sharding.place(data, experiment.mesh)

    def _score(self, selection: mitigation.Selection) -> Any:
        """`(params, stats) -> [R]`, one function object for each selection, so that it is compiled once."""
        experiment = self.context.experiment

        def score(batch: Batch, params: Params, stats: Stats) -> jax.Array:
            apply = experiment.network.freeze(stats)
            size, num_groups = experiment.chunk_size(batch.x), experiment.dataset.num_groups
            return selection(auditing.evaluate(apply, params, batch, num_groups=num_groups, chunk_size=size))

        compiled = partial(experiment.over_replicas, score, self.deciders.choosing)
        return self._selections.setdefault(selection, compiled)

    def _better(self, selection: mitigation.Selection, best: dict[str, Any], state: TrainState) -> dict[str, Any]:
        """The best so far of every replica; the earlier one on a tie."""
        score = self._score(selection)(state.params, state.stats)
        higher = score > best["score"]

        def pick(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(higher.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        here = jax.device_put((state.params, state.stats), jax.devices()[0])
        network = jax.tree.map(pick, here, best["network"])
        return {"score": jnp.maximum(score, best["score"]), "network": network}


def _explained(
    error: TrainingDiverged, name: str, method: Method, values: Mapping[str, float], keeper: Keeper, seed: int
) -> TrainingDiverged:
    rate = values.get("dual_rate")
    where = f"compare.dual_rates{' and mitigation.dual_rate' if name == CONFIGURED else ''}"
    remedy = f"leave {rate:g} out of {where}" if rate is not None else "lower retrain.learning_rate"
    return TrainingDiverged(
        f"{method.title}: the training loss became NaN or infinite at step {error.step} of seed {seed}; {remedy}; "
        f"the last good state is kept in {keeper.path()}",
        step=error.step,
        replica=error.replica,
    )
