"""Axes in terms of couplings, against counting by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune.coupling.axes import Channels, Crossed, Joined, Whole, kept_along, positions_on, size_of, taken_along

HEADS, SIZES = Channels("heads", 3), Channels("sizes", 4)
AXES = {
    "channels": HEADS,
    "parts": Joined((Whole(2), HEADS, SIZES, HEADS)),
    "heads by sizes": Crossed((HEADS, SIZES)),
    "flattened image": Crossed((Whole(2), HEADS)),
    "both": Joined((Whole(1), Crossed((HEADS, Whole(2))), SIZES)),
    "squared": Crossed((HEADS, HEADS)),
}
KEEP = {"heads": np.array([True, False, True]), "sizes": np.array([False, True, True, True])}


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_all_ways_to_read_an_axis_agree(axis):
    kept = kept_along(axis, KEEP)
    assert kept.shape == (axis.size,)
    indices = {name: np.flatnonzero(vector) for name, vector in KEEP.items()}
    np.testing.assert_array_equal(taken_along(axis, indices), np.flatnonzero(kept))
    assert size_of(axis, {name: len(places) for name, places in indices.items()}) == kept.sum()
    # A place is cut if a channel of any coupling that lies there is.
    cut = np.zeros(axis.size, bool)
    for name, vector in KEEP.items():
        for positions in positions_on(axis, name):
            assert positions.shape[0] == len(vector)
            cut[positions[~vector].reshape(-1)] = True
    np.testing.assert_array_equal(cut, ~kept)


@pytest.mark.parametrize("axis", AXES.values(), ids=AXES)
def test_axes_are_read_under_jit_and_vmap(axis):
    several = {name: jnp.stack([vector, vector[::-1]]) for name, vector in KEEP.items()}
    vectors = jax.jit(jax.vmap(lambda keep: jnp.asarray(kept_along(axis, keep))))(several)
    np.testing.assert_array_equal(vectors[0], kept_along(axis, KEEP))
    np.testing.assert_array_equal(vectors[1], kept_along(axis, {n: v[::-1] for n, v in KEEP.items()}))


def test_what_is_not_named_stays():
    assert kept_along(AXES["parts"], {}).all()
    assert size_of(AXES["parts"], {}) == 12
    np.testing.assert_array_equal(taken_along(AXES["heads by sizes"], {}), np.arange(12))
