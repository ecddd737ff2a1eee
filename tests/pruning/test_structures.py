"""N:M and blocks: exact in every group, on dense layers and convolutions, and errors that name all layers."""

from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from fake_couplings import Coupling, Couplings, Member
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxprune import pruning
from jaxprune.errors import UserError
from jaxprune.pruning import STRUCTURES, layerwise_masks

several = settings(max_examples=40, deadline=None)
SHAPES = {"conv": (3, 3, 8, 2), "dense": (12, 5)}  # kernels of flax: [height, width, in, out] and [in, out]
# Few distinct values make ties; zeros of both signs are one value.
VALUES = st.sampled_from([-1.5, -0.0, 0.0, 0.25, 1.0, 3.0])
scored = st.fixed_dictionaries({name: arrays(np.float32, shape, elements=VALUES) for name, shape in SHAPES.items()})


def scores_of(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


def masks_of(structure, scores, sparsity, masks=None, allocation=None, prunable=None):
    return structure.masks(scores, sparsity, prunable, masks, structure.allocation or allocation)


def pruned_of(masks):
    return {name: int(np.sum(~np.asarray(mask))) for name, mask in masks.items()}


# --- N:M -----------------------------------------------------------------------------------------------------------


def group_by_group(scores, m, pruned, axis=-2):
    """The mask by a stable sort of every group, one at a time."""
    lines = np.moveaxis(np.asarray(scores), axis, -1)
    mask = np.ones(lines.shape, bool)
    for index in np.ndindex(*lines.shape[:-1]):
        for start in range(0, lines.shape[-1], m):
            lowest = np.argsort(lines[index][start : start + m], kind="stable")[:pruned]
            mask[index][start + lowest] = False
    return np.moveaxis(mask, -1, axis)


@given(scored, st.sampled_from([(4, 0), (4, 1), (4, 2), (4, 3), (2, 1)]))
@several
def test_every_group_along_the_inputs_keeps_its_highest(scores, pattern):
    m, pruned = pattern
    masks = masks_of(pruning.n_m(m=m), scores, pruned / m)
    for name, leaf in scores.items():
        np.testing.assert_array_equal(masks[name], group_by_group(leaf, m, pruned))
    conv, dense = np.asarray(masks["conv"]), np.asarray(masks["dense"])
    assert (conv.reshape(3, 3, 8 // m, m, 2).sum(3) == m - pruned).all()
    assert (dense.reshape(12 // m, m, 5).sum(1) == m - pruned).all()


@given(scored)
@several
def test_a_higher_sparsity_prunes_all_that_a_lower_one_does(scores):
    found = [masks_of(pruning.n_m(), scores, sparsity) for sparsity in (0.25, 0.5, 0.75)]
    for lower, higher in pairwise(found):
        assert all(np.all(np.asarray(higher[name]) <= np.asarray(lower[name])) for name in SHAPES)


@pytest.mark.parametrize(
    ("axis", "along"),
    [
        ({"dense": 1}, {"dense": 1}),
        (("conv=3", "dense=-1"), {"conv": 3, "dense": 1}),
        (("conv=0",), {"conv": 0}),
        (1, {"conv": 1, "dense": 1}),
        ({"conv": (0, 1, 2), "dense": (0,)}, {}),  # as found from the products of a network: HWIO
        ({"conv": (1, 2, 3), "dense": (1,)}, {"conv": 1, "dense": 1}),  # OIHW, [out, in]
        ({"conv": (1, 2), "dense": ()}, {"conv": 2}),
        ({"conv": [0, 1, 2, 3]}, {"conv": 3}),
    ],
)
def test_the_axis_is_a_choice_for_each_layer(axis, along):
    scores = scores_of({"conv": (4, 4, 4, 4), "dense": (4, 8)})
    masks = masks_of(pruning.n_m(axis=axis), scores, 0.5)
    for name, leaf in scores.items():
        np.testing.assert_array_equal(masks[name], group_by_group(leaf, 4, 2, along.get(name, -2)))


def test_a_tree_of_axes_has_the_structure_of_the_parameters():
    scores = {"attention": {"query": scores_of({"kernel": (4, 2, 8)}), "out": scores_of({"kernel": (2, 4, 8)})}}
    axes = {"attention": {"query": {"kernel": (0,)}, "out": {"kernel": (0, 1)}}}
    masks = masks_of(pruning.n_m(axis=axes), scores, 0.5)["attention"]
    for name, axis in (("query", 0), ("out", 1)):
        kernel = scores["attention"][name]["kernel"]
        np.testing.assert_array_equal(masks[name]["kernel"], group_by_group(kernel, 4, 2, axis))
    flat = {"attention/out/kernel": (0, 1), "attention/query/kernel": (0,)}
    assert pruning.n_m(axis=axes) is pruning.n_m(axis=flat)


UNEVEN = {
    "stem": {"kernel": jax.ShapeDtypeStruct((3, 3, 3, 8), jnp.float32)},
    "body": {"kernel": jax.ShapeDtypeStruct((3, 3, 8, 8), jnp.float32)},
    "head": {"kernel": jax.ShapeDtypeStruct((10, 4), jnp.float32), "bias": jax.ShapeDtypeStruct((4,), jnp.float32)},
}


@pytest.mark.parametrize(
    ("structure", "parts"),
    [
        (pruning.n_m(), ["m: 4 does not divide", "head/kernel (10 along axis 0)", "stem/kernel (3 along axis 2)"]),
        (
            pruning.blocks(height=4, width=4),
            ["height, width: blocks of 4 x 4 do not tile", "head/kernel (10 x 4)", "stem/kernel (3 x 8)"],
        ),
    ],
)
def test_layers_that_do_not_fit_are_all_named_with_what_to_exclude(structure, parts):
    with pytest.raises(UserError) as error:
        structure.check(UNEVEN, pruning.prunable(UNEVEN), (0.5,))
    for part in [*parts, "; exclude head/kernel, stem/kernel from pruning"]:
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    structure.check(UNEVEN, pruning.prunable(UNEVEN, exclude=["head/kernel", "stem/kernel"]), (0.5,))


@pytest.mark.parametrize("structure", [pruning.n_m(), pruning.blocks()])
def test_a_vector_does_not_fit(structure):
    with pytest.raises(UserError, match=r"head/bias"):
        structure.check(UNEVEN, pruning.prunable(UNEVEN, include=["head/bias", "body/kernel"]), (0.5,))


@pytest.mark.parametrize(
    ("m", "sparsity", "reachable"),
    [
        (4, 0.9, "m=4 reaches 0.25, 0.5, 0.75"),
        (2, 0.25, "m=2 reaches 0.5"),
        (4, 0.9999999, "m=4 reaches 0.25, 0.5, 0.75"),
        (32, 0.3, "m=32 reaches the multiples of 1/32"),
    ],
)
def test_a_sparsity_that_is_no_whole_number_of_a_group_is_out_of_reach(m, sparsity, reachable):
    scores = scores_of({"kernel": (64, 1)})
    for call in (
        lambda: pruning.n_m(m=m).check(scores, None, (0.5, sparsity)),
        lambda: masks_of(pruning.n_m(m=m), scores, sparsity),
        lambda: jax.jit(lambda s: masks_of(pruning.n_m(m=m), s, sparsity))(scores),
    ):
        with pytest.raises(UserError, match=reachable) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"m": 1}, {"m": 2.5}, {"axis": {"a": 0.5}}, {"axis": ("a=x",)}, {"axis": ("a",)}])
def test_options_of_n_m_without_a_meaning_are_errors(options):
    with pytest.raises(UserError, match=f"{next(iter(options))}: "):
        pruning.n_m(**options)


def test_an_axis_for_no_layer_is_an_error():
    with pytest.raises(UserError, match="axis: unknown parameter 'dens'; did you mean 'dense'"):
        masks_of(pruning.n_m(axis={"dens": 0}), scores_of(SHAPES), 0.5)
    with pytest.raises(UserError, match=r"^axis: there is no axis 3 in dense of shape \(4, 4\); "):
        masks_of(pruning.n_m(axis=3), scores_of({"dense": (4, 4)}), 0.5)


def test_n_m_goes_with_no_other_allocation():
    params = scores_of(SHAPES)
    prune = partial(pruning.prune, params, 0.5, criterion=pruning.magnitude(), structure=pruning.n_m())
    jax.tree.map(np.testing.assert_array_equal, prune()[1], prune(allocation=layerwise_masks)[1])
    with pytest.raises(UserError, match="allocation: "):
        prune(allocation=pruning.global_masks)


def test_groups_go_on_from_what_is_pruned_already():
    scores = {"a": jnp.array([[4.0], [3.0], [2.0], [1.0]] * 2)}
    held = {"a": jnp.array([[False], [True], [True], [True]] + [[True]] * 4)}
    masks = masks_of(pruning.n_m(), scores, 0.5, held)
    assert masks["a"][:, 0].tolist() == [False, True, True, False, True, True, False, False]
    held = {"a": held["a"].at[1:3].set(False)}
    assert pruned_of(masks_of(pruning.n_m(), scores, 0.75, held)) == {"a": 6}
    with pytest.raises(UserError, match=r"masks: more of 4 weights than a sparsity of 0.5 .* 1 groups of a"):
        masks_of(pruning.n_m(), scores, 0.5, held)
    # Under jit it cannot be told, and what is pruned stays so.
    compiled = jax.jit(lambda held: masks_of(pruning.n_m(), scores, 0.5, held))(held)
    assert compiled["a"][:, 0].tolist() == [False, False, False, True, True, True, False, False]


# --- blocks --------------------------------------------------------------------------------------------------------

POOLED = {
    "mean": lambda block: block.mean(),
    "max": lambda block: block.max(),
    "l2": lambda block: np.sqrt((block**2).sum()),
}


def block_by_block(scores, height, width, pool):
    """The pooled scores, one block at a time."""
    scores = np.asarray(scores)
    *leading, rows, columns = scores.shape
    result = np.zeros((*leading, rows // height, columns // width), np.float32)
    for index in np.ndindex(*result.shape):
        *start, i, j = index
        block = scores[(*start, slice(i * height, (i + 1) * height), slice(j * width, (j + 1) * width))]
        result[index] = POOLED[pool](block)
    return result


@pytest.mark.parametrize("pool", POOLED)
@pytest.mark.parametrize("name", pruning.ALLOCATIONS)
def test_the_allocation_prunes_blocks_by_their_pooled_scores(name, pool):
    scores, allocation = scores_of({"conv": (3, 1, 4, 6), "dense": (8, 9)}), pruning.ALLOCATIONS.make(name)
    masks = masks_of(pruning.blocks(height=2, width=3, pool=pool), scores, 0.6, allocation=allocation)
    units = allocation({key: jnp.asarray(block_by_block(leaf, 2, 3, pool)) for key, leaf in scores.items()}, 0.6)
    for key, kept in units.items():
        np.testing.assert_array_equal(masks[key], np.kron(kept, np.ones((2, 3))).astype(bool))
    pruned = sum(pruned_of(masks).values()) / 6
    assert pruned == {"layerwise": round(0.6 * 12) + round(0.6 * 12)}.get(name, round(0.6 * 24))


def test_held_weights_stay_pruned_in_blocks_that_are_kept():
    scores = {"a": jnp.array([[1.0, 1, 2, 2, 9, 9], [1, 1, 2, 2, 0, 0]])}
    held = {"a": jnp.ones((2, 6), bool).at[:, 4:].set(False).at[0, 2].set(False)}
    prune = partial(masks_of, pruning.blocks(height=2, width=2), scores, masks=held, allocation=layerwise_masks)
    # The last block is pruned whole already, and counts; of the second three weights of 2 are left, so 1.5 a weight.
    assert prune(1 / 3)["a"].tolist() == [[True, True, False, True, False, False], [True] * 4 + [False, False]]
    assert prune(2 / 3)["a"].tolist() == [
        [False, False, False, True, False, False],
        [False] * 2 + [True] * 2 + [False] * 2,
    ]


def test_a_block_of_one_weight_is_the_weight():
    scores = scores_of(SHAPES)
    masks = masks_of(pruning.blocks(height=1, width=1), scores, 0.7, allocation=pruning.global_masks)
    jax.tree.map(np.testing.assert_array_equal, masks, pruning.global_masks(scores, 0.7))


@pytest.mark.parametrize("options", [{"height": 0}, {"width": 1.5}, {"pool": "median"}])
def test_options_of_blocks_without_a_meaning_are_errors(options):
    with pytest.raises(UserError, match=f"{next(iter(options))}: "):
        pruning.blocks(**options)


# --- contracts -----------------------------------------------------------------------------------------------------

FIT = {"conv": (2, 1, 8, 4), "dense": (12, 8), "empty": (0, 4), "bias": (3,)}
CHOSEN = {"conv": True, "dense": True, "empty": True, "bias": False}


COUPLED = {"channels", "heads"}  # structures that are made of the couplings of a network


@cache
def columns(kind):
    """The last axes of two kernels, of which nothing else depends."""
    sides = [
        Coupling(
            name, FIT[name][-1], kind, (Member(name, len(FIT[name]) - 1, np.arange(size)[:, None], "params", "out"),)
        )
        for name, size in (("conv", 4), ("dense", 8))
    ]
    return Couplings(sides, FIT)


def select(name):
    structure = STRUCTURES.make(name, *([columns(name)] if name in COUPLED else []))
    return partial(masks_of, structure, allocation=layerwise_masks, prunable=CHOSEN)


@pytest.mark.parametrize("name", STRUCTURES)
def test_one_compiled_program_serves_every_sparsity_and_every_replica(name):
    masks, many = select(name), [scores_of(FIT, seed) for seed in range(2)]
    stack = partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    together = jax.jit(jax.vmap(masks, in_axes=(0, None)))
    together(stack(*many), 0.25), masks(many[0], 0.25)
    with compiles(0):
        found = [(together(stack(*many), s), [masks(scores, s) for scores in many]) for s in (0.0, 0.5, 0.75)]
    for of_all, of_each in found:
        jax.tree.map(np.testing.assert_array_equal, of_all, stack(*of_each))
        assert np.all(of_all["bias"])


@pytest.mark.parametrize("name", STRUCTURES)
def test_scores_that_are_not_finite_are_errors_where_they_are_prunable(name):
    scores = scores_of(FIT)
    select(name)({**scores, "bias": jnp.array([1.0, jnp.nan, 2.0])}, 0.5)
    for bad in (jnp.nan, -jnp.inf):
        with pytest.raises(UserError, match="the scores of dense hold NaN or infinite"):
            select(name)({**scores, "dense": scores["dense"].at[0, 0].set(bad)}, 0.5)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_pruned_exactly(name, kind):
    scores = {key: jnp.round(leaf).astype(kind) for key, leaf in scores_of(FIT).items()}  # so with many ties
    masks = select(name)(scores, 0.5)
    assert pruned_of(masks) == {"conv": 32, "dense": 48, "empty": 0, "bias": 0}
    wide = {key: leaf.astype(jnp.float32) for key, leaf in scores.items()}
    jax.tree.map(np.testing.assert_array_equal, masks, select(name)(wide, 0.5))


@pytest.mark.parametrize("name", STRUCTURES)
def test_equal_options_give_the_same_structure(name):
    assert STRUCTURES.make(name) is STRUCTURES.make(name)
    assert STRUCTURES.make(name) is STRUCTURES.choose(name)()
    assert STRUCTURES.make(name) is getattr(pruning, name)()


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("name", STRUCTURES)
def test_a_sparsity_outside_of_the_unit_interval_is_an_error(name, sparsity):
    with pytest.raises(UserError, match=rf"sparsity: {sparsity} is outside"):
        select(name)(scores_of(FIT), sparsity)


def test_scores_too_small_to_be_normal_have_an_order(x64):
    scores = np.array([[3e-40], [0.0], [2e-40], [-1e-40]])
    for kind, factor in ((jnp.float32, 1.0), (jnp.float64, 1e-275)):
        masks = masks_of(pruning.n_m(), {"a": jnp.asarray(scores * factor, kind)}, 0.5)
        assert masks["a"][:, 0].tolist() == [True, False, True, False]


# --- devices -------------------------------------------------------------------------------------------------------

SCRIPT = """
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxprune import pruning

MASKS = {
    "n_m": lambda scores: pruning.n_m().masks(scores, 0.5),
    "blocks": lambda scores: pruning.blocks().masks(scores, 0.5, None, None, pruning.global_masks),
    "erk": lambda scores: pruning.erk()(scores, 0.6),
    "levels": lambda scores: pruning.levels(levels={"conv": 0.3})(scores, 0.5),
    "normalised": lambda scores: pruning.together(normalise=True)(scores, 0.5),
}
rng = np.random.default_rng(0)
one = {
    "conv": jnp.asarray(rng.integers(-9, 9, (3, 3, 64, 32)), jnp.float32),
    "dense": jnp.asarray(rng.normal(size=(128, 64)), jnp.float32),
}
found = {"devices": jax.device_count()}
mesh = jax.make_mesh((8,), ("spread",), axis_types=(jax.sharding.AxisType.Auto,))
for where, axis in (("inputs", -2), ("outputs", -1)):
    specs = {name: PartitionSpec(*[None] * (leaf.ndim + axis), "spread") for name, leaf in one.items()}
    many = {name: jax.device_put(leaf, NamedSharding(mesh, specs[name])) for name, leaf in one.items()}
    for name in MASKS if axis == -2 else ["n_m"]:
        both = MASKS[name](one), MASKS[name](many)
        found[f"{name} over {where}"] = all(
            bool((np.asarray(both[0][leaf]) == np.asarray(both[1][leaf])).all()) for leaf in one
        )
    program = jax.jit(MASKS["n_m"]).lower(many).compile().as_text()
    words = ("all-gather", "all-reduce", "all-to-all", "collective-permute")
    found[f"n_m over {where} moves nothing"] = not any(word in program for word in words)
json.dump(found, sys.stdout)
"""


@pytest.mark.slow
def test_masks_on_eight_devices_are_exactly_those_on_one(on_eight_devices):
    found = on_eight_devices(SCRIPT)
    del found["devices"]
    assert len(found) == 8
    assert [name for name, right in found.items() if not right] == []
