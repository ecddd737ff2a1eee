"""The training contract `step(state, batch) -> (state, logs)`, and its loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprune.batches import check_batch, with_weights
from jaxprune.data.batching import epoch_indices, take
from jaxprune.data.training_rows import IndexedBatch
from jaxprune.errors import TrainingDiverged
from jaxprune.losses import weighted_mean
from jaxprune.networks import Network, as_network
from jaxprune.sharding import fetch
from jaxprune.states import check_key, check_stats, typed_key
from jaxprune.types import Apply, Array, Augment, Batch, ExampleLoss, Logs, Params, PyTree, Stats, Step, TrainState

# Sets the randomness of augmentation apart from that of shuffling: more than any example's number.
_AUGMENTATION = 2**32 - 1

# (logits [B, C], batch, opt_state) -> (what is differentiated [], logs, extra arguments of the optax update)
Objective = Callable[[Array, Batch, PyTree], tuple[Array, Logs, dict[str, Any]]]


def init_state(params: Params, tx: optax.GradientTransformation, stats: Stats = ()) -> TrainState:
    """The state before the first step; vmap it for replicas.

    Args:
      params: The parameters.
      tx: The optax transformation.
      stats: The network's statistics, as `network.init(key)` gives them; the first step raises where they are missing.
    """
    return TrainState(jnp.zeros((), jnp.int32), params, stats, tx.init(params))


def make_step(network: Network | Apply, loss: ExampleLoss, tx: optax.GradientTransformation) -> Step:
    """A training step on the mean of the per-example losses.

    Args:
      network: A `Network`, or a function `apply(params, x) -> logits [B, C]`.
      loss: Per-example loss, `(logits [B, C], y [B]) -> [B]`.
      tx: The optax transformation.

    Returns:
      The step; it logs `loss`, the weighted mean over the batch. It raises a `UserError` where the fields of a batch
      differ in length, or the state lacks the network's statistics.

    Example:
      >>> import jax.numpy as jnp
      >>> import optax
      >>> from jaxprune import training
      >>> from jaxprune.losses import cross_entropy
      >>> from jaxprune.types import Batch
      >>> def apply(params, x):
      ...     return x @ params
      >>> tx = optax.sgd(1.0)
      >>> step = training.make_step(apply, cross_entropy, tx)
      >>> batch = Batch(x=jnp.eye(2), y=jnp.array([0, 1]), group=jnp.array([0, 0]), weight=jnp.ones(2))
      >>> state, logs = step(training.init_state(jnp.zeros((2, 2)), tx), batch)
      >>> state.params.tolist()
      [[0.25, -0.25], [-0.25, 0.25]]
      >>> print(f"{logs['loss']:.3f}")
      0.693
    """

    def objective(logits: Array, batch: Batch, opt_state: PyTree) -> tuple[Array, Logs, dict[str, Any]]:
        value = weighted_mean(loss(logits, batch.y), batch.weight)
        return value, {"loss": value}, {}

    return make_objective_step(network, objective, tx)


def make_objective_step(network: Network | Apply, objective: Objective, tx: optax.GradientTransformation) -> Step:
    """A training step on any scalar function of the logits.

    Args:
      network: A `Network`, or a function `apply(params, x) -> logits [B, C]`.
      objective: `(logits, batch, opt_state) -> (scalar, logs, extra)`; `extra` goes to `tx.update` by name.
      tx: The optax transformation.

    Returns:
      The step.
    """
    network = as_network(network)
    tx = optax.with_extra_args_support(tx)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Logs]:
        batch = with_weights(batch)

        def value(params: Params) -> tuple[Array, tuple[Stats, Logs, dict[str, Any]]]:
            logits, stats = network.train(params, state.stats, batch)
            check_stats(state.stats, stats)
            scalar, logs, extra = objective(logits, batch, state.opt_state)
            return scalar, (stats, logs, extra)

        grads, (stats, logs, extra) = jax.grad(value, has_aux=True)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, stats, opt_state), logs

    return step


def fit(
    step: Step,
    state: TrainState,
    data: Batch | IndexedBatch,
    *,
    key: jax.Array,
    epochs: int,
    batch_size: int,
    start: int = 0,
    on_epoch: Callable[[int, TrainState, Logs], None] | None = None,
    data_sharding: Any = None,
    augment: Augment | None = None,
) -> tuple[TrainState, Logs]:
    """Run a step over shuffled epochs, each a `lax.scan`.

    The same `step` object is compiled once for data of one shape, however often `fit` is called. The order of epoch
    e depends on `(key, e)` alone, so that a run continued at `start` ends with the same bits as one that was not
    interrupted.

    Args:
      step: `(state, batch) -> (state, logs)`.
      state: The state to begin with; the caller's arrays are left intact.
      data: [N] examples that fit on the device; weights of None are 1, and labels are of the kind that the loss takes.
      key: One key; or R keys for R replicas, in which case every leaf of `state` has a leading axis R, every replica
        draws its own order, and all train as one program.
      epochs: The number of epochs to end with.
      batch_size: B; the last batch of an epoch is padded with weight 0.
      start: Epochs done already.
      on_epoch: Called after each epoch with `(epochs done, state, logs of the epoch)`; the state is donated to the
        next epoch, so copy what is to be kept.
      data_sharding: A `jax.sharding.Sharding` of the batch axis, to split each batch over devices.
      augment: `(key, x [B, ...]) -> x`, such as `data.random_crop(4)`: changes the inputs of each batch before the step
        sees them. Its key depends on `(key, epoch, step)` alone, and so is another one for each replica.

    Returns:
      The state and the logs, numpy arrays [steps, ...], or [R, steps, ...] for replicas.

    Raises:
      TrainingDiverged: The loss, where the step logs one, or a parameter at the end of an epoch became NaN or
        infinite; `on_epoch` was not called for that epoch.
      UserError: The key is none, lengths differ, or a label (where whole), group or weight is negative.

    Example:
      >>> import jax
      >>> import optax
      >>> from jaxprune import data, models, training
      >>> from jaxprune.losses import cross_entropy
      >>> digits = data.load("digits").train
      >>> network = models.build("mlp", digits.x[0], num_classes=10, hidden=(8,))
      >>> params, stats = network.init(jax.random.key(0))
      >>> tx = optax.adam(1e-2)
      >>> step = training.make_step(network, cross_entropy, tx)
      >>> state = training.init_state(params, tx, stats)
      >>> state, logs = training.fit(step, state, digits, key=jax.random.key(1), epochs=2, batch_size=128)
      >>> bool(logs["loss"][-1] < logs["loss"][0])
      True
    """
    check_key(key)
    state, data, key = placed_alike((state, check_batch(data), typed_key(key)))
    replicated = key.ndim == 1
    state = jax.tree.map(jnp.copy, state)  # donated below, and must not take the caller's arrays with it
    collected: list[Logs] = []
    for epoch in range(start, epochs):
        state, logs = _epoch(
            step, state, data, key, jnp.int32(epoch),
            batch_size=batch_size, replicated=replicated, sharding=data_sharding, augment=augment,
        )  # fmt: skip
        logs = fetch(logs)
        check_finite(logged_losses(state, logs), first_step=epoch * num_steps(data, batch_size))
        collected.append(logs)
        if on_epoch is not None:
            on_epoch(epoch + 1, state, logs)
    axis = int(replicated)  # of the steps
    joined: Logs = {name: np.concatenate([logs[name] for logs in collected], axis) for name in (collected or [{}])[0]}
    return state, joined


def placed_alike(arguments: PyTree) -> PyTree:
    """Device arrays, all bound to their device if it is one.

    A state of which some leaves are bound (restored ones, say) and others are not comes out of the first epoch with all
    of them bound, and jit would compile the second epoch anew.
    """
    arguments = jax.tree.map(jnp.asarray, arguments)
    devices = {device for leaf in jax.tree.leaves(arguments) for device in leaf.devices()}
    return jax.device_put(arguments, devices.pop()) if len(devices) == 1 else arguments


def num_steps(data: Batch | IndexedBatch, batch_size: int) -> int:
    """Steps in an epoch."""
    return -(-data.y.shape[0] // batch_size)


def logged_losses(state: TrainState, logs: Logs) -> np.ndarray:
    """The logged losses, [T] or [R, T].

    The last one is NaN where a parameter is not finite after the last update.
    """
    leaves = [leaf for leaf in jax.tree.leaves(state.params) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    kept = state.step.ndim  # 1 for replicas
    fine = [jnp.isfinite(leaf).all(tuple(range(kept, leaf.ndim))) for leaf in leaves]
    losses = np.array(logs.get("loss", np.zeros((*state.step.shape, 1))))
    losses[..., -1] = np.where(np.all(fetch(fine), axis=0), losses[..., -1], np.nan)
    return losses


def check_finite(loss: np.ndarray, *, first_step: int = 0) -> None:
    """Checks the losses of an epoch, [T] or [R, T].

    Raises:
      TrainingDiverged: One is NaN or infinite; `step` and `replica` tell which came first.
    """
    bad = np.argwhere(~np.isfinite(np.atleast_2d(loss)))
    if len(bad):
        replica, position = min(map(tuple, bad), key=lambda at: at[1])
        step = first_step + int(position) + 1
        raise TrainingDiverged(
            f"the training loss became {np.atleast_2d(loss)[replica, position]} at step {step} of replica {replica}; "
            "lower the learning rate, and check that every label is below the number of logits",
            step=step,
            replica=int(replica),
        )


def augmented(augment: Augment | None, epoch_key: jax.Array, at: Array, batch: Batch) -> Batch:
    """The batch at a place in an epoch, its inputs augmented.

    Args:
      augment: `(key, x) -> x`, or None for nothing.
      epoch_key: The key that orders the epoch.
      at: [] int, the number of the batch in the epoch.
      batch: [B] examples.
    """
    if augment is None:
        return batch
    key = jax.random.fold_in(jax.random.fold_in(epoch_key, _AUGMENTATION), at)
    return batch._replace(x=augment(key, batch.x))


@partial(
    jax.jit, static_argnames=("step", "batch_size", "replicated", "sharding", "augment"), donate_argnames=("state",)
)
def _epoch(
    step: Step,
    state: TrainState,
    data: Batch | IndexedBatch,
    key: jax.Array,
    epoch: Array,
    *,
    batch_size: int,
    replicated: bool,
    sharding: Any,
    augment: Augment | None,
) -> tuple[TrainState, Logs]:
    def one(state: TrainState, key: jax.Array) -> tuple[TrainState, Logs]:
        epoch_key = jax.random.fold_in(key, epoch)
        index, weight = epoch_indices(epoch_key, data.y.shape[0], batch_size)

        def body(state: TrainState, place: tuple[Array, Array, Array]) -> tuple[TrainState, Logs]:
            at, *chosen = place
            batch = take(data, *chosen)
            if sharding is not None:
                batch = jax.lax.with_sharding_constraint(batch, sharding)
            return step(state, augmented(augment, epoch_key, at, batch))

        return jax.lax.scan(body, state, (jnp.arange(len(index)), index, weight))

    if not replicated:
        return one(state, key)
    # The name tells the constraint above that the mapped axis lies along the mesh axis "replica".
    mapped = jax.vmap(one) if sharding is None else jax.vmap(one, spmd_axis_name="replica")
    return mapped(state, key)
