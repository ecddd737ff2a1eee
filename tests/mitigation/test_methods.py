"""Every method on one contract, the rivals' objectives against their formulas, and the full program."""

from dataclasses import fields, replace
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles
from jax.flatten_util import ravel_pytree

from jaxprune.data import indexed_batch
from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.mitigation import (
    CONSTRAINTS,
    METHODS,
    FullProgram,
    GroupDRO,
    MethodInputs,
    ascent,
    carry,
    dense_reference,
    distillation,
    full_program_transformation,
    logit_adjusted,
    make_full_program_step,
    make_group_dro_step,
    method_data,
    method_step,
    method_transformation,
    performance_weighted,
    reweighted,
)
from jaxprune.mitigation.carried_values import carried
from jaxprune.mitigation.methods.full_program import top_directions
from jaxprune.mitigation.methods.group_dro import group_dro_weights
from jaxprune.mitigation.multipliers import lagrangian_states
from jaxprune.networks import Network
from jaxprune.pruning import CRITERIA, keep_masked, prune
from jaxprune.training import fit, init_state


def forward(params, x):
    return jnp.tanh(x @ params["in"]["kernel"]) @ params["out"]["kernel"] + params["out"]["bias"]


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "in": {"kernel": jnp.asarray(rng.normal(size=(4, 6)), jnp.float32)},
        "out": {"kernel": jnp.asarray(rng.normal(size=(6, 3)), jnp.float32), "bias": jnp.zeros(3)},
    }


def inputs_of(people, dense):
    """What the methods need to know, computed once for each dense network."""
    at = (id(people), float(dense["in"]["kernel"][0, 0]))
    if at not in KNOWN:
        KNOWN[at] = _inputs_of(people, dense)
    return KNOWN[at]


KNOWN = {}


def _inputs_of(people, dense):
    shares = jnp.asarray(np.bincount(people.train.group) / len(people.train.y), jnp.float32)
    labels = jnp.asarray(np.bincount(people.train.y) / len(people.train.y), jnp.float32)
    reference = dense_reference(forward, dense, people.train, num_groups=3, held_out=people.validation)
    return MethodInputs(shares, labels, reference, jax.random.key(1))


# --- the contract -----------------------------------------------------------------------------------------------------


# Made of the same parts as others that are tried every day.
SLOW = ("naive_best", "equal_loss_buffer", "equal_loss_signed", "equal_loss_held_out", "equal_harm", "ceag", "loss_gap")
SLOW += (
    "equal_loss_nupi",
    "fairgrape",
    "fairprune",
    "curvature",
    "spared",
    "spared_distilled",
    "spared_equal_loss",
    "spared_adjusted",
    "full_program",
)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in METHODS])
def test_every_method_keeps_the_contract(name, people):
    """Pruned weights stay 0, hyperparameters differ by replica in one program, nothing compiles twice."""
    method, dense, passes = METHODS[name], weights(), []

    def apply(params, stats, x, train):
        passes.append(train)
        return forward(params, x), stats

    network = Network(None, apply)
    criterion = CRITERIA.make(method.criterion or "magnitude")
    pruned, masks = prune(dense, 0.5, criterion=criterion, apply=forward, batch=people.train, num_groups=3)
    around = inputs_of(people, dense)
    primal = optax.chain(optax.sgd(0.05, momentum=0.9), keep_masked(masks))
    candidates = {hyper: jnp.array([min(values), max(values) + 0.01]) for hyper, values in method.candidates.items()}

    def init(values):
        return init_state(pruned, method_transformation(method, primal, pruned, around, values))

    states = jax.jit(jax.vmap(init, axis_size=2))(candidates)
    some = dict.fromkeys(candidates, 0.5)
    step = method_step(method, network, method_transformation(method, primal, pruned, around, some), num_groups=3)
    data = method_data(method, people.train, people.validation, num_groups=3)
    keys = jnp.stack([jax.random.key(0)] * 2)
    with compiles(1, of="epoch"):
        state, logs = fit(step, states, data, key=keys, epochs=2, batch_size=32)
        fit(step, states, data, key=keys, epochs=1, batch_size=32)
    assert logs["loss"].shape == (2, 8)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, logs)))
    jax.tree.map(lambda p, m: np.testing.assert_array_equal(np.asarray(p)[:, ~np.asarray(m)], 0), state.params, masks)
    one, two = (ravel_pytree(jax.tree.map(lambda leaf, r=r: leaf[r], state.params))[0] for r in range(2))
    assert bool((one != two).any()) == bool(method.candidates), "the hyperparameters count, and nothing else differs"
    # One forward pass, in training mode, which is differentiated; the held-out people take one of their own.
    full_program = isinstance(method.program, FullProgram)
    if not full_program:
        assert passes == [True] + [False] * method.held_out
    assert (len(lagrangian_states(state.opt_state)) == 1) == (method.constraint is not None or full_program)
    if method.constraint is not None or full_program or isinstance(method.program, GroupDRO):
        assert logs["multipliers"].shape == (2, 8, 6 if full_program else 3)
    assert method.title
    assert method.about.endswith(".")


@pytest.mark.parametrize("name", ["equal_loss", "ceag", "group_dro", "reweighted", "balanced", "full_program"])
def test_a_group_without_examples_is_refused_where_it_would_be_asked_for(name, people):
    with pytest.raises(UserError, match="group 3 has no training examples"):
        method_data(METHODS[name], people.train, people.validation, num_groups=4)
    padding = people.train._replace(weight=np.where(people.train.group == 2, 0, 1).astype(np.float32))
    with pytest.raises(UserError, match="group 2 has no training examples"):
        method_data(METHODS[name], padding, people.validation, num_groups=3)
    assert method_data(METHODS["naive"], people.train, people.validation, num_groups=4) is people.train


def test_titles_are_unlike():
    assert len({method.title for method in METHODS.values()}) == len(METHODS)


def test_three_differ_from_their_neighbours_by_one_setting():
    signed = METHODS["equal_loss_signed"]
    for name, own in {"equal_loss_nupi": "dual", "equal_loss_augmented": "penalty", "loss_gap": "constraint"}.items():
        differing = {f.name for f in fields(signed) if getattr(METHODS[name], f.name) != getattr(signed, f.name)}
        one, other = METHODS[name].program, signed.program
        differing |= {f.name for f in fields(other) if getattr(one, f.name) != getattr(other, f.name)}
        differing |= METHODS[name].fixed.keys()
        expected = {"penalty", "fixed"} if own == "penalty" else {own, "program"}
        assert differing - {"title", "about"} == expected | ({"candidates"} if name == "loss_gap" else set())
    assert METHODS["loss_gap"].constraint(3) == CONSTRAINTS["loss_gap"](3)


def test_methods_of_one_program_share_it_and_others_do_not():
    """The pipeline compiles one step for each program."""
    names = {}
    for name, method in METHODS.items():
        names.setdefault(method.program, []).append(name)
    shared = {tuple(group) for group in names.values() if len(group) > 1}
    assert shared == {
        ("naive", "naive_best", "balanced", "fairgrape", "fairprune", "curvature", "spared"),
        ("equal_loss_signed", "equal_loss_augmented", "spared_equal_loss"),
        ("spared_distilled", "distilled"),
        ("spared_adjusted", "logit_adjusted"),
    }


def test_needs_of_methods_follow_from_their_parts():
    needs = {name: method.needs for name, method in METHODS.items()}
    assert needs["naive"] == frozenset()
    assert needs["distilled_ceag"] == {"groups", "dense", "held_out", "buffer"}
    assert needs["equal_loss_buffer"] == {"groups", "buffer"}
    assert needs["balanced"] == {"groups", "rows"}
    assert needs["logit_adjusted"] == {"label_shares"}
    imitating = ["performance_weighted", "spared_distilled", "distilled", "distilled_ceag"]
    comparing = ["equal_harm", "ceag", "ceag_held_out"]
    assert {name for name, method in METHODS.items() if method.needs_dense} == {*imitating, *comparing}
    groupless = {
        "naive", "naive_best", "performance_weighted", "distilled", "logit_adjusted", "fairgrape", "fairprune",
        "curvature", "spared", "spared_distilled", "spared_adjusted",  # whose masks know the groups, not their training
    }  # fmt: skip
    assert {name for name, method in METHODS.items() if not method.needs_groups} == groupless


def test_the_penalty_and_the_dual_of_a_method_reach_its_step(people):
    """The first step by hand: the multipliers are 0, so that the weights are what penalty and dual make of g."""
    params, rate = weights(), 0.1
    losses = np.asarray(cross_entropy(forward(params, people.train.x), people.train.y))
    gap = np.array([losses[people.train.group == a].mean() for a in range(3)]) - losses.mean()
    expected = {
        "equal_loss_signed": rate * gap,
        "equal_loss_nupi": rate * gap,  # νPI begins as ascent does
        "equal_loss_augmented": rate * gap + 1.0 * gap,
        "loss_gap": np.maximum(rate * (gap - 0.01), 0),
    }
    for name, first in expected.items():
        values = {"dual_rate": jnp.float32(rate)} | ({"tolerance": jnp.float32(0.01)} if name == "loss_gap" else {})
        around = inputs_of(people, params)
        tx = method_transformation(METHODS[name], optax.sgd(0.5), params, around, values)
        step = jax.jit(method_step(METHODS[name], forward, tx, num_groups=3))
        state, logs = step(init_state(params, tx), people.train)
        np.testing.assert_allclose(logs["weights"], first, atol=1e-5)
        if name == "equal_loss_nupi":  # and its second step has K_I e + K_P (1 - ν) (e - e before), K_P = 5, ν = 0.9
            _, second = step(state, people.train)
            e, before = (np.asarray(log["violation"]) for log in (second, logs))
            change = rate * (e + 5.0 * 0.1 * (e - before))
            np.testing.assert_allclose(second["weights"] - logs["weights"], change, atol=1e-5)


# --- objectives -------------------------------------------------------------------------------------------------------


def held_for(people, **values):
    around = inputs_of(people, weights(1))
    held = {"dense": around.dense, "shares": around.shares, "label_shares": around.label_shares}
    return held | {name: jnp.asarray(value) for name, value in values.items()}


def logits_on(people, seed=0):
    return np.asarray(forward(weights(seed), people.train.x), np.float64)


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize(("share", "temperature"), [(0.0, 1.0), (1.0, 1.0), (0.3, 4.0)])
def test_distillation_by_its_formula(people, share, temperature):
    data = indexed_batch(people.train)
    found = distillation(jnp.asarray(logits_on(people)), data, held_for(people, share=share, temperature=temperature))
    p, q = softmax(logits_on(people, 1) / temperature), softmax(logits_on(people) / temperature)
    divergence = np.sum(p * np.log(p / q), 1)
    plain = -np.log(softmax(logits_on(people))[np.arange(120), people.train.y])
    np.testing.assert_allclose(found, (1 - share) * plain + share * temperature**2 * divergence, atol=1e-4)


def test_distillation_of_the_dense_network_into_itself_is_0(people):
    values = held_for(people, share=1.0, temperature=2.0)
    found = distillation(values["dense"].logits, indexed_batch(people.train), values)
    np.testing.assert_allclose(found, 0, atol=1e-6)


def test_the_performance_weighted_loss_by_its_formula(people):
    values = held_for(people, floor=0.75, sharpness=5.0)
    found = performance_weighted(jnp.asarray(logits_on(people)), indexed_batch(people.train), values)
    p, q = softmax(logits_on(people, 1)), softmax(logits_on(people))
    for i, y in enumerate(people.train.y):
        weight = 0.75 + 0.25 * (1 - p[i, y]) ** 5
        target = p[i] if p[i].argmax() == y else np.eye(3)[y]
        assert found[i] == pytest.approx(-weight * np.sum(target * np.log(q[i])), abs=1e-4)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_reweighting_by_its_formula(people, power):
    found = reweighted(jnp.asarray(logits_on(people)), people.train, held_for(people, power=power))
    plain = np.asarray(cross_entropy(logits_on(people).astype(np.float32), people.train.y))
    weight = np.bincount(people.train.group)[people.train.group] ** -power
    np.testing.assert_allclose(found, plain * weight / weight.mean(), rtol=1e-4, atol=1e-5)
    if power == 1:  # the mean over groups
        groups = [plain[people.train.group == g].mean() for g in range(3)]
        assert float(found.mean()) == pytest.approx(np.mean(groups), rel=1e-4)


def test_logit_adjustment_by_its_formula(people):
    found = logit_adjusted(jnp.asarray(logits_on(people)), people.train, held_for(people, strength=0.5))
    shares = np.bincount(people.train.y) / 120
    expected = -np.log(softmax(logits_on(people) + 0.5 * np.log(shares))[np.arange(120), people.train.y])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_two_steps_of_group_dro_by_hand():
    q = jnp.full(3, 1 / 3)
    first = group_dro_weights(q, jnp.array([1.0, 2.0, 0.0]), jnp.array([3.0, 1.0, 2.0]), jnp.float32(0.5))
    e = np.exp(0.5 * np.array([1.0, 2.0, 0.0]))
    np.testing.assert_allclose(first, e / e.sum(), rtol=1e-5)
    # Group 1 is absent: it keeps its weight, and the others share what is left.
    second = group_dro_weights(first, jnp.array([3.0, 0.0, 1.0]), jnp.array([1.0, 0.0, 1.0]), jnp.float32(0.5))
    raised = np.asarray(first)[[0, 2]] * np.exp(0.5 * np.array([3.0, 1.0]))
    assert second[1] == first[1]
    np.testing.assert_allclose(second[jnp.array([0, 2])], raised / raised.sum() * (1 - first[1]), rtol=1e-5)
    nobody = group_dro_weights(first, jnp.zeros(3), jnp.zeros(3), jnp.float32(0.5))
    np.testing.assert_array_equal(nobody, first)
    huge = group_dro_weights(q, jnp.array([1e4, 0.0, 0.0]), jnp.ones(3), jnp.float32(1.0))
    np.testing.assert_allclose(huge, [1, 0, 0], atol=1e-6)


def test_group_dro_takes_the_gradient_at_the_new_weights(people):
    tx = optax.chain(optax.sgd(1.0), carry({"q": jnp.full(3, 1 / 3), "rate": jnp.float32(0.5)}))
    params = weights()
    step = jax.jit(make_group_dro_step(forward, cross_entropy, tx, num_groups=3))
    state, logs = step(init_state(params, tx), people.train)

    def means(params):
        losses = cross_entropy(forward(params, people.train.x), people.train.y)
        return jnp.array([losses @ (people.train.group == g) / (people.train.group == g).sum() for g in range(3)])

    q = np.exp(0.5 * means(params))
    q = q / q.sum()
    np.testing.assert_allclose(logs["multipliers"], q, rtol=1e-4)
    np.testing.assert_allclose(carried(state.opt_state)["q"], q, rtol=1e-4)
    gradient = jax.grad(lambda p: q @ means(p))(params)
    jax.tree.map(
        lambda old, new, g: np.testing.assert_allclose(old - new, g, atol=1e-5), params, state.params, gradient
    )


# --- the full program -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spectrum", [[3.0, 1.0, -5.0, 0.5], [-1.0, -2.0, -3.0, -4.0], [0, 0, 0, 0.0], [2, 2, 2, 2.0]])
def test_directions_are_eigenvectors_of_the_largest_algebraic_eigenvalue(x64, spectrum):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    matrix = jnp.asarray(basis @ np.diag(spectrum) @ basis.T)
    found = top_directions(lambda v: v @ matrix, jnp.asarray(rng.normal(size=(2, 4))), 4)
    np.testing.assert_allclose(jnp.linalg.norm(found, axis=1), 1)
    np.testing.assert_allclose(jnp.einsum("kp,pq,kq->k", found, matrix, found), max(spectrum), atol=1e-9)


def test_the_gradient_of_the_full_program_is_that_of_exact_norms_and_eigenvalues(x64):
    """Against jax.hessian and eigh, differentiated; group 2 of three is absent."""
    rng = np.random.default_rng(3)
    params = {"w": jnp.asarray(rng.normal(size=(3, 2)))}
    x, y, group = rng.normal(size=(12, 3)), rng.integers(0, 2, 12), np.arange(12) % 2
    from jaxprune.types import Batch

    batch = Batch(jnp.asarray(x), y, group, np.ones(12))

    def apply(params, x):
        return jnp.tanh(x @ params["w"])

    tx = full_program_transformation(optax.sgd(1.0), ascent(0.1), num_groups=3, params=params, key=jax.random.key(0))
    step = jax.jit(make_full_program_step(apply, cross_entropy, tx, num_groups=3, products=6))
    state = init_state(params, tx)
    weights = jnp.array([0.3, -0.2, 5.0, 0.1, 0.4, 5.0])
    held = state.opt_state[0]
    changed = replace(held, multipliers=weights)
    after, logs = step(state._replace(opt_state=(changed, *state.opt_state[1:])), batch)

    def loss_of(w, member):
        return member @ cross_entropy(jnp.tanh(x @ w.reshape(3, 2)), y) / member.sum()

    members = np.array([group == 0, group == 1, group < 2], float)

    def quantities(w):
        n = jnp.linalg.norm(jax.vmap(jax.grad(loss_of), (None, 0))(w, members), axis=1)
        e = jnp.linalg.eigvalsh(jax.vmap(jax.hessian(loss_of), (None, 0))(w, members))[:, -1]
        return jnp.array([n[0] - n[2], n[1] - n[2], 0, e[0] - e[2], e[1] - e[2], 0]), loss_of(w, members[2])

    w = params["w"].reshape(-1)
    np.testing.assert_allclose(logs["violation"], jax.jit(quantities)(w)[0], atol=1e-6)
    gradient = jax.jit(jax.grad(lambda w: quantities(w)[1] + weights @ quantities(w)[0]))(w)
    np.testing.assert_allclose((params["w"] - after.params["w"]).reshape(-1), gradient, atol=1e-5)
    np.testing.assert_allclose(after.opt_state[0].multipliers, weights + 0.1 * logs["violation"], rtol=1e-5)


@pytest.mark.slow
def test_directions_are_refreshed_every_few_steps(people):
    params = weights()
    tx = full_program_transformation(optax.sgd(0.01), ascent(0.0), num_groups=3, params=params, key=jax.random.key(0))
    step = jax.jit(make_full_program_step(forward, cross_entropy, tx, num_groups=3, refresh=3, products=2))
    state, seen = init_state(params, tx), []
    for _ in range(5):
        state, _ = step(state, people.train)
        seen.append(np.asarray(carried(state.opt_state)["directions"]))
    changed = [bool((a != b).any()) for a, b in pairwise(seen)]
    assert changed == [False, False, True, False]
