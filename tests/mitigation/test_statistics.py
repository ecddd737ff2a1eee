"""Buffers, held-out examples and the dense network: what violations are measured on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles
from jax.flatten_util import ravel_pytree

from jaxprune.data import indexed_batch, take
from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.mitigation import (
    CONSTRAINTS,
    SCHEMES,
    Constraint,
    ascent,
    carry,
    dense_reference,
    equal_loss,
    equal_loss_signed,
    excess_accuracy_gap,
    lagrangian,
    loss_gap,
    make_lagrangian_step,
    multipliers_of,
)
from jaxprune.mitigation.buffer import empty_buffer, recall, store
from jaxprune.mitigation.multipliers import only_lagrangian_state
from jaxprune.mitigation.statistics import Examples, statistics_of
from jaxprune.networks import Network
from jaxprune.training import fit, init_state
from jaxprune.types import Batch

G = 4


def linear(params, x):
    return x @ params["w"] + params["b"]


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(4, 3)).astype(np.float32), "b": rng.normal(size=3).astype(np.float32)}


def people_of(n=40, seed=1, absent=()):
    """Groups of unlike size, some of them absent."""
    rng = np.random.default_rng(seed)
    group = rng.choice([g for g in range(G) if g not in absent], n, p=None)
    return Batch(rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 3, n), group, np.ones(n, np.float32))


def examples_of(rng, n, weight=None):
    loss, dense = rng.normal(size=(2, n)).astype(np.float32)
    right, dense_right = rng.integers(0, 2, (2, n)).astype(np.float32)
    weight = rng.choice([0.0, 1.0, 2.0], n) if weight is None else weight
    return Examples(loss, right, dense, dense_right, rng.integers(0, G, n), weight.astype(np.float32))


# --- the buffer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 50])
def test_the_buffer_is_a_queue_for_each_group(size):
    """Against lists: every group's last examples, also where a batch holds more of a group than there is room for."""
    rng, buffer, queues, seen = np.random.default_rng(size), empty_buffer(G, size), [[] for _ in range(G)], np.zeros(G)
    keep, look = jax.jit(lambda m, e: store(m, e)), jax.jit(lambda m: recall(m))
    for n, new_length in ((7, 1), (7, 0), (30, 1), (7, 0)):
        examples = examples_of(rng, n)
        with compiles(new_length):
            buffer = keep(buffer, examples)
        for i in range(n):
            if examples.weight[i] > 0:
                row = [float(getattr(examples, name)[i]) for name in ("loss", "right", "dense_loss", "dense_right")]
                queues[examples.group[i]] = [*queues[examples.group[i]], (examples.weight[i], row)][-size:]
                seen[examples.group[i]] += examples.weight[i]
        found = look(buffer)
        share = np.array([seen[g] if queues[g] else 0 for g in range(G)])
        for column, (of_group, overall) in enumerate(
            [
                (found.loss, found.overall_loss),
                (found.accuracy, found.overall_accuracy),
                (found.dense_loss, found.overall_dense_loss),
                (found.dense_accuracy, found.overall_dense_accuracy),
            ]
        ):
            expected = [np.average([r[column] for _, r in q], weights=[w for w, _ in q]) if q else 0 for q in queues]
            np.testing.assert_allclose(of_group, expected, atol=1e-5)
            np.testing.assert_allclose(overall, np.average(expected, weights=share), atol=1e-5)
        np.testing.assert_allclose(found.count, [sum(w for w, _ in q) for q in queues])


def test_a_large_buffer_gives_the_figures_of_all_that_it_has_seen():
    """Weighted by the population, not by the group: then nothing differs from one batch of everybody."""
    everybody = examples_of(np.random.default_rng(0), 60, np.ones(60))
    buffer, keep = empty_buffer(G, 60), jax.jit(lambda m, e: store(m, e))
    for part in range(3):
        buffer = keep(buffer, jax.tree.map(lambda a, part=part: a[20 * part : 20 * part + 20], everybody))
    for a, b in zip(recall(buffer), statistics_of(everybody, G), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_order_of_the_padding_is_no_matter():
    rng = np.random.default_rng(4)
    real = examples_of(rng, 10, np.ones(10))
    padded = jax.tree.map(lambda a: np.concatenate([a, np.repeat(a[:1], 10, 0)]), real)
    padded = padded._replace(weight=np.repeat([1.0, 0.0], 10).astype(np.float32))
    one, two = (store(empty_buffer(G, 4), e) for e in (real, padded))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_a_group_seen_once_moves_its_multiplier_while_it_is_remembered():
    tx = lagrangian(optax.sgd(0.0), loss_gap(G), ascent(0.5), buffer=8)
    step = jax.jit(make_lagrangian_step(linear, cross_entropy, tx))
    state = init_state(jax.tree.map(jnp.asarray, weights()), tx)
    hard = people_of(40, seed=2)._replace(group=np.repeat([0, 1], [39, 1]))
    hard.x[39], hard.y[39] = 5 * np.eye(4)[0], int(np.argmin(5 * weights()["w"][0] + weights()["b"]))
    with compiles(1):
        state, first = step(state, hard)
        state, second = step(state, people_of(40, absent=(1, 2, 3)))
    assert first["violation"][1] > 0.5
    assert second["violation"][1] > 0.5
    np.testing.assert_array_equal(second["violation"][2:], 0)
    np.testing.assert_allclose(
        multipliers_of(state.opt_state)[1], 0.5 * (first["violation"][1] + second["violation"][1]), rtol=1e-5
    )


# --- held-out examples ------------------------------------------------------------------------------------------------


def test_a_batch_brings_as_many_held_out_examples(people):
    data = indexed_batch(people.train, held_out=people.validation)
    index = jnp.array([3, 100, 119, 7])
    batch = take(data, index, jnp.array([1.0, 1, 0, 1]))
    np.testing.assert_array_equal(batch.row, index)
    np.testing.assert_array_equal(batch.x, people.train.x[index])
    np.testing.assert_array_equal(batch.weight, [1, 1, 0, 1])
    np.testing.assert_array_equal(batch.held_out.row, index % 45)
    np.testing.assert_array_equal(batch.held_out.x, people.validation.x[index % 45])
    np.testing.assert_array_equal(batch.held_out.weight, 1)


def test_the_parameters_never_see_the_held_out_part(people):
    """Their labels decide the multipliers; the gradient is that of the training batch with those multipliers."""
    other = people.validation._replace(y=(people.validation.y + 1) % 3)
    tx = lagrangian(optax.sgd(0.1), equal_loss_signed(3), ascent(0.0))
    step = jax.jit(make_lagrangian_step(linear, cross_entropy, tx))
    state = init_state(jax.tree.map(jnp.asarray, weights()), tx)
    opt_state = state.opt_state.__class__(
        jnp.array([0.5, -0.25, 1.0]), state.opt_state.dual, state.opt_state.primal, state.opt_state.constraint
    )
    state, index = state._replace(opt_state=opt_state), jnp.arange(32)
    found = []
    for held_out in (people.validation, other, None):
        batch = take(indexed_batch(people.train, held_out=held_out), index, jnp.ones(32))
        found.append(step(state, batch))
    jax.tree.map(np.testing.assert_array_equal, found[0][0].params, found[1][0].params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found[0][0].params, found[2][0].params)
    assert np.abs(found[0][1]["violation"] - found[1][1]["violation"]).max() > 0.1
    logits = linear(weights(), people.validation.x[:32])
    examples = Examples(
        cross_entropy(logits, people.validation.y[:32]), *[np.zeros(32)] * 3, people.validation.group[:32], np.ones(32)
    )
    expected = equal_loss_signed(3).violation(statistics_of(examples, 3))
    np.testing.assert_allclose(found[0][1]["violation"], expected, atol=1e-5)


def test_held_out_examples_are_evaluated_with_statistics_frozen(people):
    seen = []

    def apply(params, stats, x, train):
        seen.append(train)
        return linear(params, x), stats + train * x.mean(0)

    tx = lagrangian(optax.sgd(0.1), equal_loss(3), ascent(0.1))
    step = make_lagrangian_step(Network(None, apply), cross_entropy, tx)
    state = init_state(jax.tree.map(jnp.asarray, weights()), tx, stats=jnp.zeros(4))
    batch = take(indexed_batch(people.train, held_out=people.validation), jnp.arange(32), jnp.ones(32))
    after, _ = jax.jit(step)(state, batch)
    assert seen == [True, False]
    np.testing.assert_allclose(after.stats, people.train.x[:32].mean(0), rtol=1e-5)


def test_training_on_two_data_sets_narrows_the_gap_on_the_held_out_one(people):
    data = indexed_batch(people.train, held_out=people.validation)
    gaps = []
    for rate in (0.0, 0.02):
        tx = lagrangian(optax.sgd(0.1), loss_gap(3), ascent(rate), buffer=32)
        step = make_lagrangian_step(linear, cross_entropy, tx)
        state = init_state(jax.tree.map(jnp.asarray, weights()), tx)
        state, _ = fit(step, state, data, key=jax.random.key(0), epochs=40, batch_size=32)
        found = dense_reference(linear, state.params, people.validation, num_groups=3)
        gaps.append(float(jnp.max(found.loss) - jnp.min(found.loss)))
    assert gaps[1] < 0.8 * gaps[0]


# --- the dense network ------------------------------------------------------------------------------------------------


def psi(params, dense, batch):
    """max(0, ...) aside, ψ of every group, written out."""
    drop = np.float32(np.argmax(linear(dense, batch.x), 1) == batch.y) - (
        np.argmax(linear(params, batch.x), 1) == batch.y
    )
    return np.array([drop[batch.group == g].mean() if (batch.group == g).any() else np.nan for g in range(3)]), drop


def test_excess_accuracy_gap_is_psi_of_the_same_people(people):
    params, dense = jax.tree.map(jnp.asarray, (weights(0), weights(1)))
    reference = dense_reference(linear, dense, people.train, num_groups=3, held_out=people.validation)
    tx = optax.chain(
        lagrangian(optax.sgd(0.1), excess_accuracy_gap(3, tolerance=0.05), ascent(1.0)), carry({"dense": reference})
    )
    step = jax.jit(make_lagrangian_step(linear, cross_entropy, tx))
    index = jnp.arange(40)
    for held_out, source in ((None, people.train), (people.validation, people.validation)):
        batch = take(indexed_batch(people.train, held_out=held_out), index, jnp.ones(40))
        state, logs = step(init_state(params, tx), batch)
        part = jax.tree.map(lambda a, source=source: a[:40], source)
        gap, drop = psi(params, dense, part)
        np.testing.assert_allclose(logs["violation"], np.nan_to_num(gap - drop.mean() - 0.05), atol=1e-6)
        np.testing.assert_allclose(multipliers_of(state.opt_state), np.maximum(logs["violation"], 0), atol=1e-6)


def test_group_figures_stand_in_where_outputs_are_not_known(people):
    """R(a) - R with the dense network's group losses as constants; its gradient is that of the loss gap."""
    dense = jax.tree.map(jnp.asarray, weights(1))
    reference = dense_reference(linear, dense, people.train, num_groups=3)._replace(logits=None)
    constraint = CONSTRAINTS["equal_excessive_loss"](3)
    tx = optax.chain(lagrangian(optax.sgd(0.1), constraint, ascent(1.0)), carry({"dense": reference}))
    step = jax.jit(make_lagrangian_step(linear, cross_entropy, tx))
    params = jax.tree.map(jnp.asarray, weights(0))
    _, logs = step(init_state(params, tx), people.train)
    losses = np.asarray(cross_entropy(linear(params, people.train.x), people.train.y))
    harm = np.array([losses[people.train.group == g].mean() for g in range(3)]) - reference.loss
    overall = losses.mean() - np.average(reference.loss, weights=np.bincount(people.train.group))
    np.testing.assert_allclose(logs["violation"], harm - overall, atol=1e-5)


def test_equal_harm_asks_nothing_of_the_dense_network_itself(people):
    dense = jax.tree.map(jnp.asarray, weights(1))
    reference = dense_reference(linear, dense, people.train, num_groups=3)
    for name in ("equal_excessive_loss", "equal_accuracy_drop"):
        tx = optax.chain(lagrangian(optax.sgd(0.0), CONSTRAINTS[name](3), ascent(1.0)), carry({"dense": reference}))
        step = make_lagrangian_step(linear, cross_entropy, tx)
        _, logs = fit(
            step, init_state(dense, tx), indexed_batch(people.train), key=jax.random.key(0), epochs=1, batch_size=16
        )
        np.testing.assert_allclose(logs["violation"], 0, atol=1e-5)


def test_what_is_missing_is_said(people):
    tx = lagrangian(optax.sgd(0.1), excess_accuracy_gap(3), ascent(0.1))
    params = jax.tree.map(jnp.asarray, weights())
    with pytest.raises(UserError, match="dense_reference"):
        make_lagrangian_step(linear, cross_entropy, tx)(init_state(params, tx), people.train)
    reference = dense_reference(linear, params, people.train, num_groups=3)
    both = optax.chain(tx, carry({"dense": reference}))
    with pytest.raises(UserError, match="indexed_batch"):
        make_lagrangian_step(linear, cross_entropy, both)(init_state(params, both), people.train)
    with pytest.raises(UserError, match="unknown scheme 'alternate'; did you mean 'alternating'"):
        SCHEMES.choose("alternate")


# --- the step as a whole ----------------------------------------------------------------------------------------------


def own_surrogate(statistics, tolerance):
    return statistics.loss**2 - tolerance


def own_violation(statistics, tolerance):
    return 1 - statistics.accuracy - tolerance


@pytest.mark.parametrize(("scheme", "buffer"), [("simultaneous", 0), ("alternating", 5), ("extragradient", 5)])
def test_permuting_the_groups_permutes_everything(scheme, buffer):
    """With a constraint of one's own, through every scheme, with and without a buffer."""
    order = np.array([2, 0, 3, 1])

    def train(rename):
        tx = lagrangian(
            optax.sgd(0.1), Constraint(G, True, own_surrogate, 0.1, own_violation), ascent(0.5), buffer=buffer
        )
        step = jax.jit(make_lagrangian_step(linear, cross_entropy, tx, scheme=SCHEMES[scheme]))
        state = init_state(jax.tree.map(jnp.asarray, weights()), tx)
        for seed in range(3):
            batch = people_of(seed=seed)
            state, _ = step(state, batch._replace(group=rename[batch.group]))
        return state

    plain, renamed = train(np.arange(G)), train(order)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain.params, renamed.params)
    np.testing.assert_allclose(multipliers_of(plain.opt_state), multipliers_of(renamed.opt_state)[order], atol=1e-5)
    assert np.ptp(multipliers_of(plain.opt_state)) > 0.01


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_optax_form_equals_the_step(scheme):
    """The same training written by hand with `tx.update` and autodiff, penalty and all."""
    constraint, rate, c = loss_gap(G, tolerance=0.05), 0.5, 0.7
    tx = lagrangian(optax.adam(0.05), constraint, ascent(rate), penalty=c)
    step = jax.jit(make_lagrangian_step(linear, cross_entropy, tx, scheme=SCHEMES[scheme]))
    params = jax.tree.map(jnp.asarray, weights())
    state = init_state(params, tx)
    opt_state = tx.init(params)

    def gaps(params, batch):  # group by group
        losses = cross_entropy(linear(params, batch.x), batch.y)
        means = jnp.array([losses @ (batch.group == g) / (batch.group == g).sum() for g in range(G)])
        return means - losses.mean() - 0.05, losses.mean()

    @jax.jit
    def gradient(params, batch, multipliers, violation):
        w = jnp.maximum(multipliers + c * violation, 0)
        return jax.grad(lambda p: gaps(p, batch)[1] + w @ gaps(p, batch)[0])(params)

    for seed in range(3):
        batch = people_of(seed=seed)
        state, _ = step(state, batch)
        violation, at = gaps(params, batch)[0], multipliers_of(opt_state)
        if scheme == "alternating":
            at = jnp.maximum(at + rate * violation, 0)
        if scheme == "extragradient":
            updates, ahead = tx.update(gradient(params, batch, at, violation), opt_state, params, violation=violation)
            trial = optax.apply_updates(params, updates)
            violation, base, at = gaps(trial, batch)[0], trial, multipliers_of(ahead)
        else:
            base = params
        updates, opt_state = tx.update(gradient(base, batch, at, violation), opt_state, params, violation=violation)
        params = optax.apply_updates(params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), state.params, params)
    np.testing.assert_allclose(multipliers_of(state.opt_state), multipliers_of(opt_state), atol=1e-4)


def test_tolerances_and_rates_of_several_trainings_are_one_program(people):
    """The tolerance lies in the state as well, and equals the constraint's own."""

    def init(rate, tolerance):
        tx = lagrangian(optax.sgd(0.1), loss_gap(3), ascent(rate), tolerance=tolerance)
        return init_state(jax.tree.map(jnp.asarray, weights()), tx)

    states = jax.jit(jax.vmap(init))(jnp.array([0.1, 0.1, 0.5]), jnp.array([0.0, 0.2, 0.2]))
    step = make_lagrangian_step(linear, cross_entropy, lagrangian(optax.sgd(0.1), loss_gap(3), ascent(1.0)))
    keys = jnp.stack([jax.random.key(0)] * 3)
    state, _ = fit(step, states, people.train, key=keys, epochs=2, batch_size=32)
    for r, (rate, tolerance) in ((0, (0.1, 0.0)), (2, (0.5, 0.2))):
        tx = lagrangian(optax.sgd(0.1), loss_gap(3, tolerance=tolerance), ascent(rate))
        alone, _ = fit(
            make_lagrangian_step(linear, cross_entropy, tx), init_state(jax.tree.map(jnp.asarray, weights()), tx),
            people.train, key=keys[0], epochs=2, batch_size=32,
        )  # fmt: skip
        np.testing.assert_allclose(state.opt_state.multipliers[r], multipliers_of(alone.opt_state), atol=1e-5)
        np.testing.assert_allclose(
            ravel_pytree(jax.tree.map(lambda a, r=r: a[r], state.params))[0], ravel_pytree(alone.params)[0], atol=1e-5
        )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_doubling_the_padding_changes_nothing(scheme):
    """Through the buffer as well, and with padding of every group."""
    tx = lagrangian(optax.sgd(0.1), loss_gap(G), ascent(0.5), penalty=0.3, buffer=6)
    step = make_lagrangian_step(linear, cross_entropy, tx, scheme=SCHEMES[scheme])

    @jax.jit
    def run(batches):
        state = init_state(jax.tree.map(jnp.asarray, weights()), tx)
        return jax.lax.scan(step, state, batches)

    batches = [people_of(16, seed=s) for s in range(4)]
    padded = []
    for batch in batches:
        more = people_of(16, seed=99)._replace(group=np.arange(16) % G, weight=np.zeros(16, np.float32))
        padded.append(Batch(*(np.concatenate([b, a]) for a, b in zip(batch, more, strict=True))))
    one, two = (run(jax.tree.map(lambda *leaves: np.stack(leaves), *some)) for some in (batches, padded))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, two)


def test_one_group_is_never_violated(people):
    tx = lagrangian(optax.sgd(0.1), equal_loss_signed(1), ascent(0.5), buffer=4)
    step = make_lagrangian_step(linear, cross_entropy, tx)
    data = people.train._replace(group=np.zeros_like(people.train.group))
    state = init_state(jax.tree.map(jnp.asarray, weights()), tx)
    state, logs = fit(step, state, data, key=jax.random.key(0), epochs=1, batch_size=32)
    np.testing.assert_allclose(logs["violation"], 0, atol=1e-6)
    assert only_lagrangian_state(state.opt_state).multipliers.shape == (1,)


def test_balanced_batches_draw_all_groups_equally_often(people):
    data = indexed_batch(people.train, balanced=True, num_groups=3)
    rng, met, seen = np.random.default_rng(0), np.zeros(120), set()
    for _ in range(60):
        order = rng.permutation(120)
        for part in np.split(order, 4):
            batch = take(data, jnp.asarray(part), jnp.ones(30))
            np.testing.assert_array_equal(np.bincount(batch.group, minlength=3), 10)  # in every batch
            met += np.bincount(batch.row, minlength=120)
            seen |= set(np.asarray(batch.row).tolist())
            np.testing.assert_array_equal(batch.x, people.train.x[batch.row])
    assert seen == set(range(120))  # also all of the large group
    for a in range(3):  # and nobody twice as often as another of the group
        of_group = met[people.train.group == a]
        assert of_group.max() < 2 * of_group.mean()


def test_every_held_out_person_is_drawn_also_where_they_are_more_than_those_trained_on(people):
    few = jax.tree.map(lambda a: a[:30], people.train)
    data, rng, met = indexed_batch(few, held_out=people.validation), np.random.default_rng(0), np.zeros(45)
    for _ in range(60):
        for part in np.split(rng.permutation(30), 3):
            met += np.bincount(take(data, jnp.asarray(part), jnp.ones(10)).held_out.row, minlength=45)
    assert met.min() > 0.5 * met.mean()


def test_balanced_sampling_refuses_a_group_that_it_cannot_draw(people):
    with pytest.raises(UserError, match="group 3 has no training examples"):
        indexed_batch(people.train, balanced=True, num_groups=4)
