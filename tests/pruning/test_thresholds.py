"""The threshold of many scores is that of a sort, whatever a sample of them foretells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import pruning
from jaxprune.compat import enable_x64
from jaxprune.pruning.thresholds import SAMPLE, WORTH_A_SAMPLE, keep_all_but_lowest

SHAPES = ((4, 32, 300), (500, 401), (32_000,))
SIZE = 4 * 32 * 300 + 500 * 401 + 32_000
RNG = np.random.default_rng(0)
STRIDE = SIZE // SAMPLE | 1
NORMAL = RNG.normal(size=SIZE)
WAVE = np.where(np.arange(SIZE) % STRIDE, NORMAL, 100)  # a sample of one leaf sees hundreds alone
SCORES = {
    "normal": NORMAL,
    "magnitudes": np.abs(NORMAL),
    "few": RNG.integers(-3, 4, SIZE),
    "all equal": np.ones(SIZE),
    "mostly zeros": np.where(RNG.random(SIZE) < 0.7, 0, NORMAL),
    "misleading": WAVE,
    "of every size": np.exp(40 * NORMAL).clip(1e-37, 1e37),
    "in order": np.arange(SIZE) - SIZE // 2,
    "two clusters": np.where(np.arange(SIZE) < SIZE // 3, 1e-30, 1e30) * (1 + np.arange(SIZE) % 7),
}


def leaves_of(values):
    cuts = np.cumsum([np.prod(shape) for shape in SHAPES])[:-1]
    return [jnp.asarray(p.reshape(s), jnp.float32) for p, s in zip(np.split(values, cuts), SHAPES, strict=True)]


def flat(leaves):
    return np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])


def by_sorting(order, pruned):
    mask = np.ones(SIZE, bool)
    mask[order[:pruned]] = False
    return mask


@pytest.mark.parametrize("kind", SCORES)
def test_thresholds_of_many_scores_are_those_of_a_stable_sort(kind):
    assert SIZE >= WORTH_A_SAMPLE
    leaves = leaves_of(SCORES[kind])
    order = np.argsort(flat(leaves), kind="stable")
    for pruned in (0, 1, SIZE // 1000, SIZE // 3, SIZE // 2, round(0.9 * SIZE), SIZE - 1, SIZE):
        masks = keep_all_but_lowest(leaves, jnp.int32(pruned), [None] * 3)
        np.testing.assert_array_equal(flat(masks), by_sorting(order, pruned), err_msg=f"{pruned} of {SIZE}")


def test_what_is_held_goes_first_of_many_scores_too():
    leaves, held = leaves_of(SCORES["few"]), leaves_of(RNG.random(SIZE) < 0.6)
    held = [leaf == 1 for leaf in held]
    order = np.lexsort((np.arange(SIZE), flat(leaves), flat(held)))
    for pruned in (round(0.45 * SIZE), round(0.9 * SIZE)):
        masks = keep_all_but_lowest(leaves, jnp.int32(pruned), held)
        np.testing.assert_array_equal(flat(masks), by_sorting(order, pruned))


def test_many_sparsities_of_many_scores():
    leaves, shares = leaves_of(SCORES["magnitudes"]), np.array([0, 0.125, 0.75, 0.984375], np.float32)
    order = np.argsort(flat(leaves), kind="stable")
    many = jax.jit(jax.vmap(lambda s: pruning.global_masks(leaves, s)))(shares)
    for i, share in enumerate(shares):
        np.testing.assert_array_equal(flat([leaf[i] for leaf in many]), by_sorting(order, round(float(share) * SIZE)))


def test_float64_beyond_float32():
    values = 1 + RNG.permutation(SIZE) * 1e-13
    with enable_x64(True):
        masks = keep_all_but_lowest([jnp.asarray(values)], jnp.int32(SIZE // 2), [None])
    np.testing.assert_array_equal(masks[0], by_sorting(np.argsort(values), SIZE // 2))


def test_no_memory_is_taken_for_the_scores_again():
    leaves = leaves_of(SCORES["normal"])
    compiled = keep_all_but_lowest.lower(leaves, jnp.int32(9), [None] * 3).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * SIZE / 4
