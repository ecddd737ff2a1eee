"""Sparse training: which weights drop and grow, and what the optimiser forgets."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles

from jaxprune import pruning
from jaxprune.errors import UserError

W = jnp.array([[5.0, -1.0, 0.5, 4.0], [0.0, 0.0, 0.0, 0.0]])
KEPT = jnp.array([[True, True, True, True], [False, False, False, False]])
GRADS = jnp.array([[0.1, 0.2, 0.9, 0.3], [-2.0, 0.4, -0.8, 1.0]])
BIAS = jnp.array([1.0, 2.0])
# Half of the four kept go: -1 and 0.5. Of these two and the other four, the gradients of -2 and 1 are the largest.
GROWN = jnp.array([[False, False, False, False], [True, False, False, True]])
AFTER = jnp.array([[True, False, False, True], [True, False, False, True]])


class CustomState(NamedTuple):
    calls: jax.Array
    memory: dict


def custom():
    """A transformation of our own, which iterates over its dictionary and keeps lists of moments."""

    def init(params):
        return CustomState(jnp.int32(7), {"both": [{k: jnp.zeros(v.shape) for k, v in params.items()} for _ in "ab"]})

    def update(updates, state, params):
        first, second = state.memory["both"]
        first = {k: first[k] + updates[k] for k in updates}
        second = {k: second[k] - updates[k] for k in updates}
        return jax.tree.map(lambda m: -0.1 * m, first), CustomState(state.calls + 1, {"both": [first, second]})

    return optax.GradientTransformation(init, update)


OPTIMISERS = {
    "momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "adam": lambda: optax.adam(0.1),
    "adamw": lambda: optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(0.1, weight_decay=0.1)),
    "masked": lambda: optax.masked(optax.adam(0.1), {"w": True, "b": False}),
    "groups": lambda: optax.multi_transform(
        {"one": optax.adam(0.1), "other": optax.sgd(0.1, momentum=0.5)}, {"w": "one", "b": "other"}
    ),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(0.1),
    "custom": custom,
}


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def moments(state):
    """The leaves of a state with the shape of the kernel."""
    return [leaf for leaf in jax.tree.leaves(state) if jnp.shape(leaf) == W.shape]


def at_step(tx, params, step, masks):
    """A state at a step, with moments of 1 everywhere."""
    state = tx.init(params)
    inner = jax.tree.map(lambda s: jnp.ones_like(s) if jnp.shape(s) in (W.shape, BIAS.shape) else s, state.inner)
    return state._replace(step=jnp.int32(step), masks={"w": masks, "b": jnp.ones(2, bool)}, inner=inner)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_rigl_by_hand(name):
    inner = OPTIMISERS[name]()
    tx = pruning.rigl(inner, 0.5, key=jax.random.key(0), begin=2, end=8, every=3, fraction=0.5)
    params, grads = {"w": W, "b": BIAS}, {"w": GRADS, "b": BIAS}
    state = at_step(tx, params, 5, KEPT)
    updates, new = jax.jit(tx.update)(grads, state, params)
    moved = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(new.masks["w"], AFTER)
    assert np.asarray(new.masks["b"]).all()
    # The step is not left out: what stayed, and the bias, moved as the optimiser says for the gradient of the kept.
    masked = {"w": jnp.where(KEPT, GRADS, 0), "b": BIAS}
    steps, inner_state = optax.with_extra_args_support(inner).update(masked, state.inner, params)
    np.testing.assert_allclose(moved["b"], BIAS + steps["b"], rtol=1e-6)
    np.testing.assert_allclose(moved["w"][KEPT & AFTER], (W + steps["w"])[KEPT & AFTER], rtol=1e-6)
    assert (np.asarray(moved["w"])[~np.asarray(KEPT & AFTER)] == 0).all(), "dropped or not yet moved"
    # What does not stay is forgotten, everything else is as the optimiser left it.
    for found, expected, fresh in zip(
        jax.tree.leaves(new.inner), jax.tree.leaves(inner_state), jax.tree.leaves(inner.init(params)), strict=True
    ):
        stay = KEPT & AFTER if jnp.shape(found) == W.shape else True
        np.testing.assert_allclose(found, jnp.where(stay, expected, fresh), rtol=1e-6)
    assert len(moments(new.inner)) >= 1
    for moment in moments(new.inner):
        assert (np.asarray(moment)[np.asarray(GROWN)] == 0).all()
    # Then what grew moves from 0, as with an optimiser that is new to it.
    updates, after = jax.jit(tx.update)(grads, new, moved)
    moved = optax.apply_updates(moved, updates)
    assert (np.asarray(moved["w"])[np.asarray(GROWN)] != 0).all()
    assert (np.sign(moved["w"]) == -np.sign(GRADS))[GROWN].all()
    np.testing.assert_array_equal(after.masks["w"], AFTER)


def test_a_weight_that_was_just_dropped_may_grow_and_stays_as_it_was():
    grads = GRADS.at[0, 2].set(-3.0)  # that of 0.5
    masks = pruning.drop_and_grow({"w": W}, {"w": KEPT}, {"w": jnp.abs(grads)}, 0.5)["w"]
    np.testing.assert_array_equal(masks, [[True, False, True, True], [True, False, False, False]])
    tx = pruning.rigl(optax.sgd(0.1, momentum=0.9), 0.5, key=jax.random.key(0), end=8, every=3, fraction=0.5)
    params = {"w": W, "b": BIAS}
    updates, new = tx.update({"w": grads, "b": BIAS}, at_step(tx, params, 3, KEPT), params)
    assert float(updates["w"][0, 2]) == pytest.approx(-0.1 * (0.9 - 3.0))
    assert float(new.inner[0].trace["w"][0, 2]) == pytest.approx(0.9 - 3.0)


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_every_layer_keeps_its_number_of_weights(fraction):
    rng = np.random.default_rng(0)
    for kept in (0, 1, 12, 29, 30):
        w = rng.integers(-2, 3, (5, 6)).astype(np.float32)  # ties
        mask = (rng.permutation(30) < kept).reshape(5, 6)
        found = pruning.drop_and_grow([w], [mask], [rng.integers(0, 3, (5, 6)).astype(np.float32)], fraction)[0]
        assert int(found.sum()) == kept
        assert int((mask & ~np.asarray(found)).sum()) <= int(np.floor(np.float32(fraction) * kept))


@pytest.mark.slow
@pytest.mark.parametrize("make", [pruning.rigl, pruning.sparse_evolution])
def test_layers_keep_their_numbers_in_training_and_masks_change_when_due(make):
    params = {"a": jnp.zeros((8, 9)), "c": jnp.zeros((9, 3)), "b": jnp.zeros(9)}
    params = jax.tree.map(lambda p: p + jax.random.normal(jax.random.key(p.size), p.shape), params)
    tx = make(optax.adam(1e-2), 0.7, key=jax.random.key(1), begin=2, end=12, every=4)

    def body(carry, step):
        params, state = carry
        grads = jax.tree.map(lambda p: jnp.sin(5 * p + step) + jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state.masks)

    def train(params):
        return jax.lax.scan(body, (params, tx.init(params)), jnp.arange(16))

    (_, state), (steps, masks) = jax.jit(train)(params)
    for name, size in (("a", 72), ("c", 27)):
        assert (np.sum(np.asarray(masks[name]), (1, 2)) == size - round(0.7 * size)).all()
        changed = (np.diff(np.asarray(masks[name]), axis=0) != 0).any((1, 2))
        assert set(np.flatnonzero(changed) + 1) <= {2, 6, 10}  # at 12, the fraction is 0
        assert (np.asarray(steps[name])[~np.asarray(masks[name])] == 0).all()
    assert changed.any()
    assert np.asarray(masks["b"]).all()
    # Replicas are each as alone, and a step of one program serves all steps.
    both = jax.tree.map(lambda p: jnp.stack([p, -p]), params)
    _, (_, mapped) = jax.jit(jax.vmap(train))(both)
    equal(jax.tree.map(lambda m: m[0], mapped), masks)
    step = jax.jit(lambda carry, at: body(carry, at)[0])
    carry = step((params, tx.init(params)), 0)
    with compiles(0):
        for at in range(1, 16):
            carry = step(carry, at)
    equal(carry[1].masks, state.masks)


def test_masks_are_not_updated_where_replicas_are_not_due():
    calls = []

    def fraction(step):
        jax.debug.callback(lambda: calls.append(1))
        return 0.5

    tx = pruning.rigl(optax.adam(0.1), 0.5, key=jax.random.key(0), begin=1, end=1, fraction=fraction)
    params = {"w": jnp.stack([W, W + 1, W - 1])}
    state, step = jax.vmap(tx.init)(params), jax.jit(jax.vmap(tx.update))
    for at in range(3):
        before = len(calls)
        _, state = step(params, state, params)
        jax.effects_barrier()
        assert (len(calls) > before) == (at == 1)


def test_the_fraction_falls_along_a_cosine():
    params = {"w": jax.random.normal(jax.random.key(1), (20, 20))}
    tx = pruning.rigl(optax.sgd(0.0), 0.9, key=jax.random.key(0), end=100, every=20, fraction=None)
    state, update = tx.init(params), jax.jit(tx.update)
    grads = {"w": jnp.where(state.masks["w"], 0.0, 1.0)}  # so that no weight that is dropped grows again
    dropped = []
    for step in (0, 20, 40, 50, 60, 80, 100):
        _, new = update(grads, state._replace(step=jnp.int32(step)), params)
        dropped.append(int(jnp.sum(state.masks["w"] & ~new.masks["w"])))
    # 40 are kept: 12 (1 + cos(π t / 100)) / 2 of them, rounded down, where due.
    assert dropped == [12, 10, 7, 0, 4, 1, 0]


@pytest.mark.parametrize("fraction", [lambda t: 2.0, lambda t: -1.0, optax.cosine_decay_schedule(2.0, 6)])
def test_a_schedule_outside_its_range_keeps_the_number_of_weights(fraction):
    params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(10, 10)), jnp.float32)}
    tx = pruning.rigl(optax.sgd(0.1), 0.9, key=jax.random.key(0), end=6, every=1, fraction=fraction)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.tree.map(jnp.cos, params), state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for _ in range(4):
        params, state = step(params, state)
        assert int(state.masks["w"].sum()) == 10


def test_static_masks_never_change_and_differ_by_key():
    params = {"w": jnp.ones((6, 6)), "b": jnp.ones(6)}
    tx = pruning.static_sparse(optax.adamw(1e-2), 0.5, key=jax.random.key(0))
    state = tx.init(params)
    first, moved = state.masks, params
    for _ in range(3):
        updates, state = jax.jit(tx.update)(jax.tree.map(jnp.sin, moved), state, moved)
        moved = optax.apply_updates(moved, updates)
        assert (np.asarray(moved["w"])[~np.asarray(first["w"])] == 0).all()
    equal(state.masks, first)
    assert int(np.sum(np.asarray(first["w"]))) == 18
    other = pruning.static_sparse(optax.adamw(1e-2), 0.5, key=jax.random.key(1)).init(params)
    assert (other.masks["w"] != first["w"]).any()


def test_rigl_works_inside_multi_steps():
    inner = pruning.rigl(optax.adam(0.1), 0.5, key=jax.random.key(0), begin=1, end=4, every=1, fraction=0.5)
    tx = optax.MultiSteps(inner, every_k_schedule=2)
    params = {"w": W + 1, "b": BIAS}
    state, update, masks = tx.init(params), jax.jit(tx.update), []
    for step in range(6):
        grads = jax.tree.map(lambda p, s=step: jnp.cos(p + s), params)
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
        masks.append(np.asarray(state.inner_opt_state.masks["w"]))
        assert masks[-1].sum() == 4
    np.testing.assert_array_equal(masks[0], masks[2])  # due at the second applied update
    assert int(state.inner_opt_state.step) == 3


def test_moments_belong_to_the_longest_path():
    params = {"w": jnp.ones((2, 2)), "mu": {"w": jnp.ones((2, 2))}}
    tx = optax.adam(0.1)
    state = jax.tree.map(lambda s: s + 1, tx.init(params))
    keep = {"w": jnp.ones((2, 2), bool), "mu": {"w": jnp.zeros((2, 2), bool)}}
    found = pruning.reset_moments(state, tx.init(params), keep)[0]
    assert np.asarray(found.mu["w"]).all()
    assert not np.asarray(found.mu["mu"]["w"]).any()
    assert np.asarray(found.nu["w"]).all()
    assert not np.asarray(found.nu["mu"]["w"]).any()
    factored = optax.adafactor(0.1, min_dim_size_to_factor=2)
    equal(pruning.reset_moments(factored.init(params), factored.init(params), keep), factored.init(params))


def test_mistakes_are_told_at_once():
    key = jax.random.key(0)
    for make, words in (
        (lambda: pruning.rigl(optax.sgd(0.1), 1.0, key=key, end=5), "sparsity: 1.0 is outside"),
        (lambda: pruning.rigl(optax.sgd(0.1), 0.5, key=key, end=5, fraction=2.0), "fraction: 2.0 is outside"),
        (lambda: pruning.rigl(optax.sgd(0.1), 0.5, key=key, begin=9, end=5), "end: the last update"),
        (lambda: pruning.static_sparse(optax.sgd(0.1), 0.5, key=3), "key: 3 is no random key"),
    ):
        with pytest.raises(UserError, match=words):
            make()
    tx = pruning.rigl(optax.sgd(0.1), 0.5, key=key, end=5)
    with pytest.raises(ValueError, match="sparse training needs the parameters"):
        partial(tx.update, {"w": W}, tx.init({"w": W}))()
