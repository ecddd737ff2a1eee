"""Chunks of examples, and a map over them whose results do not depend on their size."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune.examples import chunked, map_examples
from jaxprune.types import Batch

N = 7
BATCH = Batch(np.arange(2.0 * N).reshape(N, 2), np.arange(N), np.zeros(N, int), np.ones(N, np.float32))


@pytest.mark.parametrize(("size", "shape"), [(1, (7, 1)), (3, (3, 3)), (4, (2, 4)), (100, (1, 7))])
def test_chunks_are_equally_long_and_padded_with_weight_0(size, shape):
    chunks = chunked(BATCH, size)
    assert chunks.y.shape == shape
    assert chunks.weight.sum() == N
    np.testing.assert_array_equal(chunks.x.reshape(-1, 2)[:N], BATCH.x)
    np.testing.assert_array_equal(chunks.weight.ravel()[N:], 0)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_map_examples(size):
    sums, rows = map_examples(
        lambda chunk: (jnp.sum(chunk.x, -1), chunk.x[:, :, None] * chunk.y[:, None, None]), BATCH, size
    )
    np.testing.assert_array_equal(sums, BATCH.x.sum(-1))
    np.testing.assert_array_equal(rows, BATCH.x[:, :, None] * BATCH.y[:, None, None])
    np.testing.assert_array_equal(map_examples(jnp.negative, BATCH.x, size), -BATCH.x)


def test_map_examples_of_none():
    empty = map_examples(lambda x: x[:, 0], np.ones((0, 3), np.float32), 4)
    assert empty.shape == (0,)
