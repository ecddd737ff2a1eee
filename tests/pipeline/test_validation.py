"""Who decides in a comparison: the half of the validation split that moves multipliers, and the half that chooses."""

import numpy as np
import pytest

from jaxprune.data import from_arrays
from jaxprune.data.batching import select
from jaxprune.errors import UserError
from jaxprune.pipeline.validation import validation_halves

CUT = ("equal_loss_held_out",)


def dataset(group, y, x=None):
    """One of which the validation split is given; every input is the number of its example."""
    x = np.arange(len(y), dtype=np.float32)[:, None] if x is None else x
    ends = np.arange(4), np.arange(4) % 2, np.arange(4)
    few = (np.zeros((4, *x.shape[1:]), x.dtype), *ends[1:])
    names = tuple("abcd")
    return from_arrays(few, (x, y, group), few, label_names=["no", "yes", "more"], group_names=names)


@pytest.fixture
def uneven():
    """Groups of 400, 61, 7 and 2, in which the labels are of unlike shares."""
    rng = np.random.default_rng(2)
    group = rng.permutation(np.repeat(np.arange(4), (400, 61, 7, 2)))
    return dataset(group, (rng.random(470) < 0.2 + 0.2 * group) + (rng.random(470) < 0.1))


def test_the_halves_are_disjoint_cover_the_split_and_are_alike(uneven):
    found = [select(uneven.validation, rows) for rows in validation_halves(uneven, CUT)]
    here, there = (set(half.x[:, 0].astype(int)) for half in found)
    assert not here & there
    assert here | there == set(range(470))
    assert abs(len(here) - len(there)) <= 1
    validation = uneven.validation
    for half in found:  # examples are taken whole
        rows = half.x[:, 0].astype(int)
        np.testing.assert_array_equal(half.y, validation.y[rows])
        np.testing.assert_array_equal(half.group, validation.group[rows])
    for group in range(4):
        a, b = (int((half.group == group).sum()) for half in found)
        assert abs(a - b) <= 1
        assert min(a, b) > 0
        for label in range(3):
            a, b = (int(((half.group == group) & (half.y == label)).sum()) for half in found)
            assert abs(a - b) <= 1, (group, label)


def test_where_nobody_is_held_out_the_whole_split_chooses(uneven):
    for rows in validation_halves(uneven, []):
        np.testing.assert_array_equal(rows, np.arange(470))


def test_a_group_that_cannot_be_in_both_halves_is_refused(uneven):
    alone = np.append(np.zeros(9, int), [1, 2, 2, 3, 3])
    with pytest.raises(UserError, match=r"equal_loss_held_out .*group 'b' is too small to be in both; raise data.val"):
        validation_halves(dataset(alone, np.zeros(14, int)), CUT)
    validation_halves(dataset(alone, np.zeros(14, int)), [])


def test_copies_of_an_image_are_in_one_half():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 3, 3, 1), np.uint8)
    x = np.concatenate([images, images])
    group = np.tile(np.arange(40) % 4, 2)
    made = dataset(group, np.zeros(80, int), x)
    found = [select(made.validation, rows) for rows in validation_halves(made, CUT)]
    here, there = ({image.tobytes() for image in half.x} for half in found)
    assert not here & there
    assert len(here) == len(there) == 20
    again = dataset(np.repeat(np.arange(4), 2), np.zeros(8, int), np.repeat(images[:4], 2, axis=0))
    with pytest.raises(UserError, match="group 'a' is too small"):
        validation_halves(again, CUT)
