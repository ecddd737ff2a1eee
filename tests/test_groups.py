"""Sums per group against numpy's bincount and add.at, and the crossing of attributes."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxprune.errors import UserError
from jaxprune.groups import group_count, group_mean, group_sum, intersect

EXAMPLES = 9  # one shape for all drawn examples: every new one is compiled

several = settings(max_examples=25, deadline=None)


class Groups(NamedTuple):
    """The functions under test, compiled."""

    sum: Callable
    count: Callable
    mean: Callable


@pytest.fixture(scope="module", params=["on a CPU", "on an accelerator"])
def groups(request):
    """Both ways of summing; the one for accelerators runs here too."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "on an accelerator":
            patch.setattr(jax.lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments))

        # Functions of their own: jit keeps one compiled program for a function, whatever was patched since.
        def total(values, group, num_groups, weight=None):
            return group_sum(values, group, num_groups, weight)

        def count(group, num_groups, weight=None):
            return group_count(group, num_groups, weight)

        def mean(values, group, num_groups, weight=None, empty=0.0):
            return group_mean(values, group, num_groups, weight, empty=empty)

        yield Groups(
            jax.jit(total, static_argnums=2),
            jax.jit(count, static_argnums=1),
            jax.jit(mean, static_argnums=2),
        )


@st.composite
def weighted_examples(draw):
    """Values, groups, number of groups and weights. Eighths and quarters: their sums are exact in float32."""
    num_groups = draw(st.sampled_from([1, 3, 5]))
    groups = st.lists(st.integers(0, num_groups - 1), min_size=EXAMPLES, max_size=EXAMPLES)
    eighths = st.lists(st.integers(-800, 800), min_size=EXAMPLES, max_size=EXAMPLES)
    quarters = st.lists(st.integers(0, 12), min_size=EXAMPLES, max_size=EXAMPLES)
    values = np.array(draw(eighths), np.float32) / 8
    weight = np.array(draw(quarters), np.float32) / 4
    return values, np.array(draw(groups)), num_groups, weight


@several
@given(weighted_examples())
def test_sums_and_counts_equal_bincount(groups, drawn):
    values, group, num_groups, weight = drawn
    np.testing.assert_array_equal(
        groups.sum(values, group, num_groups, weight), np.bincount(group, weight * values, minlength=num_groups)
    )
    np.testing.assert_array_equal(groups.sum(values, group, num_groups), np.bincount(group, values, num_groups))
    np.testing.assert_array_equal(groups.count(group, num_groups, weight), np.bincount(group, weight, num_groups))
    np.testing.assert_array_equal(groups.count(group, num_groups), np.bincount(group, minlength=num_groups))


@several
@given(weighted_examples(), st.sampled_from([0.0, -1.5, float("nan")]))
def test_group_mean_equals_numpy(groups, drawn, empty):
    """Means equal numpy average and absent groups are as asked."""
    values, group, num_groups, weight = drawn
    mean, count = groups.mean(values, group, num_groups, weight, empty=empty)
    np.testing.assert_array_equal(count, np.bincount(group, weight, num_groups))
    for g in range(num_groups):
        members = group == g
        present = weight[members].sum() > 0
        expected = np.average(values[members], weights=weight[members]) if present else empty
        np.testing.assert_allclose(mean[g], expected, rtol=1e-6, atol=1e-6)


@several
@given(weighted_examples(), st.lists(st.integers(0, 4), min_size=EXAMPLES, max_size=EXAMPLES))
def test_padding_changes_nothing_even_when_it_is_nan(groups, drawn, padding_group):
    values, group, num_groups, weight = drawn
    padding_group = np.array(padding_group) % num_groups
    for filler in (np.nan, np.inf, 7.0):
        padded = (
            np.concatenate([values, np.full(EXAMPLES, filler, np.float32)]),
            np.concatenate([group, padding_group]),
            num_groups,
            np.concatenate([weight, np.zeros(EXAMPLES, np.float32)]),
        )
        for function in (groups.sum, lambda *a: groups.mean(*a)[0], lambda *a: groups.mean(*a)[1]):
            np.testing.assert_array_equal(function(*padded), function(values, group, num_groups, weight))
        np.testing.assert_array_equal(
            groups.count(padded[1], num_groups, padded[3]), groups.count(group, num_groups, weight)
        )


@several
@given(weighted_examples(), st.integers(0, EXAMPLES - 1), st.sampled_from([np.nan, np.inf]))
def test_what_is_not_finite_stays_in_its_group(groups, drawn, at, bad):
    values, group, num_groups, weight = drawn
    weight[at] = 1
    spoilt = values.copy()
    spoilt[at] = bad
    others = np.arange(num_groups) != group[at]
    for function in (groups.sum, lambda *a: groups.mean(*a)[0]):
        found = np.asarray(function(spoilt, group, num_groups, weight))
        np.testing.assert_array_equal(found[others], function(values, group, num_groups, weight)[others])
        np.testing.assert_array_equal(found[group[at]], bad)


@several
@given(weighted_examples(), st.permutations(range(EXAMPLES)), st.randoms(use_true_random=False))
def test_group_mean_permuted(groups, drawn, order, random):
    """The order of examples is no matter and renamed groups rename the results."""
    values, group, num_groups, weight = drawn
    renamed = np.array(random.sample(range(num_groups), num_groups))
    mean, count = groups.mean(values, group, num_groups, weight)
    order = np.array(order)
    again, count_again = groups.mean(values[order], renamed[group[order]], num_groups, weight[order])
    # Exact: the sums are exact, so their order cannot change them.
    np.testing.assert_array_equal(again[renamed], mean)
    np.testing.assert_array_equal(count_again[renamed], count)


@pytest.mark.parametrize("trailing", [(2,), (3, 2)])
def test_trailing_axes_are_summed_one_by_one(groups, trailing):
    rng = np.random.default_rng(0)
    values = rng.integers(-50, 50, (EXAMPLES, *trailing)).astype(np.float32)
    group, weight = rng.integers(0, 3, EXAMPLES), rng.integers(0, 4, EXAMPLES).astype(np.float32)
    expected, counts = np.zeros((4, *trailing)), np.bincount(group, weight, 4)
    np.add.at(expected, group, values * weight.reshape(-1, *(1 for _ in trailing)))
    np.testing.assert_array_equal(groups.sum(values, group, 4, weight), expected)
    mean, count = groups.mean(values, group, 4, weight)
    shape = (4, *(1 for _ in trailing))
    np.testing.assert_allclose(mean, expected / np.where(counts > 0, counts, 1).reshape(shape), rtol=1e-6)
    np.testing.assert_array_equal(count, counts)


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32])
def test_values_of_any_kind_are_counted_and_averaged(groups, dtype):
    values, group = np.array([1, 0, 1, 1, 1], dtype), np.array([0, 0, 0, 2, 2])
    np.testing.assert_array_equal(groups.sum(values, group, 3), [2, 0, 2])
    np.testing.assert_allclose(groups.mean(values, group, 3)[0], [2 / 3, 0, 1], rtol=1e-6)


@pytest.mark.parametrize("empty", [0.0, float("nan")])
@pytest.mark.usefixtures("x64")
def test_group_mean_gradient(groups, empty):
    """Gradient of a mean is weight over count and finite where a group is absent."""
    values, group = jnp.array([1.0, -2, 3, 4, 5]), jnp.array([0, 0, 2, 2, 2])
    weight = jnp.array([1.0, 3, 2, 0, 0.5])  # group 1 has no examples at all, group 3 none either
    gradients = jax.jacobian(lambda v: groups.mean(v, group, 4, weight, empty=empty)[0])(values)
    expected = np.zeros((4, 5))
    expected[0, :2] = [1 / 4, 3 / 4]
    expected[2, 2:] = [2 / 2.5, 0, 0.5 / 2.5]
    np.testing.assert_allclose(gradients, expected, rtol=1e-12)


def test_an_absent_group_divides_nothing_by_zero(groups):
    """Nor is a NaN made and thrown away: who looks for NaNs with this switch would be sent here."""
    with jax.debug_nans(True):
        mean, _ = groups.mean(jnp.array([1.0, 2.0]), jnp.array([0, 0]), 3, jnp.array([1.0, 0.0]))
        assert not jnp.any(jnp.isnan(jax.grad(lambda v: group_mean(v, jnp.array([0]), 3)[0].sum())(jnp.ones(1))))
    np.testing.assert_array_equal(mean, [1, 0, 0])


@pytest.mark.usefixtures("x64")
def test_group_sum_gradient(groups):
    """Gradient of a sum is the weight and zero for padding that is NaN."""
    values, group, weight = jnp.array([1.0, 2, jnp.nan]), jnp.array([0, 1, 1]), jnp.array([2.0, 3, 0])
    gradients = jax.jacobian(lambda v: groups.sum(v, group, 2, weight))(values)
    np.testing.assert_array_equal(gradients, [[2, 0, 0], [0, 3, 0]])


def test_under_vmap_and_jit_the_sums_are_those_of_each_replica(groups):
    rng = np.random.default_rng(1)
    values, group = rng.integers(0, 9, (3, EXAMPLES)).astype(np.float32), rng.integers(0, 3, (3, EXAMPLES))
    together = jax.jit(jax.vmap(lambda v, g: groups.sum(v, g, 3)))(values, group)
    np.testing.assert_array_equal(
        together, [np.bincount(g, v, minlength=3) for v, g in zip(values, group, strict=True)]
    )


ATTRIBUTES = {
    "race": (np.array([0, 2, 1, 1, 0], np.uint8), ("White", "Black", "Other")),
    "sex": (np.array([1, 0, 1, 0, 0], np.uint8), ("Female", "Male")),
    "age": (np.array([0, 1, 1, 0, 1], np.uint8), ("young", "old")),
}


def test_one_attribute_is_itself():
    codes, names = intersect(ATTRIBUTES, "race")
    np.testing.assert_array_equal(codes, [0, 2, 1, 1, 0])
    assert names == ["White", "Black", "Other"]


@pytest.mark.parametrize("spec", ["race*sex", "sex*race", "race * sex*age", "age*sex*race"])
def test_crossed_codes_mean_the_crossed_names(spec):
    codes, names = intersect(ATTRIBUTES, spec)
    parts = [ATTRIBUTES[part.strip()] for part in spec.split("*")]
    assert len(names) == len(set(names)) == np.prod([len(words) for _, words in parts])
    for i, code in enumerate(codes):
        assert names[code] == ", ".join(words[values[i]] for values, words in parts)


def test_the_last_attribute_runs_fastest():
    assert intersect(ATTRIBUTES, "race*sex")[1] == [
        "White, Female", "White, Male", "Black, Female", "Black, Male", "Other, Female", "Other, Male",
    ]  # fmt: skip


def test_more_groups_than_a_byte_holds():
    many = {
        "a": (np.array([0, 19, 19], np.uint8), tuple(map(str, range(20)))),
        "b": (np.array([0, 0, 19], np.uint8), tuple(map(str, range(20)))),
    }
    np.testing.assert_array_equal(intersect(many, "a*b")[0], [0, 380, 399])


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("rase", "'race'"),  # the nearest name
        ("race*sexe", "'sex'"),
        ("xyzzy", "age, race, sex"),  # nothing is near: all of them
        ("race*", "age, race, sex"),
        ("race*race", "twice"),
        ("race*sex* race", "twice"),
    ],
)
def test_a_wrong_spec_is_an_error_that_helps(spec, named):
    with pytest.raises(UserError) as error:
        intersect(ATTRIBUTES, spec)
    assert named in str(error.value)
    assert str(error.value).startswith("data.group: ")
    assert "\n" not in str(error.value)
