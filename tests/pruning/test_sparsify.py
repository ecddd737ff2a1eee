"""Pruning during training: exact zeros, exact targets, and no work where none is due."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles
from flax import nnx
from flax.core import FrozenDict

from jaxprune import checkpoints, pruning, training
from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.types import Batch

SHAPES = {"a": (6, 5), "b": (5,), "c": (5, 3)}
OPTIMISERS = {
    "momentum": lambda: optax.sgd(0.1, momentum=0.9),
    "adamw": lambda: optax.adamw(1e-2, weight_decay=0.1),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.add_decayed_weights(0.1), optax.adam(1e-2)),
}


def params_of(seed=0, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(seed), len(SHAPES))
    return {name: jax.random.normal(k, s, dtype) for k, (name, s) in zip(keys, SHAPES.items(), strict=True)}


def grads_of(params, step):
    """A gradient that differs from step to step and from parameter to parameter."""
    return jax.tree.map(lambda p: jnp.sin(3 * p + step), params)


def one_step(tx, carry, step, **extra):
    params, state = carry
    updates, state = tx.update(grads_of(params, step), state, params, **extra)
    return optax.apply_updates(params, updates), state


def run(tx, params, steps, **extra):
    """All parameters and masks on the way, from a compiled loop."""

    def body(carry, step):
        carry = one_step(tx, carry, step, **extra)
        return carry, (carry[0], carry[1].masks)

    return jax.jit(lambda params: jax.lax.scan(body, (params, tx.init(params)), jnp.arange(steps)))(params)


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def pruned_of(masks):
    return sum(int(np.sum(~np.asarray(masks[name]))) for name in ("a", "c"))


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_pruned_weights_are_exactly_zero_after_every_step_and_stay_so(optimiser):
    schedule = pruning.cubic(0.7, begin=2, end=9, every=3)
    tx = pruning.sparsify(OPTIMISERS[optimiser](), pruning.magnitude(), schedule)
    _, (params, masks) = run(tx, params_of(), 14)
    for name in SHAPES:
        assert (np.asarray(params[name])[~np.asarray(masks[name])] == 0).all()
        assert (np.diff(np.asarray(masks[name], int), axis=0) <= 0).all(), "what is pruned stays pruned"
    counts = [pruned_of(jax.tree.map(lambda m, t=t: m[t], masks)) for t in range(14)]
    # 45 prunable weights; updates at 2, 5, 8 and 9.
    expected = [0, 0, *[round(45 * float(schedule(s))) for s in (2, 2, 2, 5, 5, 5, 8)], *[round(0.7 * 45)] * 5]
    assert counts == expected
    assert np.asarray(masks["b"]).all()


@pytest.mark.parametrize(("begin", "end", "every"), [(0, 0, 1), (1, 7, 4), (3, 5, 10), (0, 6, 3)])
@pytest.mark.parametrize("target", [0.5, 0.7, 0.9])
def test_the_last_update_reaches_the_target_exactly(begin, end, every, target):
    params = {"w": jnp.arange(1.0, 26).reshape(5, 5)}  # 25 x 0.7 and 0.9 end on a half: float32 may round otherwise
    tx = pruning.sparsify(
        optax.sgd(1e-3), pruning.magnitude(), pruning.cubic(target, begin=begin, end=end, every=every)
    )
    (_, state), _ = run(tx, params, end + 2)
    assert int(np.sum(~np.asarray(state.masks["w"]))) == round(target * 25)


def test_masks_are_those_of_prune_at_the_parameters_of_the_gradient():
    schedule = pruning.cubic(0.8, end=4, every=2)
    tx = pruning.sparsify(optax.sgd(0.1), pruning.magnitude(), schedule, allocation=pruning.layerwise_masks)
    params = params_of()
    _, (steps, masks) = run(tx, params, 6)
    held = None
    for t in (0, 2, 4):
        before = params if t == 0 else jax.tree.map(lambda p, t=t: p[t - 1], steps)
        sparsity = 0.8 if t == 4 else float(schedule(t))
        _, held = pruning.prune(
            before, sparsity, criterion=pruning.magnitude(), allocation=pruning.layerwise_masks, masks=held
        )
        equal(jax.tree.map(lambda m, t=t: m[t], masks), held)


def test_kept_weights_move_as_under_keep_masked():
    params = params_of()
    inner = optax.adamw(1e-2, weight_decay=0.1)
    gradual = pruning.sparsify(inner, pruning.magnitude(), pruning.at_once(0.5))
    (found, state), _ = run(gradual, params, 5)
    held = optax.chain(inner, pruning.keep_masked(state.masks))
    carry = (params, held.init(params))
    for step in range(5):
        carry = jax.jit(partial(one_step, held))(carry, step)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), found, carry[0])


def test_the_optimiser_sees_the_gradient_of_the_kept_weights_alone():
    seen = optax.GradientTransformation(lambda params: params, lambda updates, state, params: (updates, updates))
    tx = pruning.sparsify(seen, pruning.magnitude(), pruning.at_once(0.5))
    params = params_of()
    _, state = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    equal(state.inner, jax.tree.map(lambda m: m.astype(jnp.float32), state.masks))


def test_a_compiled_loop_equals_single_steps_and_compiles_nothing_more():
    tx = pruning.sparsify(optax.adam(1e-2), pruning.random(), pruning.cubic(0.6, end=4, every=2), key=jax.random.key(3))
    params = params_of()
    (looped, state), _ = run(tx, params, 7)
    step = jax.jit(partial(one_step, tx))
    carry = step((params, jax.jit(tx.init)(params)), 0)
    with compiles(0):
        for at in range(1, 7):
            carry = step(carry, at)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), looped, carry[0])
    equal(state.masks, carry[1].masks)
    eager = (params, tx.init(params))
    for at in range(5):
        eager = one_step(tx, eager, at)
    equal(state.masks, eager[1].masks)


def test_replicas_are_each_as_alone():
    tx = pruning.sparsify(optax.adam(1e-2), pruning.magnitude(), pruning.cubic(0.6, end=4, every=2))
    many = [params_of(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    _, (params, masks) = jax.vmap(lambda p: run(tx, p, 6))(stacked)
    for replica, start in enumerate(many):
        _, (alone, held) = run(tx, start, 6)
        equal(jax.tree.map(lambda m, r=replica: m[r], masks), held)
        one = jax.tree.map(lambda p, r=replica: p[r], params)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), one, alone)


def conditionals(function, *arguments) -> int:
    return jax.jit(function).lower(*arguments).as_text().count("stablehlo.case")


def counted(calls):
    def score(params, **_):
        jax.debug.callback(lambda: calls.append(1))
        return jax.tree.map(jnp.abs, params)

    return pruning.Criterion(score)


@pytest.mark.parametrize("nested", [1, 2])
@pytest.mark.parametrize("name", [None, "replica"])
def test_scores_are_computed_only_where_due_for_some_replica(nested, name):
    calls = []
    tx = pruning.sparsify(optax.sgd(0.1), counted(calls), pruning.at_once(0.5, step=2))

    def step(params, state, scale):
        grads = jax.tree.map(lambda p: p * scale, params)  # what is closed over is mapped as well
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(lambda p: jnp.stack([p, p + 1]), params_of())
    init, mapped = jax.vmap(tx.init), jax.vmap(step, (0, 0, None), spmd_axis_name=name)
    if nested == 2:
        params = jax.tree.map(lambda p: jnp.stack([p, 2 * p, -p]), params)
        init, mapped = jax.vmap(init), jax.vmap(mapped, (0, 0, 0))
    scale = jnp.arange(3.0) if nested == 2 else 1.0
    state, mapped = init(params), jax.jit(mapped)
    assert conditionals(mapped, params, state, scale) >= 1
    for at in range(4):
        before = len(calls)
        params, state = mapped(params, state, scale)
        jax.effects_barrier()
        assert (len(calls) > before) == (at == 2)
    assert int(np.sum(~np.asarray(state.masks["a"]))) + int(np.sum(~np.asarray(state.masks["c"]))) == (
        len(params["a"].reshape(-1, 6, 5)) * round(45 * 0.5)
    )


def test_replicas_may_be_at_different_steps():
    tx = pruning.sparsify(optax.sgd(0.0), pruning.magnitude(), pruning.at_once(0.5, step=1))
    params = jax.tree.map(lambda p: jnp.stack([p, p]), params_of())
    state = jax.vmap(tx.init)(params)._replace(step=jnp.array([0, 1]))
    _, state = jax.vmap(tx.update)(params, state, params)
    assert [pruned_of(jax.tree.map(lambda m, r=r: m[r], state.masks)) for r in (0, 1)] == [0, round(45 * 0.5)]


def test_fit_trains_replicas_on_a_schedule():
    def apply(params, x):
        return jnp.tanh(x @ params["a"] + params["b"]) @ params["c"]

    tx = pruning.sparsify(optax.adam(1e-2), pruning.magnitude(), pruning.cubic(0.8, end=7, every=3))
    step = training.make_step(apply, cross_entropy, tx)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 6)).astype(np.float32), rng.integers(0, 3, 32).astype(np.int32)
    data = Batch(x, y, np.zeros(32, np.int32), np.ones(32, np.float32))
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[params_of(seed) for seed in range(2)])
    state = jax.vmap(lambda p: training.init_state(p, tx))(params)
    state, _ = training.fit(step, state, data, key=jax.random.split(jax.random.key(0), 2), epochs=2, batch_size=8)
    for replica in (0, 1):
        masks = jax.tree.map(lambda m, r=replica: m[r], state.opt_state.masks)
        assert pruned_of(masks) == round(0.8 * 45)
        for name in SHAPES:
            assert (np.asarray(state.params[name][replica])[~np.asarray(masks[name])] == 0).all()


def test_steps_of_multi_steps_are_applied_updates():
    schedule = pruning.cubic(0.84, end=2)
    tx = optax.MultiSteps(pruning.sparsify(optax.adam(1e-2), pruning.magnitude(), schedule), every_k_schedule=2)
    params = params_of()
    state, step = tx.init(params), jax.jit(partial(one_step, tx))
    carry, counts = (params, state), []
    for at in range(8):
        carry = step(carry, at)
        inner = carry[1].inner_opt_state
        counts.append(pruned_of(inner.masks))
        for name in SHAPES:
            assert (np.asarray(carry[0][name])[~np.asarray(inner.masks[name])] == 0).all()
    middle = round(45 * float(schedule(1)))
    assert counts == [0, 0, 0, middle, middle, 38, 38, 38]
    assert int(inner.step) == 4


def test_it_goes_last_in_a_chain_and_hands_arguments_on():
    received = {}

    def update(updates, state, params=None, *, value, **_):
        received["value"] = value
        return updates, state

    inner = optax.GradientTransformationExtraArgs(lambda params: (), update)
    tx = optax.chain(optax.clip(1.0), pruning.sparsify(inner, pruning.magnitude(), pruning.at_once(0.5)))
    params = params_of()
    _, state = tx.update(params, tx.init(params), params, value=3)
    assert received == {"value": 3}
    assert pruned_of(state[1].masks) == round(45 * 0.5)


def test_a_criterion_gets_the_gradient_the_step_and_what_update_is_given():
    def score(params, *, apply, batch, grads, num_groups, **_):
        return jax.tree.map(lambda p, g: jnp.abs(p * g) * apply(params, batch.x) * num_groups, params, grads)

    criterion = pruning.Criterion(score, frozenset({"batch", "gradients", "groups"}))
    tx = pruning.sparsify(optax.sgd(0.1), criterion, pruning.at_once(0.5))
    params = params_of()
    batch = Batch(jnp.ones(4), jnp.zeros(4, int), jnp.zeros(4, int), jnp.ones(4))

    @jax.jit
    def step(params, state, batch, stats):
        # Closes over a traced value, as a network's frozen statistics are.
        grads = grads_of(params, 0)
        return tx.update(grads, state, params, apply=lambda p, x: jnp.mean(x) * stats, batch=batch, num_groups=2)

    _, state = step(params, tx.init(params), batch, jnp.float32(2))
    scores = jax.tree.map(lambda p, g: jnp.abs(p * g), params, grads_of(params, 0))
    _, expected = pruning.prune(params, 0.5, criterion=pruning.Criterion(lambda p, **_: scores))
    equal(state.masks, expected)
    mapped = jax.vmap(step, (0, 0, None, 0))
    twice = jax.tree.map(lambda p: jnp.stack([p, p]), params)
    _, state = mapped(twice, jax.vmap(tx.init)(twice), batch, jnp.array([1.0, 2.0]))
    equal(jax.tree.map(lambda m: m[0], state.masks), expected)
    for missing, left in (("num_groups", {"apply": abs, "batch": batch}), ("apply", {"batch": batch, "num_groups": 2})):
        with pytest.raises(UserError, match=f"{missing}: this criterion needs it"):
            tx.update(params, tx.init(params), params, **left)


def test_corrections_of_the_kept_weights_are_applied():
    def correct(params, masks, **_):
        return jax.tree.map(lambda p, m: jnp.where(m, 2 * p, 0), params, masks)

    criterion = pruning.Criterion(lambda params, **_: jax.tree.map(jnp.abs, params), correct=correct)
    tx = pruning.sparsify(optax.sgd(0.0), criterion, pruning.at_once(0.5, step=1))
    params = params_of()
    (final, state), (steps, _) = run(tx, params, 4)
    equal(jax.tree.map(lambda p: p[0], steps), params)
    doubled = jax.tree.map(lambda p, m: jnp.where(m, 2 * p, 0), params, state.masks)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), final, doubled)


def test_rounds_reach_the_target_too():
    criterion = pruning.Criterion(lambda params, **_: jax.tree.map(jnp.abs, params), rounds=3)
    tx = pruning.sparsify(optax.sgd(0.1), criterion, pruning.cubic(0.8, end=2))
    (_, state), _ = run(tx, params_of(), 4)
    assert pruned_of(state.masks) == round(0.8 * 45)


@pytest.mark.parametrize("share", [0.35, 0.85])  # the float32 beside each of them rounds to another number of ten
def test_rounds_reach_the_count_of_the_target_itself(share):
    criterion = pruning.Criterion(lambda params, **_: jax.tree.map(jnp.abs, params), rounds=3)
    params = {"a": jnp.arange(1.0, 11.0).reshape(2, 5)}
    tx = pruning.sparsify(optax.sgd(0.1), criterion, pruning.cubic(share, end=2))
    (_, state), _ = run(tx, params, 4)
    assert int((~state.masks["a"]).sum()) == round(share * 10)


def test_what_is_pruned_already_stays_pruned_and_counts():
    params = params_of()
    start = {"a": jnp.ones((6, 5), bool).at[:2].set(False), "b": None, "c": jnp.ones((5, 3), bool)}
    tx = pruning.sparsify(optax.adam(1e-2), pruning.magnitude(), pruning.cubic(0.5, end=4), masks=start)
    _, (_, masks) = run(tx, params, 6)
    counts = [pruned_of(jax.tree.map(lambda m, t=t: m[t], masks)) for t in range(6)]
    assert counts[0] == 10  # the schedule begins at 0, below what is pruned
    assert counts[-1] == round(45 * 0.5)
    assert not np.asarray(masks["a"])[:, :2].any()


def test_a_schedule_that_falls_lets_nothing_regrow():
    schedule = pruning.gradual(optax.linear_schedule(0.8, 0.2, 4), end=4)
    (_, state), _ = run(pruning.sparsify(optax.sgd(0.1), pruning.magnitude(), schedule), params_of(), 6)
    assert pruned_of(state.masks) == round(0.8 * 45)


def test_random_scores_differ_from_step_to_step_and_from_replica_to_replica():
    def masks_at(key, step):
        tx = pruning.sparsify(optax.sgd(0.1), pruning.random(), pruning.cubic(0.5, end=9, initial=0.5), key=key)
        params = params_of()
        return tx.update(params, tx.init(params)._replace(step=jnp.int32(step)), params)[1].masks["a"]

    one = masks_at(jax.random.key(0), 0)
    np.testing.assert_array_equal(one, masks_at(jax.random.key(0), 0))
    np.testing.assert_array_equal(one, masks_at(jax.random.PRNGKey(0), 0))
    assert (one != masks_at(jax.random.key(0), 1)).any()
    both = jax.vmap(lambda key: masks_at(key, 0))(jax.random.split(jax.random.key(1), 2))
    assert (both[0] != both[1]).any()
    with pytest.raises(UserError, match="key: this criterion needs it"):
        pruning.sparsify(optax.sgd(0.1), pruning.random(), pruning.at_once(0.5))


@pytest.mark.parametrize("kind", ["bfloat16", "frozen", "none", "nnx"])
def test_parameters_may_be_of_many_kinds(kind):
    params = params_of(dtype=jnp.bfloat16 if kind == "bfloat16" else jnp.float32)
    if kind == "frozen":
        params = FrozenDict({"layer": params})
    if kind == "none":
        params = {"layer": params, "nothing": None}
    if kind == "nnx":
        model = nnx.Sequential(nnx.Linear(6, 5, rngs=nnx.Rngs(0)), nnx.Linear(5, 3, rngs=nnx.Rngs(1)))
        params = nnx.state(model, nnx.Param)
    tx = pruning.sparsify(optax.adamw(1e-2), pruning.magnitude(), pruning.cubic(0.8, end=2))
    carry = (params, tx.init(params))
    for step in range(4):
        carry = jax.jit(partial(one_step, tx))(carry, step)
    leaves, masks = jax.tree.leaves(carry[0]), jax.tree.leaves(carry[1].masks)
    assert sum(int(np.sum(~np.asarray(m))) for m in masks) == 36
    for leaf, mask in zip(leaves, masks, strict=True):
        assert (np.asarray(leaf, np.float32)[~np.asarray(mask)] == 0).all()
    assert jax.tree.structure(carry[0]) == jax.tree.structure(params)


def test_training_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path):
    tx = pruning.sparsify(optax.adam(1e-2), pruning.random(), pruning.cubic(0.6, end=6, every=2), key=jax.random.key(0))
    params = params_of()
    step = jax.jit(partial(one_step, tx))
    carry = (params, tx.init(params))
    for at in range(3):
        carry = step(carry, at)
    checkpoints.save(tmp_path / "c", carry)
    restored = checkpoints.restore(tmp_path / "c", jax.eval_shape(lambda: (params, tx.init(params))))
    for at in range(3, 8):
        carry, restored = step(carry, at), step(restored, at)
    equal(carry, restored)


def test_mistakes_are_told_at_once():
    def check(params, prunable, sparsities):
        raise UserError(f"a layer does not fit {sparsities}")

    params = params_of()
    unfit = pruning.Structure(pruning.weights().masks, check)
    with pytest.raises(UserError, match=r"a layer does not fit \(0.5,\)"):
        pruning.sparsify(optax.sgd(0.1), pruning.magnitude(), pruning.at_once(0.5), structure=unfit).init(params)
    with pytest.raises(UserError, match="allocation: the criterion"):
        pruning.sparsify(optax.sgd(0.1), pruning.fairgrape(), pruning.at_once(0.5), allocation=pruning.global_masks)
    tx = pruning.sparsify(optax.sgd(0.1), pruning.magnitude(), pruning.at_once(0.5))
    with pytest.raises(ValueError, match="sparsify needs the parameters"):
        tx.update(params, tx.init(params))
    wrong = pruning.sparsify(optax.sgd(0.1), pruning.magnitude(), pruning.at_once(0.5), masks={"a": jnp.ones(3, bool)})
    with pytest.raises(ValueError, match="sparsify: the masks do not have the structure"):
        wrong.init(params)


SHARDED = """
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxprune import pruning

mesh = jax.make_mesh((4, 2), ("replica", "model"), axis_types=(AxisType.Auto,) * 2)
tx = pruning.sparsify(optax.adam(1e-2), pruning.magnitude(), pruning.cubic(0.8, end=4, every=2))


def start(key):
    return {"a": jax.random.normal(key, (8, 16)), "b": jnp.zeros(16)}


def train(params):
    def body(carry, step):
        params, state = carry
        updates, state = tx.update(jax.tree.map(lambda p: jnp.sin(3 * p + step), params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(body, (params, tx.init(params)), jnp.arange(6))[0]


one, many = start(jax.random.key(0)), jax.vmap(start)(jax.random.split(jax.random.key(0), 4))
cases = {
    "parameters": (jax.jit(train), one, {"a": PartitionSpec(None, "model"), "b": PartitionSpec("model")}),
    "replicas": (jax.jit(jax.vmap(train, spmd_axis_name="replica")), many, {n: PartitionSpec("replica") for n in "ab"}),
}
found = {"devices": jax.device_count()}
for name, (run, params, specs) in cases.items():
    placed = jax.device_put(params, {n: NamedSharding(mesh, spec) for n, spec in specs.items()})
    alone, sharded = run(params)[1].masks, run(placed)[1].masks
    found[name] = [
        all(bool((alone[n] == sharded[n]).all()) for n in "ab"),
        int((~np.asarray(sharded["a"])).sum()),
        len({tuple(map(str, shard.index)) for shard in sharded["a"].addressable_shards}),
    ]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_masks_are_the_same_and_spread_on_eight_devices(on_eight_devices):
    found = on_eight_devices(SHARDED)
    assert found["parameters"] == [True, round(0.8 * 128), 2]
    assert found["replicas"] == [True, 4 * round(0.8 * 128), 4]


# --- keep_masked ---------------------------------------------------------------------------------------------------


def test_keep_masked_takes_none_for_a_whole_leaf():
    params = params_of()
    masks = {"a": jnp.zeros((6, 5), bool), "b": None, "c": None}
    tx = optax.chain(optax.sgd(1.0), pruning.keep_masked(masks))
    updates, state = jax.jit(tx.update)(params, tx.init(params), params)
    assert state[1].masks["b"] is None
    assert not np.asarray(optax.apply_updates(params, updates)["a"]).any()
    np.testing.assert_array_equal(updates["c"], -params["c"])
    for wrong in ({"a": masks["a"]}, {**masks, "a": {"x": masks["a"]}}, {**masks, "a": jnp.ones(2, bool)}, None):
        with pytest.raises(ValueError, match="keep_masked: the mask"):
            pruning.keep_masked(wrong).init(params)


# --- straight-through ----------------------------------------------------------------------------------------------


def test_the_gradient_passes_straight_through_the_mask():
    rng = np.random.default_rng(0)
    x, target, w = rng.normal(size=(7, 4)), rng.normal(size=7), rng.normal(size=4)
    mask = np.array([True, False, True, False])

    def loss(w):
        return jnp.mean((x @ pruning.straight_through_params({"w": w}, {"w": mask})["w"] - target) ** 2)

    expected = 2 / 7 * x.T @ (x @ (w * mask) - target)  # at w * mask, of every weight
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(jnp.asarray(w)), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jvp(loss, (w,), (np.ones(4),))[1], expected.sum(), rtol=1e-5)


def test_straight_through_trains_the_dense_weights():
    schedule = pruning.cubic(0.6, begin=1, end=3)
    tx = pruning.straight_through(optax.sgd(0.3, momentum=0.9), pruning.magnitude(), schedule)
    params = params_of()

    def body(carry, step):
        carry = one_step(tx, carry, step)
        return carry, (*carry, carry[1].latent)

    (_, _), (shown, states, latent) = jax.jit(lambda p: jax.lax.scan(body, (p, tx.init(p)), jnp.arange(9)))(params)
    # By hand: dense weights moved by the gradient at the masked ones.
    w, at, momentum = params, params, jax.tree.map(jnp.zeros_like, params)
    masks, came_back = None, False
    for step in range(9):
        momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads_of(at, step))
        w = jax.tree.map(lambda w, m: w - 0.3 * m, w, momentum)
        old = masks
        if step >= 1:
            sparsity = float(schedule(step)) if step < 3 else 0.6
            at, masks = pruning.prune(w, sparsity, criterion=pruning.magnitude())
            equal(jax.tree.map(lambda m, s=step: m[s], states.masks), masks)
        else:
            at = w
        came_back |= old is not None and any(bool((masks[n] & ~old[n]).any()) for n in SHAPES)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
                     jax.tree.map(lambda p, s=step: p[s], latent), w)  # fmt: skip
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
                     jax.tree.map(lambda p, s=step: p[s], shown), at)  # fmt: skip
        for name in SHAPES:
            assert (np.asarray(shown[name][step])[~np.asarray(states.masks[name][step])] == 0).all()
    assert came_back, "masks are found anew, so that some pruned weight returns"


def test_straight_through_keeps_to_its_rhythm_after_the_end():
    calls = []
    tx = pruning.straight_through(optax.sgd(0.1), counted(calls), pruning.cubic(0.5, begin=1, end=5, every=3))
    params = params_of()
    carry, found, step = (params, tx.init(params)), [], jax.jit(partial(one_step, tx))
    for at in range(12):
        before = len(calls)
        carry = step(carry, at)
        jax.effects_barrier()
        found += [at] * (len(calls) > before)
    assert found == [1, 4, 5, 7, 10]
