"""Sizes against numbers by hand and files that are really written."""

import jax
import numpy as np
import pytest

from jaxprune import costs

RNG = np.random.default_rng(0)


def kept(shape, share, dtype=np.float32):
    """An array with this share of its numbers kept, the others 0."""
    flat = np.zeros(int(np.prod(shape)), dtype)
    flat[: round(share * flat.size)] = 1 + RNG.random(round(share * flat.size))
    return RNG.permutation(flat).reshape(shape)


def write(array, path):
    """Write an array in the smaller of both forms, and return the bytes of the file."""
    packed = np.packbits(array.ravel() != 0).tobytes() + array[array != 0].tobytes()
    path.write_bytes(min(packed, array.tobytes(), key=len))
    return path.stat().st_size


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.96, 0.97, 1.0])
def test_bytes_are_those_of_written_files(share, tmp_path):
    arrays = {
        "kernel": kept((30, 7), share), "bias": kept((7,), 1.0), "wide": kept((5, 5), share, np.float64),
        "half": kept((9,), share, np.float16), "state": np.arange(3, dtype=np.int32),
    }  # fmt: skip
    written = sum(write(array, tmp_path / name) for name, array in arrays.items())
    assert costs.packed_bytes(arrays) == written


def test_sizes_by_hand():
    params = {"kernel": kept((10, 20), 0.1), "bias": np.ones(20, np.float32)}
    stats = {"mean": np.zeros(20, np.float32) + 2}
    sizes = costs.sizes_of(params, stats)
    assert sizes == costs.Sizes(parameters=220, nonzeros=20 + 20, bytes=(25 + 20 * 4) + 80 + 80)
    assert costs.sizes_of(params).bytes == 105 + 80


def test_a_mask_pays_below_31_of_32_weights():
    """A bit each costs as much as one float32 of 32."""
    assert costs.packed_bytes(kept((32,), 31 / 32)) == 128
    assert costs.packed_bytes(kept((32,), 30 / 32)) == 124


def test_kept_zeros_are_stored():
    weights, mask = np.zeros(64, np.float32), np.arange(64) < 10
    assert costs.packed_bytes(weights) == 8
    assert costs.packed_bytes({"kernel": weights}, {"kernel": mask}) == 8 + 4 * 10
    assert costs.dense_bytes({"kernel": weights, "half": np.zeros(3, np.float16)}) == 256 + 6


def test_keys_of_random_numbers_count_as_their_words():
    assert costs.packed_bytes({"dropout": jax.random.key(0xFFFFFFFF)}) <= 8
    assert costs.sizes_of((), {}) == costs.Sizes(0, 0, 0)
