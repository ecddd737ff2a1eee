"""Dual updates and schemes: trajectories by hand, and convergence to exact KKT points of quadratic programs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune.errors import UserError
from jaxprune.mitigation import (
    DUALS,
    SCHEMES,
    Constraint,
    ascent,
    cap,
    lagrangian,
    multipliers_of,
    nu_pi,
    over_batches,
    restart_when_feasible,
)


def given(statistics, tolerance):
    return statistics.loss


def on_multipliers(num, inequality):
    """A constraint whose violation is computed by the test and handed to the update."""
    return Constraint(num, inequality, given)


def trajectory(dual, violations, present=None, inequality=False):
    """The multipliers after each of the violations [T, G]."""
    violations = np.atleast_2d(np.asarray(violations, np.float32).T).T
    tx = lagrangian(optax.sgd(0.1), on_multipliers(violations.shape[1], inequality), dual)
    x = jnp.zeros(1)
    state, seen = tx.init(x), []
    update = jax.jit(lambda state, violation, here: tx.update(x, state, x, violation=violation, present=here)[1])
    for t, violation in enumerate(violations):
        here = jnp.ones(len(violation), bool) if present is None else jnp.asarray(present[t])
        state = update(state, violation, here)
        seen.append(np.asarray(multipliers_of(state)))
    return np.array(seen)


# --- by hand ----------------------------------------------------------------------------------------------------------

ERRORS = [1.0, 0.5, -0.2, 0.3]


@pytest.mark.parametrize(
    ("nu", "start", "expected"),
    [
        # ξ_{-1} = e_0: the first step is plain ascent. Numbers worked out from the recursion as it is documented.
        (0.0, "sgd", [0.1, 0.1, 0.01, 0.09]),
        (0.9, "sgd", [0.1, 0.145, 0.1135, 0.13815]),
        (0.9, "zeros", [0.11, 0.164, 0.1406, 0.17254]),
    ],
)
def test_nu_pi_by_hand(nu, start, expected):
    found = trajectory(nu_pi(0.1, nu=nu, start=start), ERRORS)[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_nu_pi_without_its_proportional_term_is_ascent():
    one = trajectory(nu_pi(0.1, nu=0.5, proportional=0.0), ERRORS)
    np.testing.assert_allclose(one, trajectory(ascent(0.1), ERRORS), atol=1e-7)


def test_nu_pi_of_an_absent_group_stands_still():
    """Also where it is absent from the start: its first violation is then the one it begins with."""
    here = [[True, False], [False, True], [True, True]]
    both = trajectory(nu_pi(0.1, nu=0.9), [[1.0, 0], [0, 0.7], [0.5, 0.2]], here)
    np.testing.assert_allclose(both[:, 0], [0.1, 0.1, 0.145], atol=1e-6)
    alone = trajectory(nu_pi(0.1, nu=0.9), [0.7, 0.2])
    np.testing.assert_allclose(both[1:, 1], alone[:, 0], atol=1e-6)
    assert both[0, 1] == 0


def test_ascent_by_hand():
    np.testing.assert_allclose(trajectory(ascent(0.5), [1.0, -0.4])[:, 0], [0.5, 0.3], atol=1e-6)
    # λ' = λ + 0.5 (v - 0.2 λ)
    np.testing.assert_allclose(trajectory(ascent(0.5, decay=0.2), [1.0, 1.0])[:, 0], [0.5, 0.95], atol=1e-6)
    # heavy ball: m' = 0.9 m + v
    np.testing.assert_allclose(trajectory(ascent(0.5, momentum=0.9), [1.0, 1.0])[:, 0], [0.5, 1.45], atol=1e-6)


@pytest.mark.parametrize(("mean", "expected"), [(False, [0, 0.75, 0.75, 0.8]), (True, [0, 0.375, 0.375, 0.4])])
def test_one_dual_step_for_several_batches(mean, expected):
    with pytest.raises(UserError, match="lowers the multiplier"):
        over_batches(optax.sgd(-0.1), 2)
    found = trajectory(over_batches(ascent(0.5), 2, mean=mean), ERRORS)[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_cap_holds_the_multipliers():
    found = trajectory(optax.chain(ascent(1.0), cap(1.2)), [1.0, 0.5, -3.0, 0.7])[:, 0]
    np.testing.assert_allclose(found, [1.0, 1.2, -1.2, -0.5], atol=1e-6)


def test_a_restart_forgets_the_weight_of_a_constraint_that_holds():
    errors = [[1.0, 1.0], [2.0, -0.1], [0.0, 0.5]]
    found = trajectory(restart_when_feasible(ascent(1.0)), errors, inequality=True)
    np.testing.assert_allclose(found, [[1, 1], [3, 0], [3, 0.5]], atol=1e-6)
    absent = trajectory(restart_when_feasible(ascent(1.0)), [1.0, -0.0], [[True], [False]], inequality=True)
    np.testing.assert_allclose(absent[:, 0], [1, 1])


def problem(inequality):
    """½‖x‖² - cᵀx subject to x_0 + x_1 (= or <=) 1."""
    matrix, bound = np.array([[1.0, 1.0]]), np.array([1.0])
    return np.eye(2), np.array([2.0, 1.0]), matrix, bound, inequality


def measure_of(q, c, matrix, bound):
    def measure(x, choose):
        violation = matrix @ x - bound
        weights = choose({"violation": violation})
        return q @ x - c + matrix.T @ weights, {"violation": violation}, weights

    return measure


@pytest.mark.parametrize(
    ("scheme", "penalty", "expected_x", "expected_multiplier"),
    [
        # From x = (1, 1), λ = 0: violation 1, f' = (-1, 0). x' = x - 0.1 (f' + w), λ' = 0.5 v.
        ("simultaneous", 0.0, [1.1, 1.0], 0.5),  # w = 0
        ("alternating", 0.0, [1.05, 0.95], 0.5),  # w = λ' = 0.5
        ("simultaneous", 2.0, [0.9, 0.8], 0.5),  # w = 0 + 2 · 1
        # Trial x = (1.1, 1), λ = 0.5; there v = 1.1 and f' + λ = (-0.9 + 0.5, 0.5); applied to the old point.
        ("extragradient", 0.0, [1.04, 0.95], 0.55),
    ],
)
def test_one_step_of_each_scheme_by_hand(x64, scheme, penalty, expected_x, expected_multiplier):
    q, c, matrix, bound, inequality = problem(True)
    tx = lagrangian(optax.sgd(0.1), on_multipliers(1, inequality), ascent(0.5), penalty=penalty)
    x = jnp.ones(2)
    x, state, _ = SCHEMES[scheme](measure_of(q, c, matrix, bound), tx, x, tx.init(x))
    np.testing.assert_allclose(x, expected_x, atol=1e-6)
    np.testing.assert_allclose(multipliers_of(state), [expected_multiplier], atol=1e-6)


# --- convergence ------------------------------------------------------------------------------------------------------

Q = np.array([[2.0, 0.5, 0.0], [0.5, 1.5, -0.25], [0.0, -0.25, 1.0]])
C = np.array([1.0, -2.0, 0.5])


def kkt(matrix, bound):
    """x and λ that solve the linear KKT system of equalities."""
    size = len(bound)
    system = np.block([[Q, matrix.T], [matrix, np.zeros((size, size))]])
    solution = np.linalg.solve(system, np.concatenate([C, bound]))
    return solution[:3], solution[3:]


# name -> (transformation, penalty)
UPDATES = {
    "ascent": (lambda: ascent(0.05), 0.0),
    "momentum": (lambda: ascent(0.02, momentum=0.5), 0.0),
    "sum of five batches": (lambda: over_batches(ascent(0.02), 5), 0.0),
    "mean of five batches": (lambda: over_batches(ascent(0.1), 5, mean=True), 0.0),
    "nu_pi": (lambda: nu_pi(0.05, nu=0.5, proportional=2.0), 0.0),
    "capped": (lambda: optax.chain(ascent(0.05), cap(50.0)), 0.0),
    "augmented": (lambda: ascent(0.1), 2.0),
    "adam": (lambda: optax.adam(optax.exponential_decay(0.02, 200, 0.7)), 0.0),
}


def settle(dual, penalty, scheme, matrix, bound, inequality, start, steps=5000):
    tx = lagrangian(optax.sgd(0.05), on_multipliers(len(bound), inequality), dual, penalty=penalty)
    measure = measure_of(Q, C, matrix, bound)

    @jax.jit
    def run(x):
        def body(carry, _):
            x, state, _ = SCHEMES[scheme](measure, tx, *carry)
            return (x, state), multipliers_of(state)

        return jax.lax.scan(body, (x, tx.init(x)), length=steps)

    (x, state), multipliers = run(jnp.asarray(start))
    return np.asarray(x), np.asarray(multipliers_of(state)), np.asarray(multipliers)


def every_pair():
    """Dual updates and schemes; of the pairs, those that only combine what others try are left to the slow tests."""
    daily = ("ascent", "nu_pi", "augmented")
    return [
        pytest.param(name, scheme, marks=() if name in daily or scheme == "simultaneous" else pytest.mark.slow)
        for name in UPDATES
        for scheme in SCHEMES
    ]


@pytest.mark.parametrize(("name", "scheme"), every_pair())
def test_equalities_converge_to_the_solution_of_the_kkt_system(x64, name, scheme):
    matrix, bound = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, -2.0]]), np.array([1.0, -0.5])
    x, multipliers = kkt(matrix, bound)
    assert (multipliers < 0).any()  # multipliers of equalities have either sign
    make, penalty = UPDATES[name]
    found = settle(make(), penalty, scheme, matrix, bound, False, np.zeros(3))
    np.testing.assert_allclose(found[0], x, atol=1e-4)
    np.testing.assert_allclose(found[1], multipliers, atol=1e-4)


INEQUALITIES = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, 1.0]]), np.array([0.5, 3.0])


@pytest.mark.parametrize(("name", "scheme"), every_pair())
def test_inequalities_converge_to_the_kkt_point_with_the_slack_one_at_zero(x64, name, scheme):
    """The first is active and the second slack, though violated at the start: its multiplier rises and falls again."""
    matrix, bound = INEQUALITIES
    x, active = kkt(matrix[:1], bound[:1])
    assert active[0] > 0.1
    assert matrix[1] @ x < bound[1] - 0.1
    make, penalty = UPDATES[name]
    found = settle(make(), penalty, scheme, matrix, bound, True, np.array([0.0, 6.0, 6.0]))
    assert found[2][:, 1].max() > 0
    assert found[2].min() >= 0
    np.testing.assert_allclose(found[0], x, atol=1e-4)
    np.testing.assert_allclose(found[1], [active[0], 0], atol=1e-4)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_restarts_reach_the_same_point_where_it_is_approached_from_outside(x64, scheme):
    """A slow dual never oversteps the active constraint, so that nothing is restarted but the slack one."""
    matrix, bound = INEQUALITIES
    x, active = kkt(matrix[:1], bound[:1])
    # The slack is for the rounding of the float32 multipliers, which oversteps by 1e-8.
    dual = restart_when_feasible(ascent(0.002), slack=1e-4)
    found = settle(dual, 0.0, scheme, matrix, bound, True, np.array([0.0, 6.0, 6.0]), steps=6000)
    np.testing.assert_allclose(found[0], x, atol=1e-4)
    np.testing.assert_allclose(found[1], [active[0], 0], atol=1e-4)
    # Plain ascent works the slack one's multiplier off; the restart drops it at once.
    plain = settle(ascent(0.002), 0.0, scheme, matrix, bound, True, np.array([0.0, 6.0, 6.0]), steps=6000)
    assert (plain[2][:, 1] > 0).sum() > 2 * (found[2][:, 1] > 0).sum()


def test_decay_settles_where_the_violation_pays_for_it(x64):
    """λ = v / decay: (Q + AᵀA / decay) x = c + Aᵀb / decay."""
    matrix, bound = np.array([[1.0, 1.0, 0.0]]), np.array([1.0])
    x = np.linalg.solve(Q + matrix.T @ matrix / 0.5, C + matrix.T @ bound / 0.5)
    found = settle(ascent(0.05, decay=0.5), 0.0, "simultaneous", matrix, bound, False, np.zeros(3))
    np.testing.assert_allclose(found[0], x, atol=1e-4)
    np.testing.assert_allclose(found[1], (matrix @ x - bound) / 0.5, atol=1e-4)


def test_extragradient_converges_where_the_others_do_not(x64):
    """min_x max_λ xλ: alternating circles for ever, simultaneous spirals outwards, extragradient reaches 0."""

    def measure(x, choose):
        weights = choose({"violation": x})
        return weights, {"violation": x}, weights

    def radius(scheme):
        tx = lagrangian(optax.sgd(0.1), on_multipliers(1, False), ascent(0.1))
        x, state = jnp.ones(1), tx.init(jnp.ones(1))

        def body(carry, _):
            return SCHEMES[scheme](measure, tx, *carry)[:2], None

        x, state = jax.jit(lambda c: jax.lax.scan(body, c, length=1000))((x, state))[0]
        return float(jnp.hypot(x[0], multipliers_of(state)[0]))

    assert radius("simultaneous") > 2
    assert 0.5 < radius("alternating") < 2
    assert radius("extragradient") < 0.01


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ascent(-0.1), "rate: -0.1 is negative"),
        (lambda: ascent(0.1, decay=-1.0), "decay"),
        (lambda: nu_pi(-0.1), "rate"),
        (lambda: nu_pi(0.1, nu=1.0), "nu"),
        (lambda: nu_pi(0.1, start="end"), "start"),
        (lambda: cap(0.0), "radius"),
        (lambda: over_batches(ascent(0.1), 0), "batches"),
        (lambda: lagrangian(optax.sgd(0.1), on_multipliers(2, True), optax.sgd(-0.1)), "positive rate"),
        (lambda: lagrangian(optax.sgd(0.1), on_multipliers(2, True), ascent(0.1), penalty=-1.0), "penalty"),
        (lambda: lagrangian(optax.sgd(0.1), on_multipliers(2, True), ascent(0.1), buffer=-1), "buffer"),
    ],
)
def test_a_sign_that_is_wrong_is_refused(make, says):
    with pytest.raises(UserError, match=says):
        make().init(jnp.zeros(2))


@pytest.mark.parametrize("name", DUALS)
def test_every_named_dual_raises_the_multiplier_of_a_violated_constraint(name):
    found = trajectory(DUALS[name](0.1), [1.0, 1.0], inequality=True)[:, 0]
    assert 0 < found[0] < found[1]


def test_rates_may_differ_between_replicas():
    """The rate lies in the state, so that several rates train as one program."""

    def init(rate):
        return lagrangian(optax.sgd(0.1), on_multipliers(1, False), ascent(rate)).init(jnp.zeros(1))

    states = jax.vmap(init)(jnp.array([0.1, 0.2]))
    tx = lagrangian(optax.sgd(0.1), on_multipliers(1, False), ascent(9.0))
    x = jnp.zeros(1)
    states = jax.vmap(lambda s: tx.update(x, s, x, violation=jnp.ones(1))[1])(states)
    np.testing.assert_allclose(states.multipliers[:, 0], [0.1, 0.2], rtol=1e-6)
