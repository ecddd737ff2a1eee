"""Allocations: golden values of ERK, exact totals, levels by pattern, and what is pruned already."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprune import pruning
from jaxprune.errors import UserError
from jaxprune.pruning import ALLOCATIONS
from jaxprune.pruning.allocations.counts import apportion

several = settings(max_examples=30, deadline=None)
SPARSITIES = st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 0.5, 0.9, 0.999]))
# A few networks, each of which is compiled once: with an empty layer, layers of one weight, a convolution.
SHAPES = st.sampled_from(
    [[(3, 4), (7, 9)], [(1,), (0, 5), (1, 1), (7, 9), (7, 9)], [(0, 5)], [(2, 2, 1, 3), (7, 9), (3, 4), (1,)]]
)
BY_TOTAL = ("global", "normalised", "erk", "levels")  # those that meet the total to one unit


def make(name):
    return ALLOCATIONS.make("global", normalise=True) if name == "normalised" else ALLOCATIONS.make(name)


def scores_of(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {f"layer_{i}": jnp.asarray(rng.normal(size=s), jnp.float32) for i, s in enumerate(shapes)}


def pruned_of(masks):
    return [int(np.sum(~np.asarray(mask))) for mask in jax.tree.leaves(masks)]


def kept_highest(scores, masks):
    """Whether, in every layer, no score that is kept is below one that is pruned."""
    pairs = zip(jax.tree.leaves(scores), jax.tree.leaves(masks), strict=True)
    return all(np.min(s[m], initial=np.inf) >= np.max(s[~m], initial=-np.inf) for s, m in map(as_arrays, pairs))


def as_arrays(pair):
    return tuple(map(np.asarray, pair))


# --- ERK -----------------------------------------------------------------------------------------------------------

SMALL = [(2, 4), (3, 6), (2, 4, 6)]


@pytest.mark.parametrize(
    ("shapes", "sparsity", "options", "expected", "tolerance"),
    [
        (SMALL, 0.5, {}, [0, 0.309524, 0.654762], 5e-7),
        (SMALL, 0.8, {}, [0.556, 0.70, 0.85], 5e-3),
        (SMALL, 0.5, {"scale": 2}, [0, 0.033, 0.758], 5e-4),
        (SMALL, 0.5, {"kernel_dims": False}, [0.21, 0.47, 0.56], 5e-3),
        ([(3, 3, 3, 64), (3, 3, 64, 128), (512, 10)], 0.9, {}, [0.542004, 0.970885, 0], 5e-7),
        (
            [(3, 3, 3, 16), (3, 3, 16, 32), (3, 3, 32, 64), (64, 10)],
            0.98, {}, [0.89016, 0.977757, 0.989497, 0.780539], 5e-6,
        ),
        ([(3, 7), (3, 11), (13, 17)], 0.1, {}, [0, 0, 0.122172], 5e-7),
    ],
)  # fmt: skip
def test_erk_levels_are_those_of_jaxpruner(shapes, sparsity, options, expected, tolerance):
    # It rounds the number of pruned weights of every layer down before it solves for the total: so its total is this.
    sizes = [math.prod(shape) for shape in shapes]
    total = sum(math.floor(sparsity * size) for size in sizes) / sum(sizes)
    np.testing.assert_allclose(pruning.erk_levels(shapes, total, **options), expected, atol=tolerance)


def by_turns(shapes, sparsity, scale):
    """The algorithm of Evci et al. as published: layers are set dense until the others fit."""
    sizes = np.array([math.prod(s) for s in shapes], float)
    p = np.array([(sum(s) / math.prod(s)) ** scale for s in shapes])
    dense = np.zeros(len(shapes), bool)
    while True:
        rest = np.sum((1 - sparsity) * sizes[~dense]) - np.sum(sparsity * sizes[dense])
        epsilon = rest / np.sum((p * sizes)[~dense])
        if epsilon * p[~dense].max() <= 1 + 1e-12:
            return np.where(dense, 0, 1 - epsilon * p)
        dense |= p == p[~dense].max()


@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6),
    st.floats(0.001, 0.999),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
@settings(max_examples=200, deadline=None)
def test_erk_levels_are_those_of_the_published_algorithm(shapes, sparsity, scale):
    levels = pruning.erk_levels(shapes, sparsity, scale=scale)
    np.testing.assert_allclose(levels, by_turns(shapes, sparsity, scale), atol=1e-9)
    sizes = np.array([math.prod(s) for s in shapes])
    assert levels @ sizes == pytest.approx(sparsity * sizes.sum())


def test_erk_levels_of_a_traced_sparsity_are_the_same():
    levels = jax.jit(lambda s: pruning.erk_levels(SMALL, s))(0.5)
    np.testing.assert_allclose(levels, pruning.erk_levels(SMALL, 0.5), atol=1e-6)


@pytest.mark.parametrize("shapes", [[], [(0, 3)], [(), (0,), (1,)], [(2, 2)]])
@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_erk_divides_by_no_zero(shapes, sparsity):
    with np.errstate(all="raise"):
        levels = pruning.erk_levels(shapes, sparsity)
    sizes = np.array([math.prod(shape) for shape in shapes])
    assert np.all((levels >= 0) & (levels < 1))
    assert levels @ sizes == pytest.approx(sparsity * sizes.sum())


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
def test_a_scale_without_a_meaning_is_an_error(scale):
    for function in (lambda: pruning.erk(scale=scale), lambda: pruning.erk_levels(SMALL, 0.5, scale=scale)):
        with pytest.raises(UserError, match=f"scale: {scale} is not"):
            function()


def test_a_large_scale_still_meets_the_total():
    scores = scores_of(SMALL)
    for sparsity in (0.1, 0.5, 0.9):
        assert sum(pruned_of(pruning.erk(scale=200.0)(scores, sparsity))) == round(74 * sparsity)


@given(SHAPES, SPARSITIES)
@several
def test_erk_prunes_the_levels_to_a_unit_or_so(shapes, sparsity):
    scores = scores_of(shapes)
    found = np.array(pruned_of(pruning.erk()(scores, sparsity)))
    levels = pruning.erk_levels(shapes, sparsity)
    sizes = np.array([math.prod(shape) for shape in shapes])
    # A unit for the rounding of a layer, half a one for each other layer, whose rounding it makes up for.
    assert np.all(abs(found - levels * sizes) <= 0.5 + len(shapes) / 2 + 1e-3)


# --- totals --------------------------------------------------------------------------------------------------------


@given(SHAPES, SPARSITIES, SPARSITIES)
@pytest.mark.parametrize("name", BY_TOTAL)
@several
def test_totals_are_exact_and_masks_nested_whatever_the_shapes(name, shapes, one, other):
    scores, size = scores_of(shapes), sum(math.prod(shape) for shape in shapes)
    lower, higher = (make(name)(scores, sparsity) for sparsity in sorted((one, other)))
    assert sum(pruned_of(lower)) == round(min(one, other) * size)
    assert sum(pruned_of(higher)) == round(max(one, other) * size)
    assert kept_highest(scores, lower)
    assert kept_highest(scores, higher)
    assert all(np.all(np.asarray(h) <= np.asarray(m)) for m, h in zip(lower.values(), higher.values(), strict=True))


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 2**28)), min_size=4, max_size=4),
    st.floats(0, 1),
    st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_units_are_shared_out_by_websters_method(layers, share, more):
    weights, capacities = (np.array(values) for values in zip(*layers, strict=True))
    weights = np.maximum(weights, 1e-6).astype(np.float32)
    total = int(share * capacities.sum())
    counts = np.asarray(apportion(weights, capacities, total))
    assert counts.sum() == total
    assert np.all((counts >= 0) & (counts <= capacities))
    assert np.all(np.asarray(apportion(weights, capacities, total + more)) >= counts)  # no paradox of Alabama
    # There is a factor by which every layer is rounded to its count. A float32 rounds it by a unit in 2^23.
    wide = weights.astype(float)
    steps = (counts - 0.5)[counts > 0] / wide[counts > 0], ((counts + 0.5) / wide)[counts < capacities]
    assert np.max(steps[0], initial=0) <= np.min(steps[1], initial=np.inf) * (1 + 1e-6)


# --- levels --------------------------------------------------------------------------------------------------------

NETWORK = {"head": {"kernel": (4, 5)}, "body_0": {"kernel": (10, 8)}, "body_1": {"kernel": (8, 3)}}


def network():
    shapes = {name: layer["kernel"] for name, layer in NETWORK.items()}
    return {name: {"kernel": scores} for name, scores in zip(shapes, scores_of(shapes.values()).values(), strict=True)}


def layer_counts(masks):
    return {name: int(np.sum(~np.asarray(layer["kernel"]))) for name, layer in masks.items()}


@pytest.mark.parametrize(
    "levels",
    [{"head/*": 0.25, "body_1/kernel": 0.5}, ("head/*=0.25", "body_1/kernel=0.5"), "head/*=0.25, body_1/kernel=0.5"],
)
def test_named_layers_have_their_levels_and_the_others_the_rest(levels):
    masks = pruning.levels(levels=levels)(network(), 0.6)
    assert layer_counts(masks) == {"head": 5, "body_1": 12, "body_0": round(0.6 * 124) - 17}
    assert kept_highest(network(), masks)


def test_layers_without_a_level_share_evenly_and_the_first_pattern_decides():
    masks = pruning.levels(levels={"head/kernel": 0.0, "*": 0.5})(network(), 52 / 124)
    assert layer_counts(masks) == {"head": 0, "body_0": 40, "body_1": 12}
    masks = pruning.levels(levels={"head/kernel": 0.0})(network(), 0.5)
    assert layer_counts(masks) == {"head": 0, "body_0": 48, "body_1": 14}  # 62 of 104 units, in shares of 80 and 24


@pytest.mark.parametrize(
    ("levels", "sparsity", "message"),
    [
        ({"body_0/*": 0.5}, 0.9, r"sparsity: 0.9 .* they reach 0.32 to 0.68;"),
        ({"body_0/*": 0.5}, 0.1, r"sparsity: 0.1 .* they reach 0.32 to 0.68;"),
        ({"*": 0.5}, 0.75, r"they reach 0.5;"),
        ({"boby_0/kernel": 0.5}, 0.5, "levels: unknown prunable layer 'boby_0/kernel'; did you mean 'body_0/kernel'"),
    ],
)
def test_levels_that_cannot_be_met_are_errors_that_help(levels, sparsity, message):
    with pytest.raises(UserError, match=message) as error:
        pruning.levels(levels=levels)(network(), sparsity)
    assert "\n" not in str(error.value)


def test_the_ends_of_the_reach_that_a_message_names_are_within_reach():
    allocation = pruning.levels(levels={"body_0/*": 0.5})
    assert sum(layer_counts(allocation(network(), 0.32)).values()) == 40
    assert sum(layer_counts(allocation(network(), 0.68)).values()) == 84


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (("head",), "levels: 'head' has no pattern and value"),
        (("=0.5",), "levels: '=0.5' has no pattern and value"),
        (("head=much",), "levels: 'much' is not a number"),
        ({"head": 1.0}, r"levels: head: 1.0 is outside \[0, 1\)"),
        ({"head": None}, "levels: None is not a number"),
    ],
)
def test_levels_that_are_none_are_errors(levels, message):
    with pytest.raises(UserError, match=message):
        pruning.levels(levels=levels)


def test_a_pattern_for_a_layer_that_is_not_prunable_is_an_error():
    chosen = {name: {"kernel": name != "head"} for name in NETWORK}
    with pytest.raises(UserError, match=r"unknown prunable layer 'head/kernel'.*known: body_0/kernel, body_1/kernel"):
        pruning.levels(levels={"head/kernel": 0.5})(network(), 0.5, chosen)


def test_masks_by_level_prune_each_layer_to_its_own():
    scores = {**network(), "bias": jnp.ones(3)}
    chosen = {**{name: {"kernel": True} for name in NETWORK}, "bias": False}
    by_level = partial(pruning.masks_by_level, prunable=chosen)
    masks = by_level(scores, [0.5, 0.25, 0.0])  # body_0, body_1, head, in the order of the leaves
    assert masks.pop("bias").all()
    assert layer_counts(masks) == {"body_0": 40, "body_1": 6, "head": 0}
    traced = jax.jit(by_level)(scores, jnp.array([0.5, 0.25, 0.0]))
    jax.tree.map(np.testing.assert_array_equal, {name: traced[name] for name in NETWORK}, masks)
    for levels, message in (([0.5], "there are 1 for 3 prunable leaves"), ([0.5, 1.5, 0.0], r"levels: 1.5 is outside")):
        with pytest.raises(UserError, match=message):
            by_level(scores, levels)


# --- normalised ----------------------------------------------------------------------------------------------------


def test_normalised_scores_have_one_norm_in_every_layer():
    scores = scores_of([(3, 4), (7, 9)])
    # One million times, and one 10^30th: the squares of either are out of the range of float32.
    for factor in (1e6, 1e-30, 1e30):
        scaled = {**scores, "layer_1": scores["layer_1"] * factor}
        divided = {name: leaf / np.linalg.norm(leaf) for name, leaf in scores.items()}
        found = make("normalised")(scaled, 0.5)
        jax.tree.map(np.testing.assert_array_equal, found, pruning.global_masks(divided, 0.5))
    assert pruned_of(pruning.global_masks({**scores, "layer_1": abs(scores["layer_1"]) + 100}, 12 / 75)) == [12, 0]


def test_layers_of_zeros_and_other_layers_are_left_as_they_are():
    scores = {"a": jnp.zeros((2, 2)), "b": jnp.array([jnp.nan]), "c": jnp.array([[1.0, -2.0]])}
    masks = make("normalised")(scores, 0.5, {"a": True, "b": False, "c": True})
    assert [mask.tolist() for mask in masks.values()] == [[[False, False], [True, True]], [True], [[True, False]]]
    with pytest.raises(UserError, match="the scores of b hold NaN"):
        make("normalised")(scores, 0.5)


# --- contracts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ALLOCATIONS, "normalised"])
def test_one_compiled_program_serves_every_sparsity(name):
    allocation, scores = make(name), scores_of([(3, 4), (1,), (0, 5), (7, 9)])
    chosen = {"layer_0": True, "layer_1": False, "layer_2": True, "layer_3": True}
    traced = jax.jit(lambda scores, sparsity: allocation(scores, sparsity, chosen))
    traced(scores, 0.25), allocation(scores, 0.25, chosen)
    sparsities = (0.0, 0.5, 0.75)  # exact in float32, of which a traced sparsity is made
    with compiles(0):
        found = [(traced(scores, s), allocation(scores, s, chosen)) for s in sparsities]
    for of_traced, concrete in found:
        jax.tree.map(np.testing.assert_array_equal, of_traced, concrete)


@pytest.mark.parametrize("name", [*ALLOCATIONS, "normalised"])
def test_replicas_are_pruned_each_by_itself(name):
    shapes = [(3, 4), (7, 9)]
    many, held = [scores_of(shapes, seed) for seed in range(3)], [scores_of(shapes, seed) for seed in range(5, 8)]
    held = [jax.tree.map(lambda s: s > -1, masks) for masks in held]
    stack = partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    together = jax.jit(jax.vmap(lambda scores, masks: make(name)(scores, 0.5, None, masks)))(stack(*many), stack(*held))
    expected = [make(name)(scores, 0.5, None, masks) for scores, masks in zip(many, held, strict=True)]
    jax.tree.map(np.testing.assert_array_equal, together, stack(*expected))


@pytest.mark.parametrize("name", [*ALLOCATIONS, "normalised"])
def test_what_is_pruned_already_stays_so_and_counts(name):
    scores = scores_of([(3, 4), (7, 9)])
    first = make(name)(scores, 0.25)
    other = jax.tree.map(lambda s: -s, scores)  # by which the first would be kept
    then = make(name)(other, 0.75, None, first)
    assert sum(pruned_of(then)) == {"layerwise": 9 + 47}.get(name, 56)
    jax.tree.map(lambda new, old: np.testing.assert_array_equal(new & ~old, False), then, first)


def test_erk_keeps_more_of_other_layers_where_one_is_pruned_further():
    scores = scores_of([(3, 4), (7, 9)])
    assert pruned_of(pruning.erk()(scores, 0.4)) == [0, 30]
    masks = {"layer_0": jnp.zeros((3, 4), bool).at[0].set(True), "layer_1": jnp.ones((7, 9), bool)}
    assert pruned_of(pruning.erk()(scores, 0.4, None, masks)) == [8, 22]


@pytest.mark.parametrize("name", ["erk", "levels"])
def test_less_than_is_pruned_already_is_out_of_reach(name):
    scores = scores_of([(3, 4), (7, 9)])
    masks = jax.tree.map(lambda s: jnp.arange(s.size).reshape(s.shape) % 2 == 0, scores)  # 6 + 31 pruned
    assert sum(pruned_of(make(name)(scores, 37 / 75, None, masks))) == 37
    with pytest.raises(UserError, match=r"sparsity: .* 0.49") as error:
        make(name)(scores, 36 / 75, None, masks)
    assert "\n" not in str(error.value)


def test_a_layer_pruned_beyond_its_level_is_named():
    masks = jax.tree.map(lambda s: jnp.zeros(s.shape, bool), network())
    masks["body_0"]["kernel"] = jnp.ones((10, 8), bool)
    with pytest.raises(UserError, match="masks: 20 units of head/kernel are pruned already, and 5 of its 20"):
        pruning.levels(levels={"head/*": 0.25})(network(), 0.75, None, masks)


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_equal_options_give_the_same_function(name):
    assert ALLOCATIONS.make(name) is ALLOCATIONS.make(name)
    assert ALLOCATIONS.make(name) is ALLOCATIONS.make(name, **ALLOCATIONS.defaults(name))


def test_the_way_in_which_options_are_written_makes_no_difference():
    assert pruning.erk() is pruning.erk(scale=1) is ALLOCATIONS.make("erk")
    assert pruning.erk(kernel_dims=False) is not pruning.erk()
    assert pruning.levels(levels={"a": 0.5}) is pruning.levels(levels=["a=0.5"])
    assert pruning.together() is pruning.global_masks
    assert ALLOCATIONS.make("layerwise") is pruning.layerwise_masks


@pytest.mark.parametrize("name", [*ALLOCATIONS, "normalised"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_errors(name, bad):
    with pytest.raises(UserError, match="layer_1"):
        make(name)({"layer_0": jnp.ones(3), "layer_1": jnp.array([1.0, bad])}, 0.5)


@pytest.mark.parametrize("name", [*ALLOCATIONS, "normalised"])
def test_the_first_layer_at_fault_is_named_in_the_order_of_the_layers(name):
    scores = [jnp.ones(3) if i in (0, 1) else jnp.array([1.0, np.nan]) for i in range(12)]
    with pytest.raises(UserError, match="the scores of 2 hold"):
        make(name)(scores, 0.5)
