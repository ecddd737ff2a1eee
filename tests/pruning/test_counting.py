"""Shares as whole numbers, exact for float32, and counts as numpy's."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprune import pruning
from jaxprune.errors import UserError
from jaxprune.pruning.counting import count, units_to_prune

SIZES = [0, 1, 2, 5, 23, 1000, 2**16, 2**24 + 1, 25_000_001, 2**30 + 12_345, 2**31 - 2, 2**31 - 1]


def shares_of(size):
    """Random ones of every order of magnitude, halves of units, and the ends."""
    rng = np.random.default_rng(0)
    halves = rng.integers(0, 2 * min(size, 2**23) + 2, 500) / (2 * max(size, 1))
    small = rng.random(500) * 2.0 ** -rng.integers(0, 160, 500)
    ends = [0, 1e-45, 2.0**-126, 1 - 2.0**-24, 2.0**-31, 2.0**-32, 3 * 2.0**-32, 2.0**-33]
    found = np.concatenate([rng.random(1000), halves, small, rng.integers(0, 1024, 500) / 1024, ends])
    found = found.astype(np.float32)
    return found[found < 1]


@pytest.mark.parametrize("size", SIZES)
def test_a_traced_share_is_exact_for_float32(size):
    shares = shares_of(size)
    found = jax.jit(jax.vmap(lambda s: units_to_prune(s, size)))(shares)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, [round(Fraction(float(s)) * size) for s in shares])


def test_a_share_of_python_is_rounded_as_python_rounds():
    assert [int(units_to_prune(0.3, 5)), int(units_to_prune(0.5, 5)), int(units_to_prune(0.7, 5))] == [2, 2, 4]
    assert int(units_to_prune(0.1, 2**31 - 1)) == round(0.1 * (2**31 - 1))


def test_a_traced_share_outside_of_the_unit_interval_is_clamped():
    found = jax.jit(jax.vmap(lambda s: units_to_prune(s, 10)))(jnp.array([-1, 1, 2, jnp.inf, -jnp.inf, jnp.nan]))
    assert found.tolist() == [0, 10, 10, 10, 0, 0]


def test_more_units_than_an_int32_counts_are_an_error():
    with pytest.raises(UserError, match=r"2,147,483,648 units .* prune them layer by layer"):
        units_to_prune(0.5, 2**31)
    with pytest.raises(UserError, match="layer by layer"):
        jax.eval_shape(lambda s: pruning.global_masks([s, s], 0.5), jax.ShapeDtypeStruct((2**15, 2**15), jnp.float32))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_counts_are_those_of_numpy(seed):
    rng = np.random.default_rng(seed)
    for shape in ((0,), (31,), (32,), (1000,), (3, 5, 70), ()):
        arrays = [rng.random(shape) < share for share in (0, 1, 0.5, rng.random())]
        assert count(*map(jnp.asarray, arrays)).tolist() == [int(array.sum()) for array in arrays]


SCORES = {"a": jnp.asarray(np.random.default_rng(0).integers(0, 9, (6, 7)), jnp.float32), "b": -jnp.ones((2, 5))}


@pytest.mark.parametrize("allocation", [pruning.global_masks, pruning.layerwise_masks])
def test_masks_take_a_traced_sparsity_and_many(allocation):
    """The case of the issue: the scores are closed over and the sparsity is the argument."""
    shares = np.array([0, 0.25, 0.5, 0.875, 0.96875], np.float32)
    one = jax.jit(lambda s: allocation(SCORES, s))
    expected = [allocation(SCORES, float(s)) for s in shares]
    for share, masks in zip(shares, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one(share), masks)
    many = jax.jit(jax.vmap(lambda s: allocation(SCORES, s)))(shares)
    jax.tree.map(lambda found, *each: np.testing.assert_array_equal(found, np.stack(each)), many, *expected)
    with compiles(0):
        one(np.float32(0.3))


@pytest.mark.parametrize("allocation", [pruning.global_masks, pruning.layerwise_masks])
def test_other_scores_masks_and_sparsities_compile_nothing(allocation):
    held = jax.tree.map(lambda leaf: leaf < 8, SCORES)
    allocation(SCORES, 0.5), allocation(SCORES, 0.5, masks=held), pruning.nonzero_masks(SCORES)
    others = jax.tree.map(jnp.negative, SCORES)
    with compiles(0):
        allocation(others, 0.75)
        allocation(others, 0.9, masks=held)
        pruning.nonzero_masks(others)


def test_masks_go_through_a_scan():
    def step(masks, share):
        masks = pruning.global_masks(SCORES, share, masks=masks)
        return masks, sum(jnp.sum(~mask) for mask in masks.values())

    start = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, bool), SCORES)
    _, pruned = jax.jit(lambda shares: jax.lax.scan(step, start, shares))(jnp.array([0.25, 0.5, 0.5, 0.75]))
    assert pruned.tolist() == [13, 26, 26, 39]
