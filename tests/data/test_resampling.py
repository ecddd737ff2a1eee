import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxprune import config, data
from jaxprune.data import resampling
from jaxprune.errors import UserError

GROUP = np.repeat([0, 1, 2], [60, 30, 10])


def counts(index: np.ndarray) -> list[int]:
    return np.bincount(GROUP[index], minlength=3).tolist()


@given(st.lists(st.floats(0.3, 1), min_size=3, max_size=3))
def test_shares_are_met_to_within_one_example_and_use_some_group_whole(shares) -> None:
    wanted = np.array(shares) / np.sum(shares)
    index = resampling.to_shares(GROUP, "abc", shares)
    got = np.array(counts(index))
    total = min(size / share for size, share in zip((60, 30, 10), wanted, strict=True))
    assert (np.abs(got - total * wanted) < 1).all()
    assert (got == (60, 30, 10)).any()
    assert len(np.unique(index)) == len(index)


def test_shares_in_any_unit() -> None:
    assert counts(resampling.to_shares(GROUP, "abc", (1, 1, 1))) == [10, 10, 10]
    assert counts(resampling.to_shares(GROUP, "abc", (6, 3, 1))) == [60, 30, 10]


def test_upsampling_repeats_one_group_only() -> None:
    index = resampling.upsample(GROUP, "abc", "c", 5)
    assert counts(index) == [60, 30, 50]
    assert np.unique(index[GROUP[index] == 2], return_counts=True)[1].tolist() == [5] * 10


def test_balancing_repeats_each_example_nearly_equally_often() -> None:
    index = resampling.balance(GROUP, 3)
    assert counts(index) == [60, 60, 60]
    for a, most in ((0, 1), (1, 2), (2, 6)):
        times = np.unique(index[GROUP[index] == a], return_counts=True)[1]
        assert len(times) == (60, 30, 10)[a], "every example is there"
        assert times.max() - times.min() <= 1
        assert times.max() == most


def test_only_the_training_split_is_reshaped() -> None:
    plain = data.load("digits")
    for reshaped in (
        data.load("digits", balance=True),
        data.load("digits", shares=range(1, 11)),
        data.load("digits", upsample_group="3", upsample_times=4),
    ):
        assert reshaped.group_sizes("train").tolist() != plain.group_sizes("train").tolist()
        for split in ("validation", "test"):
            np.testing.assert_array_equal(reshaped.split(split).y, plain.split(split).y)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"shares": (1, 2)}, "2 shares for 10 groups"),
        ({"shares": (1,) * 9 + (0,)}, "0 is not above 0"),
        ({"shares": (1,) * 9 + (1e-6,)}, "without an example"),
        ({"upsample_group": "11", "upsample_times": 2}, "unknown group '11'"),
    ],
)
def test_mistakes_are_named(options, part) -> None:
    with pytest.raises(UserError, match=part):
        data.load("digits", **options)


def test_upsampling_needs_both_settings() -> None:
    with pytest.raises(UserError, match="go together"):
        config.load(None, {"data.upsample_group": "Other"})
    with pytest.raises(UserError, match="go together"):
        config.load(None, {"data.upsample_times": 3})
