"""Constraints, the Lagrangian as an optax transformation, and its training step."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles
from jax.flatten_util import ravel_pytree

from jaxprune.losses import cross_entropy
from jaxprune.mitigation import (
    CONSTRAINTS,
    Constraint,
    GroupStatistics,
    LagrangianState,
    equal_loss,
    equal_loss_signed,
    lagrangian,
    lagrangian_states,
    loss_gap,
    make_lagrangian_step,
    multipliers_of,
)
from jaxprune.mitigation.multipliers import only_lagrangian_state
from jaxprune.networks import Network
from jaxprune.pruning import keep_masked
from jaxprune.training import fit, init_state, make_step
from jaxprune.types import Batch

G = 4


def statistics(loss, count):
    """Those of a batch with these group losses, group 2 of them absent where its count is 0."""
    loss, count = np.asarray(loss, np.float32), np.asarray(count, np.float32)
    accuracy = np.where(count > 0, np.exp(-loss), 0).astype(np.float32)
    overall = [jnp.asarray(np.average(values, weights=count)) for values in (loss, accuracy)]
    return GroupStatistics(
        loss=jnp.asarray(loss),
        overall_loss=overall[0],
        count=jnp.asarray(count),
        accuracy=jnp.asarray(accuracy),
        overall_accuracy=overall[1],
    )


def constraint_of(name, num_groups, tolerance):
    """A constraint by name, with the tolerance where it takes one."""
    options = {"tolerance": tolerance} if "tolerance" in CONSTRAINTS.defaults(name) else {}
    return CONSTRAINTS.make(name, num_groups, **options)


# --- the contract of every constraint ---------------------------------------------------------------------------------

ALL = pytest.mark.parametrize("name", CONSTRAINTS)
# Those that do not compare with the dense network, which these steps do not hold.
ALONE = pytest.mark.parametrize("name", [name for name, make in CONSTRAINTS.items() if not make(1).needs_dense])


@ALL
def test_a_constraint_speaks_of_every_group(name):
    constraint = constraint_of(name, G, 0.25)
    measured = statistics([1.0, 3.0, 2.0, 0.5], [4, 2, 1, 1])
    assert constraint.num_groups == G
    assert isinstance(constraint.inequality, bool)
    for values in (constraint.surrogate(measured), constraint.violation(measured)):
        assert values.shape == (G,)
        assert values.dtype == jnp.float32
        assert jnp.isfinite(values).all()


@ALL
def test_an_absent_group_asks_for_nothing(name):
    """Neither a value nor a gradient, also where the tolerance or a difference from 0 would give one."""
    constraint = constraint_of(name, G, 0.25)
    measured = statistics([1.0, 3.0, 0.0, 0.5], [4, 2, 0, 1])
    assert constraint.surrogate(measured)[2] == 0
    assert constraint.violation(measured)[2] == 0
    slopes = jax.jacobian(lambda loss: constraint.surrogate(measured._replace(loss=loss)))(measured.loss)
    assert jnp.isfinite(slopes).all()
    np.testing.assert_array_equal(slopes[2], 0)


@ALL
def test_equal_constraints_are_equal(name):
    """A step compiled for one serves the other: the constraint is a static part of the state."""
    one, two, other = constraint_of(name, G, 0.25), constraint_of(name, G, 0.25), constraint_of(name, G + 1, 0.25)
    assert one == two
    assert hash(one) == hash(two)
    assert one != other
    compiled = jax.jit(lambda state: state.multipliers + state.constraint.num_groups)
    states = [lagrangian(optax.sgd(0.1), equal, optax.sgd(0.1)).init(jnp.zeros(2)) for equal in (one, two)]
    with compiles(1):
        for state in states:
            compiled(state)


def test_constraints_of_unlike_tolerance_or_kind_differ():
    kinds = [loss_gap(G), loss_gap(G, tolerance=0.1), equal_loss(G), equal_loss_signed(G)]
    assert all(a != b for i, a in enumerate(kinds) for b in kinds[:i])


@ALL
def test_one_group_is_the_whole(name):
    constraint = constraint_of(name, 1, 0.0)
    measured = statistics([1.7], [5])
    np.testing.assert_allclose(constraint.violation(measured), [0], atol=1e-6)


@ALL
def test_permuting_groups_permutes_a_constraint(name):
    constraint, order = constraint_of(name, G, 0.25), np.array([2, 0, 3, 1])
    loss, count = np.array([1.0, 3.0, 0.0, 0.5]), np.array([4.0, 2, 0, 1])
    plain, permuted = statistics(loss, count), statistics(loss[order], count[order])
    np.testing.assert_allclose(constraint.surrogate(permuted), constraint.surrogate(plain)[order], rtol=1e-6)
    np.testing.assert_allclose(constraint.violation(permuted), constraint.violation(plain)[order], rtol=1e-6)


@ALL
def test_a_group_far_behind_violates_its_constraint(name):
    violation = constraint_of(name, G, 0.25).violation(statistics([0.1, 0.1, 5.0, 0.1], [1, 1, 1, 1]))
    assert violation[2] > 0
    assert violation[2] == violation.max()


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (equal_loss(3), [1, 0, 2]),
        (equal_loss_signed(3), [-1, 0, 2]),
        (loss_gap(3), [-1, 0, 2]),
        (loss_gap(3, tolerance=0.5), [-1.5, -0.5, 1.5]),
    ],
)
def test_constraints_of_given_numbers(constraint, expected):
    measured = statistics([1.0, 2.0, 4.0], [2, 1, 1])  # the mean of all is 2
    np.testing.assert_array_equal(constraint.surrogate(measured), expected)
    np.testing.assert_array_equal(constraint.violation(measured), expected)


def test_signed_gaps_cancel_over_the_population():
    measured = statistics([1.0, 3.0, 0.0, 0.5], [4, 2, 0, 1])
    gaps = equal_loss_signed(G).violation(measured)
    assert abs(gaps).max() > 0.5
    np.testing.assert_allclose(jnp.sum(measured.count * gaps), 0, atol=1e-5)


# --- the transformation -----------------------------------------------------------------------------------------------


def on_multipliers(num, inequality):
    """A constraint whose violation is computed by the test and handed to `update`."""
    return Constraint(num, inequality, lambda statistics, tolerance: statistics.loss)


EQUALITY, INEQUALITY = on_multipliers(1, False), on_multipliers(1, True)


def test_two_steps_by_hand():
    """½x² subject to x = 1 from x = 3: x' = x - 0.1(x + λ) and λ' = λ + 0.5(x - 1), both from the old values."""
    tx = lagrangian(optax.sgd(0.1), EQUALITY, optax.sgd(0.5))
    x = jnp.array([3.0])
    state = tx.init(x)
    np.testing.assert_array_equal(state.multipliers, [0])
    for expected_x, expected_multiplier in ((2.7, 1.0), (2.33, 1.85)):
        updates, state = tx.update(x + state.multipliers, state, x, violation=x - 1)
        x = optax.apply_updates(x, updates)
        np.testing.assert_allclose(x, [expected_x], rtol=1e-6)
        np.testing.assert_allclose(state.multipliers, [expected_multiplier], rtol=1e-6)


@pytest.mark.parametrize(("constraint", "violation", "expected"), [
    (EQUALITY, 2.0, 1.0),
    (EQUALITY, -2.0, -1.0),
    (INEQUALITY, 2.0, 1.0),
    (INEQUALITY, -2.0, 0.0),
])  # fmt: skip
def test_a_violated_constraint_raises_its_multiplier(constraint, violation, expected):
    """The sign is not the caller's concern; the multiplier of an inequality stays at or above 0."""
    tx = lagrangian(optax.sgd(0.1), constraint, optax.sgd(0.5))
    _, state = tx.update(jnp.zeros(1), tx.init(jnp.zeros(1)), jnp.zeros(1), violation=jnp.array([violation]))
    np.testing.assert_array_equal(state.multipliers, [expected])


def test_multipliers_of_inequalities_fall_to_zero_and_rise_again():
    tx = lagrangian(optax.sgd(0.1), INEQUALITY, optax.sgd(1.0))
    x = jnp.zeros(1)
    state, seen = tx.init(x), []
    for violation in (1.0, 0.5, -1.25, -5.0, -1.0, 0.75):
        _, state = tx.update(x, state, x, violation=jnp.array([violation]))
        seen.append(float(state.multipliers[0]))
    assert seen == [1.0, 1.5, 0.25, 0.0, 0.0, 0.75]  # no debt is kept below 0


def descend(tx, gradient, violation, x, steps):
    """Runs a Lagrangian whose gradient and violation are given as functions, in one compiled loop."""

    def step(carry, _):
        x, state = carry
        updates, state = tx.update(gradient(x, multipliers_of(state)), state, x, violation=violation(x))
        return (optax.apply_updates(x, updates), state), multipliers_of(state)

    run = jax.jit(lambda x: jax.lax.scan(step, (x, tx.init(x)), length=steps))
    (x, state), trajectory = run(jnp.asarray(x))
    return np.asarray(x), np.asarray(multipliers_of(state)), np.asarray(trajectory)


Q = np.array([[2.0, 0.5, 0.0], [0.5, 1.5, -0.25], [0.0, -0.25, 1.0]])
LINEAR = np.array([1.0, -2.0, 0.5])


def quadratic_lagrangian(matrix, bound):
    """Gradient (by autodiff) and violation of ½xᵀQx - cᵀx + λᵀ(Ax - b)."""

    def violation(x):
        return matrix @ x - bound

    def value(x, multipliers):
        return 0.5 * x @ Q @ x - LINEAR @ x + multipliers @ violation(x)

    return jax.grad(value), violation


def test_equalities_converge_to_the_solution_of_the_kkt_system(x64):
    matrix, bound = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, -2.0]]), np.array([1.0, -0.5])
    system = np.block([[Q, matrix.T], [matrix, np.zeros((2, 2))]])
    solution = np.linalg.solve(system, np.concatenate([LINEAR, bound]))
    assert (solution[3:] < 0).any()  # multipliers of equalities have either sign
    tx = lagrangian(optax.sgd(0.05), on_multipliers(2, False), optax.sgd(0.05))
    x, multipliers, _ = descend(tx, *quadratic_lagrangian(matrix, bound), np.zeros(3), 4000)
    np.testing.assert_allclose(x, solution[:3], atol=1e-5)
    np.testing.assert_allclose(multipliers, solution[3:], atol=1e-5)


def test_inequalities_converge_to_the_kkt_point_with_the_slack_one_at_zero(x64):
    """The first constraint is active and the second slack, so that the first alone is solved for as an equality."""
    matrix, bound = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, 1.0]]), np.array([0.5, 3.0])
    system = np.block([[Q, matrix[:1].T], [matrix[:1], np.zeros((1, 1))]])
    solution = np.linalg.solve(system, np.concatenate([LINEAR, bound[:1]]))
    assert solution[3] > 0.1
    assert matrix[1] @ solution[:3] < bound[1] - 0.1
    tx = lagrangian(optax.sgd(0.05), on_multipliers(2, True), optax.sgd(0.05))
    # From a point where the second is violated too, so that its multiplier rises and must fall again.
    x, multipliers, trajectory = descend(tx, *quadratic_lagrangian(matrix, bound), np.array([0.0, 6.0, 6.0]), 4000)
    assert trajectory[:, 1].max() > 0.1
    assert trajectory.min() >= 0
    np.testing.assert_allclose(x, solution[:3], atol=1e-5)
    np.testing.assert_allclose(multipliers, [solution[3], 0], atol=1e-5)


def test_the_optimisers_are_ordinary_ones():
    """Each side against the same optax transformation run by itself: schedules, chains, momentum."""
    primal = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.exponential_decay(0.1, 1, 0.5)))
    dual = optax.chain(optax.trace(0.9), optax.sgd(optax.piecewise_constant_schedule(1.0, {2: 0.1})))
    tx = lagrangian(primal, on_multipliers(2, False), dual)
    rng = np.random.default_rng(0)
    x, multipliers = np.ones(3, np.float32), np.zeros(2, np.float32)
    state, primal_state, dual_state = tx.init(x), primal.init(x), dual.init(multipliers)
    both = jax.jit(lambda g, v, state: tx.update(g, state, x, violation=v))
    primal_alone, dual_alone = jax.jit(primal.update), jax.jit(dual.update)
    for _ in range(4):
        gradient, violation = (rng.normal(size=size).astype(np.float32) for size in (3, 2))
        updates, state = both(gradient, violation, state)
        expected, primal_state = primal_alone(gradient, primal_state, x)
        ascent, dual_state = dual_alone(-violation, dual_state, multipliers)
        multipliers = multipliers + np.asarray(ascent)
        np.testing.assert_allclose(updates, expected, rtol=1e-6)
        np.testing.assert_allclose(state.multipliers, multipliers, rtol=1e-6)


def test_extra_arguments_reach_the_primal_optimiser():
    """Such as the value of the loss, for optax.contrib.reduce_on_plateau."""
    seen = []

    def update(updates, state, params=None, *, value):
        seen.append(value)
        return updates, state

    primal = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
    tx = lagrangian(primal, EQUALITY, optax.sgd(0.1))
    tx.update(jnp.zeros(1), tx.init(jnp.zeros(1)), jnp.zeros(1), violation=jnp.zeros(1), value=7.0)
    assert seen == [7.0]


def test_update_asks_for_the_violation():
    tx = lagrangian(optax.sgd(0.1), EQUALITY, optax.sgd(0.1))
    with pytest.raises(TypeError, match="violation"):
        tx.update(jnp.zeros(1), tx.init(jnp.zeros(1)), jnp.zeros(1))


def test_the_state_is_arrays_with_the_constraint_beside_them():
    state = lagrangian(optax.adam(0.1), loss_gap(3, tolerance=0.5), optax.sgd(0.1)).init(jnp.zeros(2))
    assert state.multipliers.dtype == jnp.result_type(float)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    back = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(state))
    assert back.constraint == loss_gap(3, tolerance=0.5)


def test_the_one_lagrangian_state_is_found():
    x = jnp.zeros(3)
    inner = lagrangian(optax.adam(0.1), loss_gap(2), optax.sgd(0.1))
    wrapped = optax.chain(optax.clip(1.0), optax.chain(inner, keep_masked(jnp.ones(3, bool))))
    for tx in (inner, wrapped, optax.MultiSteps(inner, 2)):
        state = tx.init(x)
        assert len(lagrangian_states(state)) == 1
        assert isinstance(only_lagrangian_state(state), LagrangianState)
        np.testing.assert_array_equal(multipliers_of(state), [0, 0])


@pytest.mark.parametrize("count", [0, 2])
def test_none_or_two_lagrangian_states_are_an_error(count):
    tx = optax.chain(optax.sgd(0.1), *[lagrangian(optax.sgd(0.1), loss_gap(2), optax.sgd(0.1))] * count)
    state = tx.init(jnp.zeros(3))
    for read in (multipliers_of, only_lagrangian_state):
        with pytest.raises(ValueError, match=f"holds {count} Lagrangian states"):
            read(state)
    with pytest.raises(ValueError, match=f"holds {count} Lagrangian states"):
        make_lagrangian_step(linear, cross_entropy, tx)(init_state(weights(), tx), people_of())


# --- the step ---------------------------------------------------------------------------------------------------------


def linear(params, x):
    return x @ params["w"] + params["b"]


def weights(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(4, 3)).astype(dtype), "b": rng.normal(size=3).astype(dtype)}


def people_of(groups=(0, 0, 0, 1, 1, 3, 3, 0), seed=1, weighted=False, dtype=np.float32):
    """A batch with these groups; group 2 of the four is absent."""
    rng = np.random.default_rng(seed)
    n = len(groups)
    weight = rng.choice([0.5, 1.0, 2.0], n) if weighted else np.ones(n)
    x = rng.normal(size=(n, 4)).astype(dtype)
    return Batch(x, rng.integers(0, 3, n), np.array(groups), weight.astype(np.float32))


def with_multipliers(state, multipliers):
    """The training state with these multipliers in place of zeros."""
    held = state.opt_state
    new = LagrangianState(jnp.asarray(multipliers, jnp.result_type(float)), held.dual, held.primal, held.constraint)
    return state._replace(opt_state=new)


def written_out(name, params, batch, multipliers, tolerance):
    """J + Σ_a λ_a s_a as a plain formula, group by group: the gaps as each constraint's definition has them."""
    losses = -jax.nn.log_softmax(linear(params, batch.x))[np.arange(len(batch.y)), batch.y]
    overall = jnp.sum(batch.weight * losses) / np.sum(batch.weight)
    value = overall
    for a in range(G):
        member = batch.group == a
        if member.any():
            gap = jnp.sum(batch.weight[member] * losses[member]) / np.sum(batch.weight[member]) - overall
            gap = {"equal_loss": jnp.abs(gap), "equal_loss_signed": gap, "loss_gap": gap - tolerance}[name]
            value = value + multipliers[a] * gap
    return value


@pytest.mark.parametrize("name", ["equal_loss", "equal_loss_signed", "loss_gap"])
def test_the_gradient_is_that_of_the_lagrangian_written_out(x64, name):
    """Steps of plain descent with rate 1, so that the change of the parameters is minus the gradient."""
    params, batch = weights(dtype=np.float64), people_of(weighted=True, dtype=np.float64)
    multipliers = np.array([0.5, 2.0, 7.0, 0.25])
    tx = lagrangian(optax.sgd(1.0), constraint_of(name, G, 0.125), optax.sgd(0.1))
    state = with_multipliers(init_state(params, tx), multipliers)
    after, logs = jax.jit(make_lagrangian_step(linear, cross_entropy, tx))(state, batch)
    value_at = jax.jit(jax.value_and_grad(lambda p, m: written_out(name, p, batch, m, 0.125)))
    (value, gradient), (overall, plain) = value_at(params, multipliers), value_at(params, np.zeros(G))
    taken = jax.tree.map(lambda old, new: old - new, params, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-13), taken, gradient)
    assert np.abs(ravel_pytree(gradient)[0] - ravel_pytree(plain)[0]).max() > 0.1  # the multipliers count
    expected = [value_at(params, unit)[0] - overall for unit in np.eye(G)]
    np.testing.assert_allclose(logs["violation"], expected, atol=1e-12)
    np.testing.assert_array_equal(logs["weights"], multipliers)  # those that the gradient was taken at
    np.testing.assert_allclose(logs["loss"] + logs["weights"] @ logs["violation"], value, rtol=1e-12)
    raised = multipliers + 0.1 * np.array(expected)
    np.testing.assert_allclose(multipliers_of(after.opt_state), raised, rtol=1e-12)
    np.testing.assert_array_equal(logs["multipliers"], multipliers_of(after.opt_state))
    assert after.step == 1


@ALONE
def test_the_first_step_is_the_plain_one(name):
    """The multipliers begin at 0."""
    params, batch, primal = weights(), people_of(), optax.sgd(0.1, momentum=0.9)
    tx = lagrangian(primal, constraint_of(name, G, 0.0), optax.sgd(0.1))
    constrained, logs = jax.jit(make_lagrangian_step(linear, cross_entropy, tx))(init_state(params, tx), batch)
    plain, plain_logs = jax.jit(make_step(linear, cross_entropy, primal))(init_state(params, primal), batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), constrained.params, plain.params)
    np.testing.assert_allclose(logs["loss"], plain_logs["loss"], rtol=1e-6)


@cache
def compiled_step(tx, network):
    return jax.jit(make_lagrangian_step(network, cross_entropy, tx))


def run_steps(tx, batches, params=None, network=linear):
    """The state after the batches, and what was logged at each; one program serves all."""
    step = compiled_step(tx, network)
    params = jax.tree.map(jnp.asarray, weights() if params is None else params)
    state, logged = step(init_state(params, tx), batches[0])
    logs = [logged]
    with compiles(0):
        for batch in batches[1:]:
            state, logged = step(state, batch)
            logs.append(logged)
    return state, logs


@ALONE
def test_padding_changes_nothing(name):
    batches = [people_of(seed=s, weighted=True) for s in range(3)]
    rng = np.random.default_rng(9)
    padded = []
    for batch in batches:
        more = Batch(rng.normal(size=(8, 4)), rng.integers(0, 3, 8), np.arange(8) % G, np.zeros(8))
        order = rng.permutation(16)
        padded.append(Batch(*(np.concatenate([a, b]).astype(a.dtype)[order] for a, b in zip(batch, more, strict=True))))
    tx = lagrangian(optax.sgd(0.1), constraint_of(name, G, 0.1), optax.sgd(0.5))
    (one, logs), (two, padded_logs) = run_steps(tx, batches), run_steps(tx, padded)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), (one, logs), (two, padded_logs))


@ALONE
def test_a_group_absent_from_every_batch_keeps_its_multiplier(name):
    """Also under a loss that is enormous, and while the other multipliers move; nobody at all moves nothing."""
    params = jax.tree.map(lambda leaf: 100 * leaf, weights())
    tx = lagrangian(optax.sgd(0.1), constraint_of(name, G, 0.1), optax.sgd(0.5))
    batches = [people_of(seed=s) for s in range(4)]
    nobody = batches[0]._replace(weight=np.zeros(8, np.float32))
    before, _ = run_steps(tx, batches, params)
    state, logs = run_steps(tx, [*batches, nobody], params)
    multipliers = np.asarray(multipliers_of(state.opt_state))
    assert multipliers[2] == 0
    assert (multipliers[[0, 1, 3]] != 0).any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, logs)))
    jax.tree.map(np.testing.assert_array_equal, state.params, before.params)
    np.testing.assert_array_equal(multipliers, multipliers_of(before.opt_state))
    assert logs[-1]["loss"] == 0


def count_products(jaxpr):
    """Matrix products in a traced program, those within its inner programs too."""
    total = 0
    for equation in jaxpr.eqns:
        total += equation.primitive.name == "dot_general"
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
            inner = getattr(inner, "jaxpr", inner)
            total += count_products(inner) if hasattr(inner, "eqns") else 0
    return total


@pytest.mark.parametrize("num_groups", [2, 16])
def test_one_forward_and_one_backward_pass_for_any_number_of_groups(num_groups):
    calls = []

    def apply(params, x):
        calls.append(x.shape)
        return jnp.tanh(x @ params["w"]) @ params["w"].T

    batch, params = people_of((0, 1, 0, 1, 0, 1)), weights()
    plain, tx = optax.sgd(0.1), lagrangian(optax.sgd(0.1), equal_loss(num_groups), optax.sgd(0.1))
    constrained = jax.make_jaxpr(make_lagrangian_step(apply, cross_entropy, tx))(init_state(params, tx), batch)
    assert calls == [(6, 4)]
    reference = jax.make_jaxpr(make_step(apply, cross_entropy, plain))(init_state(params, plain), batch)
    # Two forward, and for each the gradient of its kernel, and of its input but for the data.
    assert count_products(constrained.jaxpr) == count_products(reference.jaxpr) == 5


def test_statistics_of_the_network_are_updated_and_not_differentiated():
    network = Network(None, lambda params, stats, x, train: (linear(params, x), stats + train * x.mean(0)))
    tx = lagrangian(optax.sgd(0.1), equal_loss(G), optax.sgd(0.1))
    batch = people_of()
    state = init_state(weights(), tx, stats=jnp.zeros(4))
    after, _ = jax.jit(make_lagrangian_step(network, cross_entropy, tx))(state, batch)
    np.testing.assert_allclose(after.stats, batch.x.mean(0), rtol=1e-5)


# --- masks and accumulation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False])
def test_pruned_weights_stay_zero(inside):
    """The masks may be a part of the primal optimiser, or follow the Lagrangian in a chain."""
    masks = {"w": np.arange(12).reshape(4, 3) % 3 != 0, "b": np.ones(3, bool)}
    primal, dual = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9)), optax.sgd(0.5)
    if inside:
        tx = lagrangian(optax.chain(primal, keep_masked(masks)), equal_loss(G), dual)
    else:
        tx = optax.chain(lagrangian(primal, equal_loss(G), dual), keep_masked(masks))
    batches = [people_of(seed=s) for s in range(4)]
    state, _ = run_steps(tx, batches)
    np.testing.assert_array_equal(np.asarray(state.params["w"]) == 0, ~masks["w"])
    assert (np.asarray(multipliers_of(state.opt_state))[[0, 1, 3]] > 0).all()
    # Without masks, but on inputs of which the pruned weights are not there: the kept ones go the same way.
    free, _ = run_steps(
        lagrangian(primal, equal_loss(G), dual),
        batches,
        jax.tree.map(lambda p, m: np.where(m, p, 0), weights(), masks),
        network=lambda params, x: linear({**params, "w": jnp.where(masks["w"], params["w"], 0)}, x),
    )
    later, _ = run_steps(tx, batches, jax.tree.map(lambda p, m: np.where(m, p, 0), weights(), masks))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), free.params, later.params)


def test_multipliers_go_on_while_the_primal_accumulates():
    """MultiSteps as the primal optimiser: parameters move every second step, multipliers every step."""
    accumulate = optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation()
    tx = lagrangian(accumulate, loss_gap(G), optax.sgd(0.5))
    batch = people_of()
    first, _ = run_steps(tx, [batch])
    jax.tree.map(np.testing.assert_array_equal, first.params, weights())
    assert multipliers_of(first.opt_state).max() > 0
    second, _ = run_steps(tx, [batch] * 2)
    assert not np.allclose(second.params["w"], weights()["w"])


def test_multi_steps_around_the_lagrangian_take_one_step_for_two():
    """Both micro-batches alike, so that accumulating them is one step on either.

    `MultiSteps.gradient_transformation()` would drop the violation: it declares that it takes no extra arguments.
    """
    plain = lagrangian(optax.sgd(0.1), loss_gap(G), optax.sgd(0.5))
    multi_steps = optax.MultiSteps(plain, 2)
    accumulated = optax.GradientTransformationExtraArgs(multi_steps.init, multi_steps.update)
    one, two = people_of(seed=1), people_of(seed=2)
    expected, _ = run_steps(plain, [one, two])
    found, _ = run_steps(accumulated, [one, one, two, two])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found.params, expected.params)
    np.testing.assert_allclose(multipliers_of(found.opt_state), multipliers_of(expected.opt_state), rtol=1e-5)


# --- training ---------------------------------------------------------------------------------------------------------


def scalar(theta, x):
    return x * theta


def half_square(logits, y):
    return 0.5 * (logits[:, 0] - y) ** 2


# Six people want θ = 0 and two want θ = 4: the mean loss is least at θ = 1, and the losses are equal at θ = 2.
TWO_WISHES = Batch(
    np.ones((8, 1), np.float32), np.repeat([0, 4], [6, 2]), np.repeat([0, 1], [6, 2]), np.ones(8, np.float32)
)


def settle(constraint, dual_rate, steps=3000):
    tx = lagrangian(optax.sgd(0.02), constraint, optax.sgd(dual_rate))
    step = make_lagrangian_step(scalar, half_square, tx)
    run = jax.jit(lambda state: jax.lax.scan(lambda s, _: step(s, TWO_WISHES), state, length=steps))
    state, logs = run(init_state(jnp.zeros(1), tx))
    return float(state.params[0]), jax.tree.map(np.asarray, logs)


def test_no_multiplier_no_mitigation():
    theta, _ = settle(equal_loss(2), 0.0)
    assert theta == pytest.approx(1, abs=1e-4)


def test_signed_equality_makes_the_losses_equal():
    """J_a - J_b is linear in θ, so that the program is convex and its solution is θ = 2."""
    theta, logs = settle(equal_loss_signed(2), 0.02)
    assert theta == pytest.approx(2, abs=1e-3)
    np.testing.assert_allclose(logs["violation"][-1], 0, atol=1e-3)
    assert logs["multipliers"][-1][0] < 0 < logs["multipliers"][-1][1]


def test_absolute_equality_makes_the_losses_equal_and_its_multipliers_never_fall():
    theta, logs = settle(equal_loss(2), 0.005, 1000)
    assert theta == pytest.approx(2, abs=0.1)  # a kink: descent steps over it to and fro
    assert (np.diff(logs["multipliers"], axis=0) >= 0).all()
    # The term holds θ at its kink once its slope on the near side, λ_a + 3λ_b, is past J' = 1.
    assert logs["multipliers"][-1] @ [1, 3] > 1


@pytest.mark.parametrize(("tolerance", "expected"), [(0.0, 2.0), (1.5, 1.5), (2.0, 4 / 3), (5.0, 1.0)])
def test_a_gap_is_closed_to_its_tolerance(tolerance, expected):
    """J_b - J = ¾(J_b - J_a) = 6 - 3θ: the solution is θ = 2 - tolerance / 3, but 1 where that is slack."""
    theta, logs = settle(loss_gap(2, tolerance=tolerance), 0.01, 6000)
    assert theta == pytest.approx(expected, abs=2e-3)
    assert logs["violation"][-1].max() < 1e-2
    assert logs["multipliers"].min() >= 0
    # Stationarity: J' + λ_a v_a' + λ_b v_b' = 0 with J' = θ - 1, v_a' = 1 and v_b' = -3.
    a, b = logs["multipliers"][-1]
    assert a - 3 * b == pytest.approx(1 - expected, abs=5e-3)
    if tolerance:  # else both are active, and their multipliers not unique
        assert a == 0


def test_replicas_train_as_one_program_as_they_would_alone(people):
    tx = lagrangian(optax.sgd(0.05, momentum=0.9), equal_loss(3), optax.sgd(0.1))
    step = make_lagrangian_step(linear, cross_entropy, tx)
    each = [weights(seed) for seed in range(2)]
    keys = jax.random.split(jax.random.key(0), 2)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    states = jax.vmap(lambda params: init_state(params, tx))(stacked)
    state, logs = fit(step, states, people.train, key=keys, epochs=2, batch_size=32)
    assert multipliers_of(state.opt_state).shape == (2, 3)
    assert logs["violation"].shape == logs["multipliers"].shape == (2, 8, 3)
    for r, params in enumerate(each):
        alone, alone_logs = fit(step, init_state(params, tx), people.train, key=keys[r], epochs=2, batch_size=32)
        one = jax.tree.map(lambda leaf, r=r: leaf[r], state)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, alone)
        for name, values in alone_logs.items():
            np.testing.assert_allclose(logs[name][r], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_the_multipliers_are_the_sum_of_the_violations_of_every_step(people):
    """One dual step for each step of training, absent groups standing still."""
    tx = lagrangian(optax.sgd(0.1), equal_loss(3), optax.sgd(0.25))
    step = make_lagrangian_step(linear, cross_entropy, tx)
    state, logs = fit(step, init_state(weights(), tx), people.train, key=jax.random.key(0), epochs=3, batch_size=16)
    assert len(logs["loss"]) == 24
    running = np.cumsum(0.25 * logs["violation"], 0)
    np.testing.assert_allclose(logs["multipliers"], running, atol=1e-5)
    np.testing.assert_allclose(logs["weights"], np.concatenate([np.zeros((1, 3)), running[:-1]]), atol=1e-5)
    np.testing.assert_allclose(multipliers_of(state.opt_state), running[-1], rtol=1e-5)
