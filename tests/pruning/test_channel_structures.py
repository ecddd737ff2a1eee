"""Channels and heads: what is pooled, what is kept, at which cost and at which widths."""

from functools import cache
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from fake_couplings import Couplings, chain_params, dense_chain
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprune import pruning
from jaxprune.errors import UserError
from jaxprune.pruning.structures.pooling import NORMALISERS, POOLS
from jaxprune.pruning.structures.width_rounding import RULES, WidthRule, width_rule

SIZES = (6, 16, 8, 5, 3)
NAMES = [f"layer_{i}/kernel[1]" for i in range(3)]
CHAIN = dense_chain(SIZES)
PARAMS = chain_params(SIZES)
several = settings(max_examples=20, deadline=None)


def masks_of(sparsity, *, couplings=CHAIN, params=PARAMS, allocation=pruning.global_masks, masks=None, **options):
    structure = pruning.channels(couplings, **options)
    scores = pruning.magnitude().score(params)
    return structure.masks(scores, sparsity, pruning.prunable(params), masks, allocation)


def counts_of(masks):
    return {name: int(np.sum(masks[name.partition("/")[0]]["bias"])) for name in NAMES}


def scores_by_loops(pool, normalise):
    """[size] of every coupling, one channel at a time, in float64."""
    result = {}
    for i, name in enumerate(NAMES):
        first, second = (np.abs(np.asarray(PARAMS[f"layer_{j}"]["kernel"], np.float64)) for j in (i, i + 1))
        values = []
        for channel in range(SIZES[i + 1]):
            own = np.concatenate([first[:, channel], second[channel]])
            values.append({"l2": np.sqrt(np.sum(own**2)), "l1": own.sum(), "mean": own.mean(), "max": own.max()}[pool])
        values = np.array(values)
        result[name] = values / {"mean": values.mean(), "max": values.max(), "none": 1}[normalise]
    return result


@pytest.mark.parametrize("normalise", NORMALISERS)
@pytest.mark.parametrize("pool", POOLS)
def test_channels_go_by_the_scores_of_all_their_kernel_slices(pool, normalise):
    masks = masks_of(0.5, pool=pool, normalise=normalise)
    scores = scores_by_loops(pool, normalise)
    order = sorted((value, name, i) for name, values in scores.items() for i, value in enumerate(values))
    cut = {(name, i) for _, name, i in order[: round(0.5 * len(order))]}
    for i, name in enumerate(NAMES):
        kept = np.array([(name, channel) not in cut for channel in range(SIZES[i + 1])])
        assert kept.any(), "else the case says nothing"
        np.testing.assert_array_equal(masks[f"layer_{i}"]["bias"], kept)
        before = np.ones(SIZES[i], bool) if i == 0 else np.asarray(masks[f"layer_{i - 1}"]["bias"])
        np.testing.assert_array_equal(masks[f"layer_{i}"]["kernel"], before[:, None] & kept)
    assert np.all(masks["layer_3"]["bias"])


def test_scores_below_0_say_that_a_channel_does_harm():
    scores = jax.tree.map(jnp.zeros_like, PARAMS)
    scores["layer_0"]["kernel"] = scores["layer_0"]["kernel"].at[:, 0].set(-5.0).at[:, 1].set(2.0)
    for pool in POOLS:
        structure = pruning.channels(CHAIN, pool=pool, normalise="none")
        for cut, expected in ((1, [False, True]), (28, [False, True])):
            masks = structure.masks(scores, cut / 29 - 3 / 29 * (cut > 1), None, None, pruning.global_masks)
            assert masks["layer_0"]["bias"][:2].tolist() == expected


@pytest.mark.parametrize("power", [-30, 30])
def test_very_small_and_very_large_scores_have_an_order(power):
    scaled = jax.tree.map(lambda leaf: leaf * 10.0**power, PARAMS)
    jax.tree.map(np.testing.assert_array_equal, masks_of(0.5, params=scaled), masks_of(0.5))


def test_scores_of_leaves_that_are_not_prunable_may_be_anything():
    scores = pruning.magnitude().score(PARAMS)
    strange = {name: {**layer, "bias": layer["bias"] * jnp.nan} for name, layer in scores.items()}
    chosen, structure = pruning.prunable(PARAMS), pruning.channels(CHAIN)
    found = [structure.masks(s, 0.5, chosen, None, pruning.global_masks) for s in (scores, strange)]
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_a_coupling_is_cut_where_all_that_write_it_are_prunable():
    chosen = pruning.prunable(PARAMS, exclude=["layer_1/*"])
    scores = pruning.magnitude().score(PARAMS)
    masks = pruning.channels(CHAIN).masks(scores, 0.5, chosen, None, pruning.layerwise_masks)
    assert counts_of(masks) == {NAMES[0]: 8, NAMES[1]: 8, NAMES[2]: 3}


@given(st.floats(0, 0.89), st.sampled_from([pruning.global_masks, pruning.together(normalise=True)]))
@several
def test_the_number_of_channels_is_exact_and_one_of_each_coupling_stays(sparsity, allocation):
    counts = counts_of(masks_of(sparsity, allocation=allocation))
    assert sum(counts.values()) == 29 - round(sparsity * 29)
    assert min(counts.values()) >= 1


def test_channels_that_must_stay_are_made_up_for():
    params = {**PARAMS, "layer_2": jax.tree.map(lambda leaf: leaf * 1e-3, PARAMS["layer_2"])}
    params["layer_3"] = jax.tree.map(lambda leaf: leaf * 1e-3, PARAMS["layer_3"])
    masks = masks_of(0.5, params=params, normalise="none")
    assert counts_of(masks)[NAMES[2]] == 1
    assert sum(counts_of(masks).values()) == 29 - round(0.5 * 29)
    assert counts_of(masks_of(0.5, params=params, normalise="none", at_least=4))[NAMES[2]] == 4


def test_layerwise_takes_the_same_share_of_every_coupling():
    assert counts_of(masks_of(0.5, allocation=pruning.layerwise_masks)) == {NAMES[0]: 8, NAMES[1]: 4, NAMES[2]: 3}


def test_levels_are_given_by_the_names_of_couplings():
    allocation = pruning.levels(levels={NAMES[0]: 0.25, "layer_2/*": 0.0})
    assert counts_of(masks_of(0.3, allocation=allocation)) == {NAMES[0]: 12, NAMES[1]: 3, NAMES[2]: 5}
    with pytest.raises(UserError, match=r"levels: unknown prunable layer 'layer_9'"):
        masks_of(0.3, allocation=pruning.levels(levels={"layer_9": 0.5}))


@pytest.mark.parametrize("cost", ["parameters", "flops"])
@pytest.mark.parametrize("allocation", [pruning.global_masks, pruning.layerwise_masks])
@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.5, 0.8])
def test_the_sparsity_is_the_nearest_share_of_the_cost(cost, allocation, sparsity):
    """No other number of channels, cut in the same order, is nearer."""
    measure = getattr(CHAIN, cost)
    share = {n: 1 - measure(counts) / measure({}) for n, counts in _by_number(allocation).items()}
    reached = 1 - measure(counts_of(masks_of(sparsity, cost=cost, allocation=allocation))) / measure({})
    assert abs(reached - sparsity) <= min(abs(s - sparsity) for s in share.values()) + 1e-6


@cache
def _by_number(allocation):
    """Number of channels cut -> counts, for all that an allocation reaches with one channel left in each coupling."""
    found = {}
    for share in np.linspace(0, 0.89, 60):
        counts = counts_of(masks_of(float(share), allocation=allocation))
        found[29 - sum(counts.values())] = counts
    return found


def test_a_higher_sparsity_prunes_all_that_a_lower_one_does():
    for options in ({}, {"cost": "flops"}, {"round_to": 4}):
        found = [masks_of(sparsity, **options) for sparsity in (0.1, 0.25, 0.4, 0.55)]
        for lower, higher in pairwise(found):
            jax.tree.map(lambda low, high: np.testing.assert_array_equal(high & ~low, False), lower, higher)


@pytest.mark.parametrize("cost", ["channels", "parameters", "flops"])
def test_a_sparsity_that_leaves_less_than_a_channel_is_one_line(cost):
    words = {"channels": "channels", "parameters": "parameters", "flops": "FLOPs"}[cost]
    message = rf"^sparsity: 0\.99 of the {words} is out of reach: [^\n]+ 3 couplings [^\n]+; give less"
    for call in (
        lambda: masks_of(0.99, cost=cost),
        lambda: pruning.channels(CHAIN, cost=cost).check(PARAMS, None, (0.5, 0.99)),
        lambda: jax.eval_shape(lambda p: masks_of(0.99, cost=cost, params=p), PARAMS),
    ):
        with pytest.raises(UserError, match=message):
            call()
    traced = jax.jit(lambda s: masks_of(s, cost=cost))(0.99)
    assert set(counts_of(traced).values()) == {1}


def test_nothing_to_cut_is_one_line():
    class Pinned:
        path, axis, reason = "layer_0/kernel", 1, "it is summed over"

    with pytest.raises(UserError, match=r"^couplings: this network has no heads [^\n]+; take channels instead$"):
        pruning.heads(CHAIN).check(PARAMS, None, (0.5,))
    with pytest.raises(UserError, match=r"no channels that can be cut \(it is summed over\); take another structure$"):
        pruning.channels(Couplings([], {}, [Pinned])).check(PARAMS, None, (0.5,))
    kept = pruning.prunable(PARAMS, include=["layer_3/*"])
    with pytest.raises(UserError, match=r"let all of these be pruned: layer_0/kernel, layer_1/kernel, layer_2/kernel$"):
        pruning.channels(CHAIN).check(PARAMS, kept, (0.5,))


def test_couplings_of_another_network_are_one_line():
    other = dense_chain((6, 20, 8, 5, 3))
    with pytest.raises(UserError, match=r"couplings: layer_0/kernel of shape \(6, 16\) has no channel 19 along axis 1"):
        masks_of(0.5, couplings=other)
    with pytest.raises(UserError, match=r"couplings: unknown parameter 'body_0/kernel'"):
        masks_of(0.5, couplings=dense_chain(SIZES, ["body_0", "b", "c", "d"]))
    with pytest.raises(UserError, match=r"couplings: channels need those of the network"):
        masks_of(0.5, couplings=None)


def test_heads_and_channels_are_apart():
    mixed = Couplings([*dense_chain(SIZES[:3]), *dense_chain(SIZES, kind="heads").all[1:]], CHAIN.shapes)
    scores = pruning.magnitude().score(PARAMS)
    found = {
        name: counts_of(make(mixed).masks(scores, 0.5, None, None, pruning.layerwise_masks))
        for name, make in (("channels", pruning.channels), ("heads", pruning.heads))
    }
    assert found["channels"] == {NAMES[0]: 8, NAMES[1]: 8, NAMES[2]: 5}
    assert found["heads"] == {NAMES[0]: 16, NAMES[1]: 4, NAMES[2]: 3}


def test_erk_is_refused():
    with pytest.raises(UserError, match=r"^allocation: ERK goes by the shapes of layers"):
        masks_of(0.5, allocation=pruning.erk(scale=0.5))


# --- what is pruned already ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"cost": "flops"}, {"round_to": 4}])
def test_channels_that_are_pruned_stay_pruned_and_count(options):
    before = masks_of(0.4, **options)
    revived = jax.tree.map(lambda leaf: leaf + 10.0, PARAMS)  # whatever their weights are
    after = masks_of(0.55, params=revived, masks=before, **options)
    jax.tree.map(lambda old, new: np.testing.assert_array_equal(new & ~old, False), before, after)
    fresh = masks_of(0.55, params=revived, **options)
    assert sum(counts_of(after).values()) == pytest.approx(sum(counts_of(fresh).values()), abs=2 * len(options))


def test_less_than_is_pruned_already_is_one_line():
    with pytest.raises(UserError, match=r"sparsity: 0\.3 is below the 0\.\d+ that are pruned already"):
        masks_of(0.3, masks=masks_of(0.5))
    with pytest.raises(UserError, match=r"sparsity: 0\.3 of the FLOPs is below the 0\.\d+ that is removed already"):
        masks_of(0.3, masks=masks_of(0.5, cost="flops"), cost="flops")


def test_single_weights_that_are_pruned_stay_pruned_in_channels_that_are_kept():
    held = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), PARAMS)
    held["layer_0"]["kernel"] = held["layer_0"]["kernel"].at[0].set(False)
    masks = masks_of(0.5, masks=held)
    assert not np.any(masks["layer_0"]["kernel"][0])
    assert sum(counts_of(masks).values()) == 29 - round(0.5 * 29)


# --- widths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [WidthRule(), WidthRule(8), WidthRule(16), *RULES.values()])
@pytest.mark.parametrize("size", [1, 7, 16, 33, 64, 200, 512])
def test_a_width_never_falls_as_more_is_kept_and_is_the_nearest_multiple(rule, size):
    kept = np.arange(size + 1)
    rounded = np.array([int(rule.round(jnp.int32(k), size)) for k in kept])
    assert (np.diff(rounded) >= 0).all()
    assert rounded[-1] == size
    inner = (kept >= max(rule.exact_below, 1)) & (kept < size)
    if size >= rule.multiple:
        fits = (rounded % rule.multiple == 0) | (rounded == size)
        assert fits[inner].all()
        assert (np.abs(rounded - kept)[inner & (kept >= rule.multiple)] <= rule.multiple / 2).all()
    outside = ~inner if size >= rule.multiple else np.ones(size + 1, bool)
    assert (rounded == kept)[outside & (kept > 0)].all()


def test_measured_widths_of_a_cpu():
    rule = RULES["cpu"]
    widths = {5: 5, 25: 25, 26: 32, 39: 32, 40: 48, 45: 48, 90: 96}
    assert {kept: int(rule.round(jnp.int32(kept), 128)) for kept in widths} == widths


def test_multiples_are_kept():
    sizes = (6, 64, 48, 12, 3)
    params, chain = chain_params(sizes), dense_chain(sizes)
    for sparsity in (0.2, 0.5, 0.7):
        counts = list(counts_of(masks_of(sparsity, couplings=chain, params=params, round_to=16)).values())
        assert [count % 16 == 0 for count in counts[:2]] == [True, True]
        assert 1 <= counts[2] <= 12
        assert abs(sum(counts) - (1 - sparsity) * 124) <= 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "median"}, "pool: unknown pool 'median'"),
        ({"normalise": "l3"}, "normalise: unknown normalise 'l3'"),
        ({"cost": "flop"}, "cost: unknown cost 'flop'; did you mean 'flops'"),
        ({"round_to": "automatic"}, "round_to: unknown rule 'automatic'"),
        ({"round_to": 0}, "round_to: 0 is not a whole number"),
        ({"at_least": 0}, "at_least: 0 is not a whole number"),
        ({"at_least": 1.5}, "at_least: 1.5 is not a whole number"),
    ],
)
def test_options_without_a_meaning_are_errors(options, message):
    with pytest.raises(UserError, match=message):
        pruning.channels(CHAIN, **options)


def test_equal_options_give_the_same_structure():
    assert pruning.channels(CHAIN, round_to="16") is pruning.channels(CHAIN, round_to=16)
    assert pruning.channels(CHAIN) is not pruning.heads(CHAIN)
    assert width_rule("auto") == RULES[jax.default_backend()]


# --- transformations -----------------------------------------------------------------------------------------------


def test_replicas_and_sparsities_share_one_program():
    many = [chain_params(SIZES, seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    options = {"cost": "flops", "round_to": 4}
    together = jax.jit(jax.vmap(lambda params, s: masks_of(s, params=params, **options), in_axes=(0, None)))
    first = jax.vmap(lambda params: masks_of(0.5, params=params, **options))(stacked)  # as the pipeline does
    together(stacked, 0.25)
    with compiles(0):
        found = together(stacked, 0.5)
        jax.vmap(lambda params: masks_of(0.7, params=params, **options))(stacked)
    jax.tree.map(np.testing.assert_array_equal, found, first)
    for r, params in enumerate(many):
        one = masks_of(0.5, params=params, **options)
        jax.tree.map(lambda all_, mine, r=r: np.testing.assert_array_equal(all_[r], mine), found, one)
