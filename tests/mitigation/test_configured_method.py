"""The method that [mitigation] describes: every dual and constraint, against its parts put together by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles

from jaxprune.losses import cross_entropy
from jaxprune.mitigation import (
    CONSTRAINTS,
    DUALS,
    METHODS,
    SCHEMES,
    MethodInputs,
    carry,
    configured_method,
    dense_reference,
    lagrangian,
    make_lagrangian_step,
    method_data,
    method_step,
    method_transformation,
    multipliers_of,
)
from jaxprune.networks import Network
from jaxprune.training import fit, init_state


def forward(params, x):
    return x @ params["kernel"]


NETWORK = Network(None, lambda params, stats, x, train: (forward(params, x), stats))
PARAMS = {"kernel": jnp.asarray(np.random.default_rng(5).normal(size=(4, 3)), jnp.float32)}
RATES = jnp.array([0.1, 0.3])
KEYS = jnp.stack([jax.random.key(0)] * 2)


def surroundings(people):
    reference = dense_reference(forward, {"kernel": PARAMS["kernel"][::-1]}, people.train, num_groups=3)
    return MethodInputs(jnp.ones(3) / 3, jnp.ones(3) / 3, reference, jax.random.key(1))


def trained(method, people, values):
    """Two replicas of unlike hyperparameters, two steps as one program, and the same again: nothing compiles twice."""
    around = surroundings(people)

    def transformation(values):
        return method_transformation(method, optax.sgd(0.05), PARAMS, around, values)

    states = jax.jit(jax.vmap(lambda values: init_state(PARAMS, transformation(values))))(values)
    step = method_step(method, NETWORK, transformation(dict.fromkeys(values, 0.5)), num_groups=3)
    data = method_data(method, people.train, people.validation, num_groups=3)
    with compiles(1, of="epoch"):
        state, logs = fit(step, states, data, key=KEYS, epochs=1, batch_size=60)
        fit(step, state, data, key=KEYS, epochs=1, batch_size=60, start=0)
    return state, logs


def alone(parts, people, rate, tolerance):
    """The same two steps without `Method`: put together as a user of the library does it, all numbers fixed."""
    options = {"tolerance": tolerance} if parts["constraint"].endswith("gap") else {}
    constraint = CONSTRAINTS.make(parts["constraint"], 3, **options)
    tx = lagrangian(
        optax.sgd(0.05), constraint, DUALS[parts["dual"]](rate), penalty=parts["penalty"], buffer=parts["buffer"]
    )
    tx = optax.chain(tx, carry({"dense": surroundings(people).dense}))
    step = make_lagrangian_step(NETWORK, cross_entropy, tx, scheme=SCHEMES[parts["scheme"]])
    data = method_data(METHODS["ceag"], people.train, people.validation, num_groups=3)  # which knows its rows
    return fit(step, init_state(PARAMS, tx), data, key=jax.random.key(0), epochs=1, batch_size=60)


OTHERS = [
    ("equal_loss_signed", "simultaneous", 0.0, 0),
    ("loss_gap", "alternating", 2.0, 0),
    ("equal_excessive_loss", "simultaneous", 0.0, 0),
    ("excess_accuracy_gap", "alternating", 0.5, 20),
]
EVERY_DAY = [("equal_loss_signed", "nu_pi"), ("loss_gap", "restart"), ("equal_excessive_loss", "momentum")]


@pytest.mark.parametrize(
    ("constraint", "scheme", "penalty", "buffer", "dual"),
    [
        pytest.param(*other, dual, marks=() if (other[0], dual) in EVERY_DAY else pytest.mark.slow)
        for other in OTHERS
        for dual in DUALS
    ],
)
def test_every_dual_and_constraint_trains_as_configured(people, constraint, scheme, penalty, buffer, dual):
    """Against the same parts put together by hand, one replica at a time."""
    parts = {"constraint": constraint, "dual": dual, "scheme": scheme, "penalty": penalty, "buffer": buffer}
    method = configured_method(**parts)
    values = {"dual_rate": RATES} | ({"tolerance": jnp.array([0.0, 0.02])} if "tolerance" in method.candidates else {})
    assert ("tolerance" in method.candidates) == constraint.endswith("gap")
    state, logs = trained(method, people, values)
    assert logs["loss"].shape == (2, 2)
    for r in range(2):
        tolerance = [0.0, 0.02][r] if "tolerance" in values else 0.0
        expected, expected_logs = alone(parts, people, float(RATES[r]), tolerance)
        np.testing.assert_allclose(state.params["kernel"][r], expected.params["kernel"], atol=1e-5)
        np.testing.assert_allclose(
            multipliers_of(state.opt_state)[r], multipliers_of(expected.opt_state), rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(logs["multipliers"][r], expected_logs["multipliers"], rtol=1e-4, atol=1e-6)
    assert float(jnp.abs(logs["multipliers"][0] - logs["multipliers"][1]).max()) > 0


def test_equal_settings_give_one_method():
    one, two = (configured_method(constraint="loss_gap", dual="nu_pi", penalty=2.0) for _ in range(2))
    assert one is two, "its functions are then the same objects, and no step is compiled again"
    assert one.title == "As configured: loss_gap, nu_pi, penalty 2"
    assert configured_method(constraint="equal_loss", buffer=9).title == "As configured: equal_loss, ascent, buffer"
    assert configured_method(constraint="excess_accuracy_gap").needs_dense
    assert one.title not in {method.title for method in METHODS.values()}


def test_a_state_is_the_same_whatever_other_methods_are_compared(people):
    """Else a trial that was interrupted could not go on once a method that measures on held-out people is added."""
    dense = dense_reference(forward, PARAMS, people.train, num_groups=3, held_out=people.validation)
    values = {"dual_rate": 0.1, "tolerance": 0.0}
    around = (surroundings(people)._replace(dense=known) for known in (dense, dense._replace(held_out=None)))
    states = [method_transformation(METHODS["ceag"], optax.sgd(0.05), PARAMS, a, values).init(PARAMS) for a in around]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
