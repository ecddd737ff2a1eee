"""Criteria that know of groups, against brute force and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles

from jaxprune.data import Dataset
from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.pruning import (
    CRITERIA,
    fairgrape_scores,
    fairprune_scores,
    group_curvature,
    group_importance,
    layerwise_masks,
    magnitude,
    prunable,
    prune,
    random,
    sparsity_of,
)
from jaxprune.pruning.criterion import EVIDENCE


def linear(params, x):
    return x @ params["kernel"] + params["bias"]


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return {"kernel": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32), "bias": jnp.zeros(3)}


def evidence_of(people: Dataset) -> dict:
    """All that a criterion can need."""
    return {
        "apply": linear,
        "batch": people.train,
        "loss": cross_entropy,
        "num_groups": 3,
        "key": jax.random.key(0),
        "grads": jax.tree.map(lambda p: p**2 - 0.1, weights(9)),
        "masks": jax.tree.map(lambda p: jnp.ones(p.shape, bool), weights()),
    }


def test_importance_is_the_sum_over_batches_of_the_squared_product(people: Dataset):
    params, train = weights(), people.train
    found = jax.jit(lambda p: group_importance(linear, p, train, num_groups=3, chunk_size=40))(params)

    @jax.jit
    @jax.grad
    def slope(params, member):
        return jnp.sum(member * cross_entropy(linear(params, train.x), train.y)) / jnp.sum(member)

    for g in range(3):
        expected = 0
        for start in range(0, 120, 40):
            member = (train.group == g) & (np.arange(120) // 40 == start // 40)
            expected = expected + np.asarray(params["kernel"] * slope(params, member)["kernel"]) ** 2
        np.testing.assert_allclose(found["kernel"][g], expected, rtol=1e-4, atol=1e-8)


def greedy(importance, kept):
    """The algorithm, one weight and one comparison at a time."""
    num_groups, n = importance.shape
    target = importance.sum(1) / importance.sum()
    chosen, sums = [], np.zeros(num_groups)
    while len(chosen) < kept:
        share = sums / sums.sum() if sums.sum() > 0 else np.full(num_groups, 1 / num_groups)
        g = int(np.argmin(share - target))
        w = next(w for w in np.argsort(-importance[g], kind="stable") if w not in chosen)
        chosen.append(int(w))
        sums += importance[:, w]
    return np.isin(np.arange(n), chosen)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9])
def test_fairgrape_is_the_greedy_algorithm(seed, sparsity):
    importance = np.random.default_rng(seed).exponential(size=(3, 40)).astype(np.float32) ** 3
    masks = layerwise_masks(fairgrape_scores({"kernel": jnp.asarray(importance)}), sparsity)
    np.testing.assert_array_equal(masks["kernel"], greedy(importance.astype(np.float64), 40 - round(sparsity * 40)))


@pytest.mark.parametrize("at_a_time", [1, 7, 1000])
def test_fairgrape_keeps_the_exact_number_and_what_is_not_prunable(at_a_time):
    importance = {"a": jnp.ones((2, 5, 21)), "b": jnp.ones((2, 9)), "c": jnp.zeros((2, 33))}
    chosen = {"a": True, "b": False, "c": True}
    masks = layerwise_masks(fairgrape_scores(importance, at_a_time=at_a_time), 0.7, chosen)
    assert masks["a"].shape == (5, 21)
    assert int(masks["a"].sum()) == 105 - round(0.7 * 105)
    assert masks["b"].all()
    assert int(masks["c"].sum()) == 33 - round(0.7 * 33)


def test_fairgrape_hurries_in_large_layers_alone(people: Dataset, monkeypatch):
    """The kernel of 12 is picked four at a time, and the bias of 3 one by one."""
    monkeypatch.setattr("jaxprune.pruning.criteria.fairgrape._TURNS", 3)
    params = weights() | {"bias": jnp.array([1.0, -2.0, 0.5])}
    found = CRITERIA.make("fairgrape").score(params, apply=linear, batch=people.train, num_groups=3)
    importance = group_importance(linear, params, people.train, num_groups=3)
    slow, fast = (fairgrape_scores(importance, at_a_time=turn) for turn in (1, 4))
    np.testing.assert_array_equal(found["kernel"], fast["kernel"])
    np.testing.assert_array_equal(found["bias"], slow["bias"])
    assert (fast["bias"] != slow["bias"]).any()


def test_fairgrape_keeps_what_serves_each_group():
    """Two groups that need disjoint weights: each keeps its share, where a plain sum would keep the large one's."""
    importance = np.zeros((2, 20), np.float32)
    importance[0, :10], importance[1, 10:] = np.linspace(10, 9, 10), np.linspace(1, 0.9, 10)
    masks = layerwise_masks(fairgrape_scores({"k": jnp.asarray(importance)}), 0.5)["k"]
    kept = importance @ np.asarray(masks)
    assert kept[0] / kept.sum() == pytest.approx(importance[0].sum() / importance.sum(), abs=0.1)
    assert masks[10:].any()
    assert not layerwise_masks({"k": jnp.asarray(importance.sum(0))}, 0.5)["k"][10:].any()


@pytest.mark.parametrize("chunk_size", [None, 1, 50])
def test_curvature_of_a_linear_model_is_the_diagonal_of_its_hessian(chunk_size, people: Dataset):
    """Gauss-Newton is the Hessian there; also with padding and a ragged last chunk."""
    params, train = weights(), people.train
    weighted = train._replace(weight=np.where(np.arange(120) % 7, 1, 0).astype(np.float32))
    found = jax.jit(lambda p: group_curvature(linear, p, weighted, num_groups=3, chunk_size=chunk_size))(params)

    @jax.jit
    @jax.hessian
    def curve(kernel, member):
        losses = cross_entropy(linear({**params, "kernel": kernel}, train.x), train.y)
        return jnp.sum(member * losses) / jnp.sum(member)

    for g in range(3):
        member = (train.group == g) & (weighted.weight > 0)
        hessian = curve(params["kernel"], member).reshape(12, 12)
        np.testing.assert_allclose(found["kernel"][g].reshape(-1), jnp.diag(hessian), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 16])
def test_padding_may_hold_anything_in_the_curvature(chunk_size, people: Dataset):
    weight = np.where(np.arange(120) % 7, 1, 0).astype(np.float32)
    padded = people.train._replace(weight=weight)
    spoiled = padded._replace(
        x=np.where(weight[:, None] > 0, padded.x, np.nan), group=np.where(weight > 0, padded.group, -1)
    )
    results = [group_curvature(linear, weights(), b, num_groups=3, chunk_size=chunk_size) for b in (padded, spoiled)]
    jax.tree.map(np.testing.assert_array_equal, *results)


@pytest.mark.parametrize("sums_of_groups", [group_curvature, group_importance])
def test_parameters_of_half_precision_have_sums_in_float32(sums_of_groups, people: Dataset):
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), weights())
    found = sums_of_groups(linear, half, people.train, num_groups=3, chunk_size=1)
    expected = sums_of_groups(
        linear, jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half), people.train, num_groups=3, chunk_size=1
    )
    assert {leaf.dtype for leaf in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(found["kernel"], expected["kernel"], rtol=0.02)


def test_fairprune_scores_by_the_formula():
    params, curvature = {"k": jnp.array([2.0, -1.0])}, {"k": jnp.array([[4.0, 1.0], [1.0, 3.0], [9.0, 9.0]])}
    scores = fairprune_scores(params, curvature, jnp.int32(0), jnp.int32(1), beta=0.5)
    np.testing.assert_allclose(scores["k"], [0.5 * 4 * (1 - 2), 0.5 * 1 * (3 - 0.5)])


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_prunes_the_exact_share_of_each_replica(name, people: Dataset):
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), weights(0), weights(1))
    chosen = prunable(weights())
    evidence = evidence_of(people)
    evidence.pop("grads")  # it is computed where it is needed
    evidence.pop("masks")

    def masks(params):
        return prune(params, 0.75, criterion=CRITERIA.make(name), prunable=chosen, **evidence)[1]

    both, single = jax.jit(jax.vmap(masks))(stacked), jax.jit(masks)
    for r in range(2):
        mine = jax.tree.map(lambda leaf, r=r: leaf[r], both)
        assert sparsity_of(mine, chosen) == 0.75
        assert mine["bias"].all()
        alone = single(weights(r))
        jax.tree.map(np.testing.assert_array_equal, mine, alone)


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_names_all_that_it_needs(name, people: Dataset):
    """Without the other arguments it gives the same scores, and without one of its own it is refused."""
    evidence = evidence_of(people)
    criterion = CRITERIA.make(name)
    own = {key: evidence[key] for need in criterion.needs for key in EVIDENCE[need]}
    scores = criterion.score(weights(), **evidence)
    jax.tree.map(np.testing.assert_array_equal, criterion.score(weights(), **own), scores)
    for missing in own:
        if missing == "masks":  # `prune` makes them
            continue
        with pytest.raises(UserError, match=f"^{missing}: ") as error:
            prune(weights(), 0.5, criterion=criterion, **(own | {missing: None}))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_compiles_nothing_for_other_weights(name, people: Dataset):
    criterion, evidence = CRITERIA.make(name), evidence_of(people)
    criterion.score(weights(0), **evidence)
    with compiles(0):
        CRITERIA.make(name).score(weights(1), **evidence)


@pytest.mark.parametrize("name", CRITERIA)
def test_what_is_pruned_already_stays_pruned_and_is_0_to_the_criterion(name, people: Dataset):
    """Whatever the pruned weights hold, the masks are the same."""
    evidence = evidence_of(people)
    evidence.pop("grads")
    masks = {"kernel": jnp.arange(12).reshape(4, 3) % 4 != 1, "bias": jnp.ones(3, bool)}
    other = {**weights(), "kernel": jnp.where(masks["kernel"], weights()["kernel"], 7.0)}
    one, another = (
        prune(params, 0.5, criterion=CRITERIA.make(name), **(evidence | {"masks": masks}))
        for params in (weights(), other)
    )
    jax.tree.map(np.testing.assert_array_equal, one, another)
    assert int((~one[1]["kernel"]).sum()) == 6
    assert not one[1]["kernel"][~masks["kernel"]].any()


def test_prune_returns_parameters_that_are_0_where_the_masks_are_false(people: Dataset):
    params, masks = prune(weights(), 0.5, criterion=magnitude())
    expected = np.sort(np.abs(weights()["kernel"]).ravel())[:6]
    np.testing.assert_array_equal(np.sort(np.abs(weights()["kernel"])[~masks["kernel"]]), expected)
    np.testing.assert_array_equal(params["kernel"], np.where(masks["kernel"], weights()["kernel"], 0))
    assert masks["bias"].all(), "biases are no kernels"
    with pytest.raises(UserError, match=r"sparsity: 1\.0 is outside"):
        prune(weights(), 1.0, criterion=random(), key=jax.random.key(0))


def test_fairgrape_is_layerwise_under_any_allocation(people: Dataset):
    params = {"kernel": weights()["kernel"], "other": jnp.ones((3, 3))}
    evidence = {"apply": lambda p, x: x @ p["kernel"] @ p["other"], "batch": people.train, "num_groups": 3}
    masks = prune(params, 0.5, criterion=CRITERIA.make("fairgrape"), **evidence)[1]
    assert [int(leaf.sum()) for leaf in jax.tree.leaves(masks)] == [6, 9 - round(4.5)]
