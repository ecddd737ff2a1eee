"""Steps against gradient descent written in numpy, and the loop that runs them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles

from jaxprune import losses, pruning, training
from jaxprune.errors import TrainingDiverged, UserError
from jaxprune.types import Batch, TrainState


def linear(params, x):
    return x @ params["kernel"] + params["bias"]


def examples(n, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    group = np.arange(n) % 2
    return Batch(rng.normal(size=(n, 3)).astype(dtype), rng.integers(0, 4, n), group, np.ones(n, dtype))


def weights(dtype=np.float64, seed=1, shape=()):
    rng = np.random.default_rng(seed)
    return {
        "kernel": jnp.asarray(rng.normal(size=(*shape, 3, 4)), dtype),
        "bias": jnp.asarray(rng.normal(size=(*shape, 4)), dtype),
    }


def softmax_loss_and_gradient(params, batch):
    """The weighted mean cross-entropy of a linear model and its gradient, by hand."""
    x, y, _, weight = (np.asarray(a) for a in batch)
    logits = x @ params["kernel"] + params["bias"]
    logits = logits - logits.max(1, keepdims=True)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    share = (weight / weight.sum())[:, None]
    error = share * (p - np.eye(4)[y])
    loss = -np.sum(share[:, 0] * np.log(p[np.arange(len(y)), y]))
    return loss, {"kernel": x.T @ error, "bias": error.sum(0)}


def assert_close(found, expected, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), found, expected)


def assert_same_bits(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# --- one step ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_steps_are_gradient_descent_on_the_weighted_mean():
    rate, decay = 0.3, 0.01
    batch = examples(7)._replace(weight=np.array([1, 2, 0.5, 0, 1, 3, 1]))
    tx = optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate))
    step = jax.jit(training.make_step(linear, losses.cross_entropy, tx))
    state = training.init_state(weights(), tx)
    expected = jax.tree.map(np.asarray, weights())
    for taken in range(4):
        loss, gradient = softmax_loss_and_gradient(expected, batch)
        expected = {k: w - rate * (gradient[k] + decay * w) for k, w in expected.items()}
        state, logs = step(state, batch)
        np.testing.assert_allclose(logs["loss"], loss, rtol=1e-12)
        assert_close(state.params, expected, rtol=1e-11, atol=1e-13)
        assert state.step == taken + 1
    assert state.step.dtype == jnp.int32


@pytest.mark.usefixtures("x64")
def test_padding_of_a_ragged_batch_changes_nothing():
    tx = optax.sgd(1.0)  # of this, a step is minus the gradient
    step = jax.jit(training.make_step(linear, losses.cross_entropy, tx))
    whole = examples(5)
    padded = Batch(
        np.concatenate([whole.x, np.full((3, 3), 1e3)]),
        np.concatenate([whole.y, [3, 3, 3]]),
        np.concatenate([whole.group, [0, 0, 0]]),
        np.concatenate([whole.weight, np.zeros(3)]),
    )
    state = training.init_state(weights(), tx)
    (one, one_logs), (other, other_logs) = step(state, whole), step(state, padded)
    assert_close(one.params, other.params, rtol=1e-13, atol=1e-15)
    assert_close(one_logs, other_logs, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_objective_step():
    """An objective sees the optimiser state and feeds the update by name."""

    def init(params):
        return jnp.asarray(10.0)

    def update(updates, state, params=None, *, factor, **_):
        return jax.tree.map(lambda u: -factor * u, updates), state + 1

    def objective(logits, batch, opt_state):
        # With a sum for the objective the gradient of the bias is the number of examples.
        return jnp.sum(logits), {"loss": opt_state, "twice": 2 * opt_state}, {"factor": opt_state}

    tx = optax.GradientTransformationExtraArgs(init, update)
    step = training.make_objective_step(linear, objective, tx)
    params, batch = weights(), examples(5)
    state = training.init_state(params, tx)
    for taken in (10.0, 11.0):
        state, logs = step(state, batch)
        assert (logs["loss"], logs["twice"]) == (taken, 2 * taken)
    np.testing.assert_allclose(state.params["bias"], params["bias"] - (10 + 11) * 5, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_chain_with_a_schedule_counts_the_steps_over_epochs():
    # The loss is linear in the parameter, so that the gradient is the mean of x at every step.
    rates = np.array([1.0, 0.5, 0.25, 0.125])
    tx = optax.chain(optax.clip(0.01), optax.sgd(lambda count: jnp.asarray(rates)[count]))
    step = training.make_step(lambda w, x: w * x, lambda logits, y: logits[:, 0], tx)
    x = np.array([[3.0], [1.0]])
    labels = np.zeros(2, int)
    state = training.init_state(jnp.asarray(0.0), tx)
    state, _ = training.fit(
        step, state, Batch(x, labels, labels, np.ones(2)), key=jax.random.key(0), epochs=4, batch_size=2
    )
    np.testing.assert_allclose(state.params, -0.01 * rates.sum(), rtol=1e-12)


# --- epochs --------------------------------------------------------------------------------------------------------


def recorder(state: TrainState, batch: Batch):
    """A step that adds each example's weight to its own counter; its inputs are their numbers."""
    seen = state.params.at[batch.x].add(batch.weight)
    logs = {"loss": jnp.sum(batch.weight), "order": jnp.where(batch.weight > 0, batch.x, -1)}
    return TrainState(state.step + 1, seen, state.stats, state.opt_state), logs


def record(n, batch_size, epochs, *, key, weight=None, **options):
    numbers = np.arange(n)
    data = Batch(numbers, numbers, numbers, np.ones(n, np.float32) if weight is None else weight)
    shape = (*key.shape, n)
    state = TrainState(jnp.zeros(key.shape, jnp.int32), jnp.zeros(shape), (), ())
    return training.fit(recorder, state, data, key=key, epochs=epochs, batch_size=batch_size, **options)


@pytest.mark.parametrize("batch_size", [4, 5, 15])
def test_every_example_is_seen_once_an_epoch(batch_size):
    state, logs = record(10, batch_size, 3, key=jax.random.key(0))
    steps = -(-10 // batch_size)
    np.testing.assert_array_equal(state.params, np.full(10, 3.0))
    assert state.step == 3 * steps
    assert logs["loss"].shape == (3 * steps,)
    assert logs["order"].shape == (3 * steps, batch_size)
    assert all(isinstance(values, np.ndarray) for values in logs.values())
    epochs = logs["order"].reshape(3, -1)
    assert all(sorted(order[order >= 0]) == list(range(10)) for order in epochs)
    assert not np.array_equal(epochs[0], epochs[1]), "every epoch has the same order"


def test_weights_of_the_data_reach_the_step():
    weight = np.arange(10, dtype=np.float32) / 4
    state, _ = record(10, 4, 2, key=jax.random.key(0), weight=weight)
    np.testing.assert_array_equal(state.params, 2 * weight)


def test_the_order_depends_on_key_and_epoch_alone():
    _, logs = record(10, 4, 4, key=jax.random.key(0))
    _, later = record(10, 4, 4, key=jax.random.key(0), start=2)
    _, other = record(10, 4, 4, key=jax.random.key(1))
    np.testing.assert_array_equal(later["order"], logs["order"][6:])
    assert not np.array_equal(other["order"], logs["order"])
    # Each replica draws the order that its key gives it.
    _, both = record(10, 4, 4, key=jnp.stack([jax.random.key(1), jax.random.key(0)]))
    assert both["order"].shape == (2, 12, 4)
    np.testing.assert_array_equal(both["order"], [other["order"], logs["order"]])


def test_no_epochs_leave_the_state_and_log_nothing():
    state, logs = record(10, 4, 0, key=jax.random.key(0))
    np.testing.assert_array_equal(state.params, 0)
    assert logs == {}
    state, logs = record(10, 4, 3, key=jax.random.key(0), start=3)
    assert state.step == 0
    assert logs == {}


def test_on_epoch_is_told_of_every_epoch():
    told = []

    def on_epoch(done, state, logs):
        told.append((done, int(state.step), float(np.sum(state.params)), logs["loss"].shape))

    record(10, 4, 3, key=jax.random.key(0), start=1, on_epoch=on_epoch)
    assert told == [(2, 3, 10.0, (3,)), (3, 6, 20.0, (3,))]


# --- whole trainings -----------------------------------------------------------------------------------------------


MASKS = {"kernel": np.arange(12).reshape(3, 4) % 3 > 0, "bias": np.ones(4, bool)}
KEPT = optax.chain(optax.adam(0.05), pruning.keep_masked(MASKS))
STEP = training.make_step(linear, losses.cross_entropy, KEPT)  # one object: compiled once for one key, once for many


def trained(epochs, *, state=None, key=None, **options):
    state = training.init_state(weights(np.float32), KEPT) if state is None else state
    key = jax.random.key(7) if key is None else key
    return training.fit(STEP, state, examples(10, np.float32), key=key, epochs=epochs, batch_size=4, **options)


def test_a_resumed_training_ends_with_the_same_bits():
    whole, whole_logs = trained(4)
    kept = {}

    def on_epoch(done, state, logs):
        kept[done] = jax.tree.map(np.asarray, jax.tree.map(jnp.copy, state))  # as a checkpoint would

    trained(2, on_epoch=on_epoch)
    resumed, late_logs = trained(4, state=jax.tree.map(jnp.asarray, kept[2]), start=2)
    assert_same_bits(resumed, whole)
    np.testing.assert_array_equal(late_logs["loss"], whole_logs["loss"][6:])


def test_what_the_caller_holds_is_not_deleted_or_changed():
    masks = jax.tree.map(jnp.asarray, MASKS)
    params = weights(np.float32)
    tx = optax.chain(optax.sgd(0.1, momentum=0.9), pruning.keep_masked(masks))
    state = training.init_state(params, tx)
    before = jax.tree.map(np.array, state)
    key, data = jax.random.key(0), jax.tree.map(jnp.asarray, examples(10, np.float32))
    kept = []
    step = training.make_step(linear, losses.cross_entropy, tx)
    last, _ = training.fit(
        step, state, data, key=key, epochs=2, batch_size=4, on_epoch=lambda done, state, logs: kept.append(state)
    )
    assert kept[0].params["kernel"].is_deleted(), "the state is not donated, and this test shows nothing"
    assert_same_bits(state, before)
    assert_same_bits(masks, MASKS)
    assert not np.array_equal(last.params["bias"], before.params["bias"])
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((state, params, masks, data, key)))


def test_replicas_in_one_program_are_the_separate_runs():
    keys = jax.random.split(jax.random.key(3), 3)
    stacked = weights(np.float32, shape=(3,))
    together, logs = trained(3, state=jax.vmap(lambda p: training.init_state(p, KEPT))(stacked), key=keys)
    assert logs["loss"].shape == (3, 9)
    for r in range(3):
        single = training.init_state(jax.tree.map(lambda leaf, r=r: leaf[r], stacked), KEPT)
        alone, alone_logs = trained(3, state=single, key=keys[r])
        assert_close(jax.tree.map(lambda leaf, r=r: leaf[r], together), alone, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(logs["loss"][r], alone_logs["loss"], rtol=1e-5)


def test_a_second_fit_with_the_same_step_compiles_nothing():
    trained(1)
    with compiles(0, of="epoch"):
        final, _ = trained(3)
        trained(5, state=final, start=3, key=jax.random.key(99))


# --- divergence ----------------------------------------------------------------------------------------------------


def doomed(state: TrainState, batch: Batch):
    """A step whose loss is not finite from the step on that `params` tells."""
    loss = jnp.where(state.step + 1 >= state.params, jnp.array(state.opt_state), 1.0)
    return TrainState(state.step + 1, state.params, (), state.opt_state), {"loss": loss}


def ended(params, bad):
    """Runs 3 epochs of 4 steps to the divergence; the error and the epochs that were reported."""
    params, told = jnp.asarray(params, jnp.int32), []
    key = jax.random.split(jax.random.key(0), len(params)) if params.ndim else jax.random.key(0)
    state = TrainState(jnp.zeros(params.shape, jnp.int32), params, (), jnp.full(params.shape, bad))
    with pytest.raises(TrainingDiverged) as error:
        training.fit(
            doomed, state, examples(8, np.float32), key=key, epochs=3, batch_size=2,
            on_epoch=lambda done, state, logs: told.append(done),
        )  # fmt: skip
    return error.value, told


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("step", "reported"), [(1, []), (4, []), (5, [1]), (7, [1]), (12, [1, 2])])
def test_divergence_tells_the_step_and_reports_no_epoch_of_it(step, reported, bad):
    error, told = ended(step, bad)
    assert isinstance(error, UserError)
    assert (error.step, error.replica) == (step, 0)
    assert told == reported
    assert f"step {step} " in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("steps", "step", "replica"), [([99, 6, 99], 6, 1), ([99, 8, 7], 7, 2), ([6, 99, 6], 6, 0), ([11, 12, 99], 11, 0)]
)
def test_of_several_replicas_the_first_to_diverge_is_told(steps, step, replica):
    error, _ = ended(steps, np.nan)
    assert (error.step, error.replica) == (step, replica)


def test_too_high_a_learning_rate_is_divergence():
    tx = optax.sgd(1e38)
    step = training.make_step(lambda w, x: w * x, lambda logits, y: logits[:, 0] ** 2, tx)
    labels = np.zeros(4, int)
    data = Batch(np.ones((4, 1), np.float32), labels, labels, np.ones(4, np.float32))
    state = training.init_state(jnp.float32(1), tx)
    with pytest.raises(TrainingDiverged) as error:
        training.fit(step, state, data, key=jax.random.key(0), epochs=5, batch_size=4)
    # The loss is w² = 1; then w = 1 - 2e38, and w² is infinite.
    assert error.value.step == 2


def test_check_finite_names_step_and_replica():
    good = np.ones((2, 3))
    training.check_finite(good)
    training.check_finite(good[0])
    good[1, 2] = np.inf
    with pytest.raises(TrainingDiverged) as error:
        training.check_finite(good, first_step=30)
    assert (error.value.step, error.value.replica) == (33, 1)
