"""Test splits that are drawn for images, and copies that are in two splits."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxprune.data.prepare.collection import Attribute, Collection
from jaxprune.data.prepare.split import draw_test_split
from jaxprune.data.splitting import crossing


def collected(labels: Sequence[int], **others: Sequence[int]) -> Collection:
    columns = {name: Attribute(np.array(values)) for name, values in {"label": labels, **others}.items()}
    return Collection("made", Path(), [Path()] * len(labels), columns, None, "")


def test_two_images_of_a_kind_give_one_to_the_test_split() -> None:
    labels = [0] * 2 + [1] + [2] * 4 + [3] * 8
    digests = [f"{i:064x}" for i in range(len(labels))]
    chosen = [i for i, side in enumerate(draw_test_split(collected(labels), digests, 0.2)) if side == "test"]
    assert chosen == [0, 3, 7, 8], "0.4, 0.2, 0.8 and 1.6, rounded"


def test_a_drawn_split_is_even_over_the_label_and_the_attributes_that_follow() -> None:
    """To one image in every cell of a label with an attribute, however the images come; ages are binned."""
    rng = np.random.default_rng(0)
    for n in (200, 3000):
        labels, sex, age = (
            rng.choice(4, n, p=[0.6, 0.2, 0.15, 0.05]),
            rng.choice(2, n, p=[0.8, 0.2]),
            rng.integers(1, 99, n),
        )
        digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(n)]
        for others, cells in (({"sex": sex}, sex), ({"age": age}, np.digitize(age, range(10, 81, 10)))):
            test = np.array(draw_test_split(collected(labels, **others), digests, 0.2)) == "test"
            for label in range(4):
                here = labels == label
                assert test[here].sum() == int(0.2 * here.sum() + 0.5)
                for cell in range(cells.max() + 1):
                    both = here & (cells == cell)
                    assert abs(test[both].sum() - test[here].mean() * both.sum()) <= 1.5, (n, label, cell)
        both = np.array(draw_test_split(collected(labels, sex=sex, age=age), digests, 0.2)) == "test"
        order = rng.permutation(n)
        shuffled = draw_test_split(
            collected(labels[order], sex=sex[order], age=age[order]), [digests[i] for i in order], 0.2
        )
        np.testing.assert_array_equal(np.array(shuffled) == "test", both[order])
        assert abs(both[sex == 1].mean() - 0.2) < 2 / (sex == 1).sum() + 0.01


def test_rare_kinds_of_an_attribute_have_their_share_of_the_test_split() -> None:
    """Though every label has one or two of them: rounding cell by cell would leave all out, or take half."""
    labels, rare = np.arange(4000) % 100, np.arange(4000) // 100 == 7
    digests = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(4000)]
    test = np.array(draw_test_split(collected(labels, rare=rare.astype(int)), digests, 0.2)) == "test"
    assert rare.sum() == 100
    assert 10 <= test[rare].sum() <= 32, "20, give or take three standard deviations"


def test_copies_give_way_to_the_split_that_goes_first() -> None:
    """Against a loop over the splits in their order: test, validation, train."""
    rng = np.random.default_rng(0)
    split, unit = rng.integers(0, 3, 200), rng.integers(0, 120, 200)
    first: dict[int, int] = {}
    for code in (1, 2, 0):
        for i in np.flatnonzero(split == code).tolist():
            first.setdefault(int(unit[i]), i)
    expected = [first[int(u)] if split[first[int(u)]] != split[i] else -1 for i, u in enumerate(unit)]
    found = crossing(split, unit)
    assert found.tolist() == expected
    assert 0 < (found >= 0).sum() < 200
    assert (crossing(np.zeros(5, np.uint8), np.array([7, 7, 2, 2, 2])) == -1).all(), "copies in one split stay"
