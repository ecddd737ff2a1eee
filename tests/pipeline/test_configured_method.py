"""The method that [mitigation] describes, in a comparison: duals and constraints, its candidates, its address."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles

from jaxprune import config, pipeline
from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.mitigation import (
    CONSTRAINTS,
    DUALS,
    METHODS,
    Surroundings,
    configured_method,
    dense_reference,
    hold,
    lagrangian,
    make_lagrangian_step,
    method_data,
    method_step,
    method_transformation,
    multipliers_of,
)
from jaxprune.pipeline.context import Context, Silent
from jaxprune.pipeline.experiment import resolve
from jaxprune.pipeline.protocol import candidates, method_of
from jaxprune.pipeline.stage import Workspace
from jaxprune.pipeline.trials import trial_stage
from jaxprune.training import fit, init_state
from jaxprune.types import Network


def forward(params, x):
    return x @ params["kernel"]


NETWORK = Network(None, lambda params, stats, x, train: (forward(params, x), stats))
PARAMS = {"kernel": jnp.asarray(np.random.default_rng(5).normal(size=(4, 3)), jnp.float32)}
RATES = jnp.array([0.1, 0.3])
KEYS = jnp.stack([jax.random.key(0)] * 2)


def surroundings(people):
    reference = dense_reference(forward, {"kernel": PARAMS["kernel"][::-1]}, people.train, num_groups=3)
    return Surroundings(jnp.ones(3) / 3, jnp.ones(3) / 3, reference, jax.random.key(1))


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
    constraint = CONSTRAINTS[parts["constraint"]](3, tolerance)
    tx = lagrangian(
        optax.sgd(0.05), constraint, DUALS[parts["dual"]](rate), penalty=parts["penalty"], memory=parts["memory"]
    )
    tx = optax.chain(tx, hold({"dense": surroundings(people).dense}))
    step = make_lagrangian_step(NETWORK, cross_entropy, tx, scheme=parts["scheme"])
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
    ("constraint", "scheme", "penalty", "memory", "dual"),
    [
        pytest.param(*other, dual, marks=() if (other[0], dual) in EVERY_DAY else pytest.mark.slow)
        for other in OTHERS
        for dual in DUALS
    ],
)
def test_every_dual_and_constraint_trains_as_configured(people, constraint, scheme, penalty, memory, dual):
    """Against the same parts put together by hand, one replica at a time."""
    parts = {"constraint": constraint, "dual": dual, "scheme": scheme, "penalty": penalty, "memory": memory}
    method = configured_method(**parts)
    values = {"dual_rate": RATES} | ({"tolerance": jnp.array([0.0, 0.02])} if "tolerance" in method.tuned else {})
    assert ("tolerance" in method.tuned) == constraint.endswith("gap")
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
    assert configured_method(constraint="equal_loss", memory=9).title == "As configured: equal_loss, ascent, buffer"
    assert configured_method(constraint="excess_accuracy_gap").needs_dense
    assert one.title not in {method.title for method in METHODS.values()}


# --- in a comparison --------------------------------------------------------------------------------------------------

SMALL = {
    "data.name": "synthetic", "model.hidden": (4,), "seeds": 2, "train.epochs": 1, "train.batch_size": 256,
    "prune.sparsities": (0.5,), "retrain.epochs": 1, "compare.methods": ("configured", "equal_loss_buffer"),
    "compare.dual_rates": (0.01,), "mitigation.constraint": "excess_accuracy_gap", "mitigation.dual": "nu_pi",
    "mitigation.dual_rate": 0.05, "mitigation.tolerance": 0.03, "compare.tolerances": (0.0,),
}  # fmt: skip


def test_what_the_settings_say_is_among_the_candidates():
    found = candidates(config.load(None, SMALL), "configured")
    assert [(c["dual_rate"], c["tolerance"]) for c in found] == [(0.01, 0.0), (0.01, 0.03), (0.05, 0.0), (0.05, 0.03)]
    equal = SMALL | {"mitigation.constraint": "equal_loss_signed", "mitigation.tolerance": 0.0}
    assert candidates(config.load(None, equal), "configured") == [{"dual_rate": 0.01}, {"dual_rate": 0.05}]
    assert candidates(config.load(None, SMALL), "equal_loss_buffer") == [{"dual_rate": 0.01}]
    with pytest.raises(UserError, match="unknown method 'configurd'; did you mean 'configured'"):
        method_of(config.load(None, SMALL), "configurd")


def test_its_address_depends_on_the_settings_that_decide_it_and_on_no_others(tmp_path):
    experiment = resolve(config.load(None, SMALL))

    def address(name="configured", **mitigation):
        from dataclasses import replace

        section = experiment.settings.mitigation.model_copy(update=mitigation)
        changed = replace(experiment, settings=experiment.settings.model_copy(update={"mitigation": section}))
        context = Context(changed, Workspace(tmp_path), Silent(), 30)
        return trial_stage(context, name, 0.5, {"dual_rate": 0.1}).address

    decided = {"constraint": "loss_gap", "dual": "ascent", "scheme": "alternating", "penalty": 1.0, "memory": 7}
    addresses = [address(**{name: value}) for name, value in decided.items()]
    assert len({address(), *addresses}) == 1 + len(decided)
    assert address(dual_rate=0.5, tolerance=0.2, methods=("none",)) == address()
    assert address("equal_loss_buffer", **decided) == address("equal_loss_buffer")


@pytest.mark.slow
def test_a_comparison_trains_it_even_with_a_constraint_that_a_run_refuses(tmp_path):
    settings = config.load(None, SMALL | {"compare.methods": ("configured",), "compare.dual_rates": (0.05,)})
    found = pipeline.compare(settings, tmp_path / "compared").comparison
    assert found.titles["configured"] == "As configured: excess_accuracy_gap, nu_pi"
    assert found.inequality == {"configured": True}
    assert [t.values for t in found.trials if t.method == "configured"] == [
        {"dual_rate": 0.05, "tolerance": 0.0}, {"dual_rate": 0.05, "tolerance": 0.03}
    ]  # fmt: skip
    assert all(t.multipliers is not None and not t.trouble for t in found.trials if t.method == "configured")
    with pytest.raises(UserError, match=r"mitigation.constraint: excess_accuracy_gap compares with the dense.*compare"):
        pipeline.run(settings, tmp_path / "run")
    plain = settings.model_copy(update={"mitigation": settings.mitigation.model_copy(update={"methods": ("none",)})})
    assert "dense" in pipeline.run(plain, tmp_path / "run", until="train").made


def test_a_method_is_tried_at_rates_of_its_own_where_the_settings_name_none():
    settings = config.load(None, {"compare.methods": ["naive", "full_program"]})
    assert [tried["dual_rate"] for tried in candidates(settings, "full_program")] == [0.0001, 0.001]
    named = config.load(None, {"compare.methods": ["naive", "full_program"], "compare.dual_rates": [0.5]})
    assert candidates(named, "full_program") == [{"dual_rate": 0.5}]


def test_a_state_is_the_same_whatever_other_methods_are_compared(people):
    """Else a trial that was interrupted could not go on once a method that measures on held-out people is added."""
    dense = dense_reference(forward, PARAMS, people.train, num_groups=3, held_out=people.validation)
    values = {"dual_rate": 0.1, "tolerance": 0.0}
    around = (surroundings(people)._replace(dense=known) for known in (dense, dense._replace(held_out=None)))
    states = [method_transformation(METHODS["ceag"], optax.sgd(0.05), PARAMS, a, values).init(PARAMS) for a in around]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
