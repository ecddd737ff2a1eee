"""Masks against a stable sort, and the transformation that keeps pruned weights at zero."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprune import models, pruning
from jaxprune.compat import enable_x64
from jaxprune.errors import UserError
from jaxprune.types import Batch

SHAPES = {"a": (3, 4), "b": (5,), "c": (2, 1, 3)}  # one structure for all drawn scores: every new one is compiled
SIZE = 12 + 5 + 6
SPARSITIES = st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, 0.5, 0.9, 0.999]))

several = settings(max_examples=40, deadline=None)
# Few distinct values make ties; zeros of both signs are one value.
finite = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
scored = st.one_of(
    st.lists(finite, min_size=SIZE, max_size=SIZE),
    st.lists(st.sampled_from([-1.5, -0.0, 0.0, 0.25, 1.0, 2.0**-100, 2.0**100]), min_size=SIZE, max_size=SIZE),
    st.lists(st.sampled_from([-0.0, 0.0]), min_size=SIZE, max_size=SIZE),
)


def tree_of(values, dtype=np.float32):
    """The values as leaves of `SHAPES`, in the order of the leaves."""
    cuts = np.cumsum([np.prod(shape) for shape in SHAPES.values()])[:-1]
    parts = np.split(np.asarray(values, np.float64), cuts)
    dtypes = dtype if isinstance(dtype, tuple) else (dtype,) * len(SHAPES)
    leaves = zip(SHAPES.items(), parts, dtypes, strict=True)
    return {name: jnp.asarray(part.reshape(shape), kind) for (name, shape), part, kind in leaves}


def flat(tree):
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def by_sorting(scores, pruned):
    """False at the `pruned` lowest of an array; equal ones go in the order in which they come."""
    mask = np.ones(scores.size, bool)
    mask[np.argsort(scores.ravel(), kind="stable")[:pruned]] = False
    return mask.reshape(scores.shape)


# --- masks ---------------------------------------------------------------------------------------------------------


@several
@given(scored, SPARSITIES)
def test_global_masks_are_those_of_a_stable_sort(values, sparsity):
    scores = tree_of(values)
    masks = pruning.global_masks(scores, sparsity)
    pruned = round(sparsity * SIZE)
    np.testing.assert_array_equal(flat(masks), by_sorting(flat(scores), pruned))
    assert sum(int(np.sum(~mask)) for mask in masks.values()) == pruned
    assert all(mask.dtype == bool and mask.shape == SHAPES[name] for name, mask in masks.items())


@several
@given(scored, SPARSITIES)
def test_layerwise_masks_are_those_of_a_stable_sort_of_each_layer(values, sparsity):
    scores = tree_of(values)
    masks = pruning.layerwise_masks(scores, sparsity)
    for name, leaf in scores.items():
        expected = by_sorting(np.asarray(leaf), round(sparsity * leaf.size))
        np.testing.assert_array_equal(masks[name], expected)


@several
@given(scored, SPARSITIES, SPARSITIES)
@pytest.mark.parametrize("allocation", pruning.ALLOCATIONS)
def test_a_higher_sparsity_prunes_all_that_a_lower_one_does(allocation, values, one, other):
    scores, masks = tree_of(values), pruning.ALLOCATIONS.make(allocation)
    lower, higher = flat(masks(scores, min(one, other))), flat(masks(scores, max(one, other)))
    assert (higher <= lower).all()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-2048, 2048), min_size=SIZE, max_size=SIZE), SPARSITIES)
@pytest.mark.parametrize(
    "dtype",
    [
        jnp.float16,
        jnp.bfloat16,
        np.float64,
        (np.float32, jnp.bfloat16, jnp.float16),
        (jnp.float16, np.float64, np.float32),
    ],
    ids=["float16", "bfloat16", "float64", "mixed", "mixed with float64"],
)
def test_dtypes_may_be_narrow_wide_and_mixed(dtype, values, sparsity):
    with enable_x64(True):
        # Whole numbers of 64ths are exact in float16, and tie in bfloat16. In float64, differences that a float32
        # does not hold decide.
        fine = np.arange(SIZE)[::-1] * 1e-12 if dtype is np.float64 else 0
        scores = tree_of(np.array(values) / 64 + fine, dtype)
        masks = pruning.global_masks(scores, sparsity)
        np.testing.assert_array_equal(flat(masks), by_sorting(flat(scores), round(sparsity * SIZE)))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_denormal_scores_are_in_order_too(dtype):
    """The hardware may take them for zeros; bits do not."""
    dtype = jnp.dtype(dtype)
    with enable_x64(dtype == np.float64):
        smallest = float(jnp.finfo(dtype).smallest_subnormal)
        scores = np.array([3, 1, 0, 2, -1, -2, 5]) * smallest
        for pruned in range(7):
            masks = pruning.global_masks([jnp.asarray(scores.astype(dtype))], pruned / 7)
            np.testing.assert_array_equal(masks[0], by_sorting(scores, pruned), err_msg=f"{pruned} of 7")


@pytest.mark.parametrize("narrow", ["float32", "bfloat16"])
def test_denormal_scores_are_in_order_among_those_of_float64(narrow):
    with enable_x64(True):
        smallest = float(jnp.finfo(narrow).smallest_subnormal)
        scores = np.array([3, 1, 2, 0, -2, -1, 1.5, 2.5, -1.5, 0.5, -3]) * smallest
        leaves = [jnp.asarray(scores[:6].astype(jnp.dtype(narrow))), jnp.asarray(scores[6:])]
        for pruned in range(11):
            masks = pruning.global_masks(leaves, pruned / 11)
            np.testing.assert_array_equal(np.concatenate(masks), by_sorting(scores, pruned), err_msg=f"{pruned} of 11")


@pytest.mark.parametrize("allocation", pruning.ALLOCATIONS)
def test_counts_are_exact_where_a_threshold_in_floats_is_not(allocation):
    # Neighbouring floats, in no order, and the largest and the smallest there are.
    start = np.float32(0.1).view(np.int32)
    scores = np.random.default_rng(0).permutation(np.arange(start, start + 1000, dtype=np.int32)).view(np.float32)
    scores[:2] = np.finfo(np.float32).max, np.finfo(np.float32).min
    for sparsity in (0.001, 0.3, 0.9990):
        (mask,) = pruning.ALLOCATIONS.make(allocation)([jnp.asarray(scores)], sparsity)
        np.testing.assert_array_equal(mask, by_sorting(scores, round(1000 * sparsity)))


def test_halves_are_rounded_as_python_rounds():
    assert [int(np.sum(~pruning.global_masks([jnp.arange(5.0)], s)[0])) for s in (0.5, 0.3, 0.7)] == [2, 2, 4]


@pytest.mark.parametrize("allocation", pruning.ALLOCATIONS)
def test_masks_are_the_same_under_jit_and_vmap(allocation):
    rng = np.random.default_rng(0)
    many = [tree_of(rng.integers(-3, 4, SIZE)) for _ in range(4)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    masks = partial(pruning.ALLOCATIONS.make(allocation), sparsity=0.4)
    expected = [masks(scores) for scores in many]
    together = jax.jit(jax.vmap(masks))(stacked)
    jax.tree.map(lambda a, *b: np.testing.assert_array_equal(a, np.stack(b)), together, *expected)


@pytest.mark.parametrize("allocation", pruning.ALLOCATIONS)
def test_leaves_that_are_not_prunable_stay_whole_and_do_not_count(allocation):
    values = np.random.default_rng(0).normal(size=SIZE)
    values[12:17] = -100  # the lowest of all
    scores, chosen = tree_of(values), {"a": True, "b": False, "c": True}
    scores["b"] = scores["b"].at[0].set(jnp.nan)  # of what is not pruned, nothing is asked
    masks = pruning.ALLOCATIONS.make(allocation)(scores, 0.5, chosen)
    np.testing.assert_array_equal(masks["b"], np.ones(5, bool))
    rest = {name: scores[name] for name in "ac"}
    expected = pruning.ALLOCATIONS.make(allocation)(rest, 0.5)
    np.testing.assert_array_equal(masks["a"], expected["a"])
    np.testing.assert_array_equal(masks["c"], expected["c"])
    assert sum(int(np.sum(~mask)) for mask in expected.values()) == 9  # half of 12 + 6


def test_an_empty_leaf_is_no_trouble():
    masks = pruning.global_masks([jnp.zeros((0, 3)), jnp.array([2.0, 1])], 0.5)
    np.testing.assert_array_equal(masks[1], [True, False])
    assert masks[0].shape == (0, 3)


@pytest.mark.parametrize("allocation", pruning.ALLOCATIONS)
@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan")])
def test_a_sparsity_outside_of_the_unit_interval_is_an_error(allocation, sparsity):
    with pytest.raises(UserError, match=rf"sparsity: {sparsity} is outside \[0, 1\)"):
        pruning.ALLOCATIONS.make(allocation)([jnp.ones(3)], sparsity)


@pytest.mark.parametrize("allocation", pruning.ALLOCATIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_scores_that_are_not_finite_are_an_error_that_names_the_layer(allocation, dtype, bad):
    ones = jnp.ones((2, 2), dtype)
    scores = {"first": {"kernel": ones}, "second": {"kernel": ones.at[1, 0].set(bad)}}
    with pytest.raises(UserError, match="second/kernel") as error:
        pruning.ALLOCATIONS.make(allocation)(scores, 0.5)
    assert "\n" not in str(error.value)


def test_apply_masks_sets_to_zero_and_leaves_the_rest():
    params = {"w": jnp.array([1.0, -2, jnp.nan, 4]), "b": jnp.array([3], jnp.bfloat16)}
    pruned = pruning.apply_masks(params, {"w": jnp.array([True, False, False, True]), "b": jnp.array([True])})
    np.testing.assert_array_equal(pruned["w"], [1, 0, 0, 4])
    assert pruned["b"].dtype == jnp.bfloat16
    assert pruned["b"] == 3


# --- criteria ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allocation", pruning.ALLOCATIONS)
@pytest.mark.parametrize("criterion", pruning.CRITERIA)
def test_every_criterion_goes_with_every_allocation_and_compiles_once(criterion, allocation):
    params = tree_of(np.random.default_rng(0).normal(size=SIZE))

    def apply(params, x):
        return x @ params["a"] + params["b"][:4]

    batch = Batch(np.ones((4, 3), np.float32), np.arange(4), np.array([0, 1, 0, 1]), np.ones(4))
    evidence = {"apply": apply, "batch": batch, "num_groups": 2, "key": jax.random.key(0), "grads": params}
    scores = pruning.CRITERIA.make(criterion).score(params, **evidence)
    assert jax.tree.structure(scores) == jax.tree.structure(params)
    assert all(scores[name].shape == shape for name, shape in SHAPES.items())
    pruning.ALLOCATIONS.make(allocation)(scores, 0.25)
    sparsities = (0.0, 0.5, 0.9)
    with compiles(0):
        found = [pruning.ALLOCATIONS.make(allocation)(scores, sparsity) for sparsity in sparsities]
    for sparsity, masks in zip(sparsities, found, strict=True):
        pruned = round(sparsity * SIZE) if allocation != "layerwise" else sum(round(sparsity * n) for n in (12, 5, 6))
        assert sum(int(np.sum(~mask)) for mask in masks.values()) == pruned


def test_magnitude_prunes_the_smallest_weights_of_either_sign():
    params = {"w": jnp.array([-3.0, 0.5, -0.1, 2])}
    np.testing.assert_array_equal(
        pruning.global_masks(pruning.magnitude().score(params), 0.5)["w"], [True, False, False, True]
    )


def test_random_scores_are_uniform_and_given_by_the_key():
    params = {"a": jnp.zeros((50, 40)), "b": jnp.zeros((50, 40))}
    one, again, other = (pruning.random().score(params, key=jax.random.key(k)) for k in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert not np.array_equal(one["a"], other["a"])
    assert not np.array_equal(one["a"], one["b"]), "two layers have the same scores"
    assert ((one["a"] >= 0) & (one["a"] < 1)).all()
    # Mean 1/2 and variance 1/12, to within five standard errors of 2,000 draws.
    assert np.mean(one["a"]) == pytest.approx(0.5, abs=5 * np.sqrt(1 / 12 / 2000))
    assert np.var(one["a"]) == pytest.approx(1 / 12, abs=5 * np.sqrt(1 / 180 / 2000))


# --- what may be pruned --------------------------------------------------------------------------------------------


def shapes():
    network = models.build("convnet", np.zeros((8, 8, 1)), 3, channels=(2,), hidden=(4,))
    return jax.eval_shape(network.init, jax.random.key(0))[0]


def selected(**patterns):
    chosen = pruning.prunable(shapes(), **patterns)
    leaves = jax.tree_util.tree_leaves_with_path(chosen)
    assert all(isinstance(leaf, bool) for _, leaf in leaves)
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, leaf in leaves if leaf}


KERNELS = {"conv_0/kernel", "head/dense_0/kernel", "head/dense_1/kernel"}


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ({}, KERNELS),
        ({"include": ["*/dense_*/kernel"]}, {"head/dense_0/kernel", "head/dense_1/kernel"}),
        ({"include": ["conv_0/*"]}, {"conv_0/kernel", "conv_0/bias"}),  # what is asked for, even a bias
        ({"exclude": ["head/dense_1/kernel"]}, KERNELS - {"head/dense_1/kernel"}),
        ({"exclude": ["conv*"]}, KERNELS - {"conv_0/kernel"}),
        ({"include": ["*kernel"], "exclude": ["head/dense_?/*"]}, {"conv_0/kernel"}),
        ({"include": ["conv_0/kernel", "head/dense_[1-3]/kernel"]}, {"conv_0/kernel", "head/dense_1/kernel"}),
    ],
)
def test_prunable_selects_by_pattern(patterns, expected):
    assert selected(**patterns) == expected


@pytest.mark.parametrize(
    ("patterns", "said"),
    [
        ({"include": ["head/dense_0/kernle"]}, ["include", "'head/dense_0/kernel'"]),
        ({"exclude": ["xyz"]}, ["exclude", "conv_0/kernel"]),
        ({"include": ["conv_0/kernel", "nothing*"]}, ["include", "'nothing*'"]),
        ({"exclude": ["*"]}, ["nothing is left", "conv_0/kernel"]),
        ({"include": ["Conv_0/kernel"]}, ["'conv_0/kernel'"]),  # capitals count
    ],
)
def test_patterns_that_select_nothing_are_errors_that_help(patterns, said):
    with pytest.raises(UserError) as error:
        pruning.prunable(shapes(), **patterns)
    assert "\n" not in str(error.value)
    for words in said:
        assert words in str(error.value)


def test_whole_numbers_are_never_prunable():
    params = {"table": jnp.zeros((2, 2), jnp.int32), "kernel": jnp.zeros((2, 2), jnp.bfloat16)}
    assert pruning.prunable(params) == {"table": False, "kernel": True}
    assert pruning.prunable(params, include=["*"]) == {"table": False, "kernel": True}
    with pytest.raises(UserError, match="nothing is left"):
        pruning.prunable(params, include=["table"])


def test_layer_sparsities_count_each_layer_and_flag_an_empty_one():
    masks = {
        "a": {"kernel": np.array([[True, False], [False, False]]), "bias": np.array([True, True])},
        "b": {"kernel": np.zeros((3, 2), bool), "bias": np.ones(2, bool)},
    }
    chosen = {"a": {"kernel": True, "bias": False}, "b": {"kernel": True, "bias": False}}
    layers = pruning.layer_sparsities(masks, chosen)
    assert [(layer.path, layer.size, layer.kept, layer.sparsity, layer.empty) for layer in layers] == [
        ("a/kernel", 4, 1, 0.75, False),
        ("b/kernel", 6, 0, 1.0, True),
    ]
    assert pruning.sparsity_of(masks, chosen) == pytest.approx(9 / 10)
    assert pruning.sparsity_of(masks) == pytest.approx(9 / 14)
    assert len(pruning.layer_sparsities(masks)) == 4


# --- keep_masked ---------------------------------------------------------------------------------------------------

OPTIMISERS = {
    "sgd with momentum and weight decay": lambda: optax.chain(
        optax.add_decayed_weights(0.1), optax.sgd(0.3, momentum=0.9)
    ),
    "adam": lambda: optax.adam(0.1),
    "adamw": lambda: optax.adamw(0.1, weight_decay=0.3),
    "sgd": lambda: optax.sgd(lambda count: 0.5 / (count + 1)),
}


def start_and_masks(zeroed):
    rng = np.random.default_rng(0)
    params = tree_of(rng.normal(size=SIZE))
    masks = tree_of(rng.integers(0, 2, SIZE), bool)
    return (pruning.apply_masks(params, masks) if zeroed else params), masks


def run(tx, params, steps=4, *, compiled=False):
    """Steps with gradients that are drawn, and do not depend on the parameters: coordinates stay apart.

    Only an update that is not compiled as a whole has bits to compare: XLA rounds as it fuses.
    """
    rng = np.random.default_rng(1)
    update = jax.jit(tx.update) if compiled else tx.update
    state, seen = tx.init(params), []
    for _ in range(steps):
        updates, state = update(tree_of(rng.normal(size=SIZE)), state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return seen


@pytest.mark.parametrize(("optimiser", "zeroed"), [*((optimiser, False) for optimiser in OPTIMISERS), ("adam", True)])
def test_pruned_weights_are_exactly_zero_and_the_others_as_if_nothing_was_pruned(optimiser, zeroed):
    params, masks = start_and_masks(zeroed)
    make = OPTIMISERS[optimiser]
    free = run(make(), params)
    kept = run(optax.chain(make(), pruning.keep_masked(masks)), params)
    for without, with_ in zip(free, kept, strict=True):
        for name, mask in masks.items():
            mask, found = np.asarray(mask), np.asarray(with_[name])
            assert not np.any(found[~mask]), "a pruned weight is not 0"
            assert not np.signbit(found[~mask]).any(), "-0.0 is not the 0.0 of apply_masks"
            np.testing.assert_array_equal(found[mask], np.asarray(without[name])[mask])
            assert np.all(np.asarray(without[name])[~mask] != 0), "the optimiser alone would have kept them at 0"


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_it_goes_with_accumulated_gradients(inside):
    params, masks = start_and_masks(zeroed=False)
    sgd = optax.sgd(0.1, momentum=0.9)
    if inside:
        tx = optax.MultiSteps(optax.chain(sgd, pruning.keep_masked(masks)), every_k_schedule=2)
    else:
        accumulated = optax.MultiSteps(sgd, every_k_schedule=2).gradient_transformation()
        tx = optax.chain(accumulated, pruning.keep_masked(masks))
    free = run(optax.MultiSteps(sgd, every_k_schedule=2), params, compiled=True)
    kept = run(tx, params, compiled=True)
    for taken in (1, 3):  # after the second and the fourth gradient
        for name, mask in masks.items():
            mask = np.asarray(mask)
            assert not np.any(np.asarray(kept[taken][name])[~mask])
            found, expected = (np.asarray(seen[taken][name])[mask] for seen in (kept, free))
            np.testing.assert_allclose(found, expected, rtol=1e-6)
            assert not np.allclose(found, np.asarray(params[name])[mask]), "no step was taken"


def test_the_masks_live_in_the_state_as_a_copy():
    params, masks = start_and_masks(zeroed=True)
    tx = pruning.keep_masked(masks)
    state = tx.init(params)
    assert isinstance(state, pruning.KeepMaskedState)
    # A pytree of arrays: it can be saved, and put together again.
    leaves, structure = jax.tree.flatten(state)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.unflatten(structure, map(np.asarray, leaves)).masks, masks)
    # Donating the state deletes its arrays, but not the masks of the caller.
    moved = jax.jit(lambda state: jax.tree.map(jnp.logical_not, state), donate_argnums=0)(state)
    jax.block_until_ready(moved)
    assert all(leaf.is_deleted() for leaf in leaves), "nothing was donated, and this test shows nothing"
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(masks))


def test_one_compiled_step_serves_any_masks():
    params, masks = start_and_masks(zeroed=False)
    others = jax.tree.map(jnp.logical_not, masks)
    tx, traced = pruning.keep_masked(None), []

    @jax.jit
    def step(state, params):
        traced.append(1)
        updates, state = tx.update(jax.tree.map(jnp.ones_like, params), state, params)
        return optax.apply_updates(params, updates)

    for these in (masks, others):
        found = step(pruning.keep_masked(these).init(params), params)
        expected = pruning.apply_masks(jax.tree.map(lambda p: p + 1, params), these)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert len(traced) == 1


def test_it_works_on_stacked_replicas():
    params, masks = start_and_masks(zeroed=False)
    both_masks = jax.tree.map(lambda m: jnp.stack([m, ~m]), masks)
    both = jax.tree.map(lambda p: jnp.stack([p, p]), params)

    def one(params, masks):
        tx = optax.chain(optax.sgd(0.1), pruning.keep_masked(masks))
        updates, _ = tx.update(params, tx.init(params), params)
        return optax.apply_updates(params, updates)

    found = jax.vmap(one)(both, both_masks)
    expected = pruning.apply_masks(jax.tree.map(lambda p: p - 0.1 * p, both), both_masks)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)
    np.testing.assert_array_equal(flat(found) == 0, flat(both_masks) == 0)


def test_bfloat16_weights_stay_bfloat16_and_zero():
    params = {"w": jnp.array([1.3, -2.7, 0.1], jnp.bfloat16)}
    tx = optax.chain(optax.sgd(0.1), pruning.keep_masked({"w": np.array([True, False, False])}))
    updates, _ = tx.update({"w": jnp.ones(3, jnp.bfloat16)}, tx.init(params), params)
    after = optax.apply_updates(params, updates)["w"]
    assert after.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(after, np.float32)[1:], [0, 0])


@pytest.mark.parametrize(
    "masks", [{"kernel": np.ones((2, 2), bool)}, {"w": np.ones((2, 2), bool)}, None], ids=["lacking", "other", "none"]
)
def test_masks_of_another_structure_are_an_error(masks):
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    with pytest.raises((ValueError, AssertionError), match="structure"):
        pruning.keep_masked(masks).init(params)


def test_masks_of_another_shape_are_an_error():
    # This one would broadcast: a column of the mask for every column of the kernel.
    with pytest.raises((ValueError, AssertionError), match="shape"):
        pruning.keep_masked({"kernel": np.ones((2, 1), bool)}).init({"kernel": jnp.ones((2, 2))})


def test_an_update_without_params_is_an_error():
    params = {"w": jnp.ones(2)}
    tx = pruning.keep_masked({"w": np.ones(2, bool)})
    with pytest.raises(ValueError, match="update\\(updates, state, params\\)"):
        tx.update(params, tx.init(params))
