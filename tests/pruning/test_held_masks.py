"""What is pruned already stays pruned and counts, whoever pruned it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprune import pruning
from jaxprune.compat import enable_x64
from jaxprune.errors import UserError

SHAPES = {"a": (3, 4), "b": (2, 1, 3), "c": (5,)}
SIZES = {"a": 12, "b": 6, "c": 5}
FEW = st.lists(st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0]), min_size=23, max_size=23)  # many ties
SHARES = st.floats(0, 1, exclude_max=True)


def tree_of(values, dtype=np.float32):
    parts = np.split(np.asarray(values), np.cumsum(list(SIZES.values()))[:-1])
    return {name: jnp.asarray(p.reshape(SHAPES[name]), dtype) for name, p in zip(SHAPES, parts, strict=True)}


def flat(tree):
    return np.concatenate([np.asarray(tree[name]).ravel() for name in sorted(tree)])


def by_sorting(scores, held, pruned):
    """What is held first, then the lowest scores, in the order in which they come."""
    mask = np.ones(len(scores), bool)
    mask[np.lexsort((np.arange(len(scores)), scores, held))[:pruned]] = False
    return mask


@settings(max_examples=60, deadline=None)
@given(FEW, st.lists(st.booleans(), min_size=23, max_size=23), SHARES)
def test_global_masks_prune_on_from_what_is_pruned(values, held, sparsity):
    scores, masks = tree_of(values), tree_of(held, bool)
    pruned, already = round(sparsity * 23), held.count(False)
    if pruned < already:
        with pytest.raises(UserError, match="that are pruned already; give at least 0"):
            pruning.global_masks(scores, sparsity, masks=masks)
    else:
        found = flat(pruning.global_masks(scores, sparsity, masks=masks))
        np.testing.assert_array_equal(found, by_sorting(values, held, pruned))
        assert not (found & ~np.array(held)).any(), "a weight grew again"


@settings(max_examples=40, deadline=None)
@given(FEW, st.lists(st.booleans(), min_size=23, max_size=23), SHARES)
def test_layerwise_masks_prune_on_from_what_is_pruned(values, held, sparsity):
    scores, masks = tree_of(values), tree_of(held, bool)
    short = [n for n, mask in masks.items() if round(sparsity * SIZES[n]) < int(np.sum(~mask))]
    if short:
        with pytest.raises(UserError, match=f"of {short[0]} that are pruned already"):
            pruning.layerwise_masks(scores, sparsity, masks=masks)
    else:
        found = pruning.layerwise_masks(scores, sparsity, masks=masks)
        for name, leaf in scores.items():
            expected = by_sorting(flat({"": leaf}), flat({"": masks[name]}), round(sparsity * leaf.size))
            np.testing.assert_array_equal(flat({"": found[name]}), expected)


@settings(max_examples=30, deadline=None)
@given(FEW, FEW, SHARES, SHARES)
def test_rounds_of_other_scores_are_nested_and_exact(first, second, one, other):
    """Pruning by one criterion and then on by another."""
    low, high = sorted((one, other))
    once = pruning.global_masks(tree_of(first), low)
    twice = pruning.global_masks(tree_of(second), high, masks=once)
    assert not (flat(twice) & ~flat(once)).any()
    assert (~flat(twice)).sum() == round(high * 23)


def in_rounds(size, share, *, rounds, masks=None):
    criterion = pruning.Criterion(lambda params, **_: params, rounds=rounds)
    params = {"w": jnp.arange(1.0, size + 1)}
    return pruning.prune(params, share, criterion=criterion, prunable={"w": True}, masks=masks)[1]["w"]


@pytest.mark.parametrize(("size", "rounds"), [(10, 2), (37, 100)])
def test_rounds_of_one_criterion_end_at_the_exact_count(size, rounds):
    held = {"w": jnp.arange(size) >= 1}
    for share in (0.35, 0.85):  # the float32 beside each of them rounds to another number of ten
        for masks in (None, held):
            found = in_rounds(size, share, rounds=rounds, masks=masks)
            np.testing.assert_array_equal(found, np.arange(size) >= round(share * size))
    with pytest.raises(UserError, match="that are pruned already"):
        in_rounds(size, 0.0, rounds=rounds, masks=held)


def test_no_round_prunes_more_than_the_last():
    """The power of the round before the last, as a float32, is beyond the half unit that the sparsity ends with."""
    size, already, share = 200_000, 100_386, 0.5019325
    found = in_rounds(size, share, rounds=100, masks={"w": jnp.arange(size) >= already})
    assert int((~found).sum()) == round(share * size) == already


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_what_is_held_goes_before_the_lowest_finite_score(dtype):
    with enable_x64(dtype == "float64"):
        lowest = jnp.finfo(dtype).min
        scores = {"w": jnp.array([lowest, 1, lowest, 2], dtype)}
        masks = {"w": jnp.array([True, True, True, False])}
        assert pruning.global_masks(scores, 0.25, masks=masks)["w"].tolist() == [True, True, True, False]
        assert pruning.global_masks(scores, 0.5, masks=masks)["w"].tolist() == [False, True, True, False]


@pytest.mark.parametrize(
    ("already", "size", "said"),
    [
        (12, 23, "0.52"),
        (1, 3, "0.33"),
        (1, 200, "0.01"),
        (999, 1000, "0.999"),
        (1000, 1000, "0.9999"),
        (1, 10**4, "0.0001"),
    ],
)
def test_the_least_that_is_said_can_be_asked(already, size, said):
    scores = {"w": jnp.arange(size, dtype=jnp.float32)}
    masks = {"w": jnp.arange(size) >= already}
    with pytest.raises(UserError) as error:
        pruning.global_masks(scores, 0.0, masks=masks)
    assert str(error.value) == (f"sparsity: 0.0 is below the {said} that are pruned already; give at least {said}")
    found = pruning.global_masks(scores, float(said), masks=masks)["w"]
    assert int(jnp.sum(~found)) == max(already, round(float(said) * size))


def test_layers_are_named_with_what_is_pruned_in_them():
    scores = {"first": {"kernel": jnp.ones(10)}, "second": {"kernel": jnp.ones(10)}}
    masks = {"first": {"kernel": jnp.arange(10) >= 2}, "second": {"kernel": jnp.arange(10) >= 7}}
    with pytest.raises(UserError) as error:
        pruning.layerwise_masks(scores, 0.3, masks=masks)
    said = "sparsity: 0.3 is below the 0.7 of second/kernel that are pruned already; give at least 0.7"
    assert str(error.value) == said


def test_under_jit_a_lower_target_leaves_what_is_pruned():
    scores, masks = tree_of(np.arange(23.0)), tree_of(np.arange(23) % 2 == 0, bool)
    found = jax.jit(lambda s: pruning.global_masks(scores, s, masks=masks))(0.1)
    np.testing.assert_array_equal(flat(found), flat(masks))


def test_leaves_that_are_not_prunable_stay_whole_whatever_their_masks():
    scores, masks = tree_of(np.arange(23.0)), tree_of(np.arange(23) >= 6, bool)
    chosen = {"a": True, "b": True, "c": False}
    found = pruning.global_masks(scores, 0.5, chosen, masks)
    assert found["c"].all()
    assert int(sum(jnp.sum(~mask) for mask in found.values())) == 9


# --- networks that are sparse already --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_exact_zeros_count_as_pruned(dtype):
    with enable_x64(dtype == "float64"):
        small = float(jnp.finfo(dtype).smallest_subnormal)
        values = np.array([[0.0, -0.0, small, -small, 1.0, np.nan, np.inf, -2.0]])
        masks = pruning.nonzero_masks({"kernel": jnp.asarray(values.astype(jnp.dtype(dtype)))})
    assert masks["kernel"].tolist() == [[False, False, True, True, True, True, True, True]]


def test_biases_at_zero_are_not_pruned_unless_asked():
    params = {"kernel": jnp.array([[0.0, 1.0]]), "bias": jnp.zeros(2)}
    assert pruning.nonzero_masks(params)["bias"].tolist() == [True, True]
    everything = {"kernel": True, "bias": True}
    assert pruning.nonzero_masks(params, everything)["bias"].tolist() == [False, False]
    under_jit = jax.jit(lambda params: pruning.nonzero_masks(params, everything))(params)
    assert under_jit["kernel"].tolist() == [[False, True]]


def test_a_network_that_others_pruned_is_pruned_on_without_regrowth():
    rng = np.random.default_rng(0)
    kernel = np.where(rng.random((8, 8)) < 0.5, 0, rng.normal(size=(8, 8)))
    params = {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(8)}
    held = pruning.nonzero_masks(params)
    pruned, masks = pruning.prune(params, 0.75, criterion=pruning.random(), key=jax.random.key(0), masks=held)
    assert int(jnp.sum(~masks["kernel"])) == 48
    assert not (masks["kernel"] & (kernel == 0)).any()
    np.testing.assert_array_equal(pruned["kernel"], np.where(masks["kernel"], params["kernel"], 0))
    with pytest.raises(UserError, match=r"below the 0\.48 that"):
        pruning.prune(params, 0.3, criterion=pruning.magnitude(), masks=held)
