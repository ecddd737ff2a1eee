"""Dimensions as trees, linked by position."""

import pytest

from jaxprune.coupling.dimensions import (
    MISMATCH,
    Leaf,
    Product,
    Sum,
    divided,
    free_leaves,
    leaves_of,
    pin,
    reshaped,
    resolve,
    stretch,
    unify,
)


def sizes(dimension):
    return [leaf.size for leaf in leaves_of(dimension)]


def test_leaves_are_unified_and_the_older_one_stays():
    older, newer = Leaf(4), Leaf(4)
    unify(newer, older)
    assert resolve(newer) is older
    assert resolve(older) is older


def test_a_reason_is_shared_by_what_is_one():
    a, b, c = Leaf(4), Leaf(4), Leaf(4)
    unify(a, b)
    pin(b, "first")
    unify(c, a)
    pin(c, "second")
    assert [resolve(x).reason for x in (a, b, c)] == ["first"] * 3


def test_sums_are_divided_where_parts_of_the_other_end():
    a, b, c = Leaf(3), Leaf(5), Leaf(8)
    whole = Leaf(8)
    unify(whole, Sum((a, b)))
    assert sizes(whole) == [3, 5]
    unify(c, Sum((Leaf(2), Leaf(6))))
    unify(whole, c)
    assert sizes(whole) == sizes(c) == [2, 1, 5]
    assert list(leaves_of(whole)) == list(leaves_of(c))
    assert sizes(b) == [5]
    assert sizes(a) == [2, 1]


def test_products_are_divided_at_common_factors():
    six, four = Leaf(6), Leaf(4)
    joined = Product((six, four))
    eight = Leaf(8)
    unify(joined, Product((Leaf(3), eight)))
    assert sizes(six) == [3, 2]
    assert sizes(eight) == [2, 4]
    assert list(leaves_of(six))[1] is next(iter(leaves_of(eight)))
    assert all(leaf.reason is None for leaf in leaves_of(joined))


def test_factors_that_do_not_fit_are_pinned_and_what_follows_is_not():
    four, six, five = Leaf(4), Leaf(6), Leaf(5)
    other = Leaf(5)
    unify(Product((four, six, five)), Product((Leaf(6), Leaf(4), other)))
    assert four.reason == six.reason == MISMATCH
    assert resolve(five).reason is None
    assert resolve(other) is resolve(five)


def test_a_sum_is_not_a_product():
    a, b, c, d = (Leaf(2) for _ in range(4))
    unify(Sum((a, b)), Product((c, d)))
    assert {leaf.reason for leaf in (a, b, c, d)} == {MISMATCH}


def test_a_rolled_axis_ends_at_the_greatest_common_divisor():
    channels = Leaf(15)
    first, rest = divided(channels, [5, 10])
    unify(Sum((rest, first)), channels)
    assert sizes(channels) == [5, 5, 5]
    assert len(set(leaves_of(channels))) == 1


def test_a_stretch_of_an_axis():
    a, b = Leaf(3), Leaf(4)
    joined = Sum((a, b))
    assert resolve(stretch(joined, 3, 7)) is b
    assert stretch(a, 0, 3) is a
    assert sizes(stretch(joined, 1, 5)) == [2, 2]
    assert sizes(a) == [1, 2]
    assert stretch(a, 2, 2).size == 0


def test_a_reshape_joins_and_takes_apart():
    height, width, channels = (Leaf(n) for n in (7, 7, 5))
    (flat,) = reshaped((height, width, channels), (245,))
    assert list(leaves_of(flat)) == [height, width, channels]
    heads = Leaf(12)
    parts = reshaped((heads,), (3, 4))
    assert sizes(heads) == [3, 4]
    assert [resolve(part) for part in parts] == list(leaves_of(heads))


def test_a_single_channel_stays():
    assert list(free_leaves(Sum((Leaf(1), Leaf(2))))) != []
    assert Leaf(1).reason is not None
    assert Leaf(2).reason is None


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
def test_empty_arrays_are_kept_whole(shape):
    before = Leaf(0)
    reshaped((before, Leaf(4)), shape)
    assert before.reason is not None
