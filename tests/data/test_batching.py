"""How many examples are computed on at a time, and that it does not matter for the results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import auditing, theory
from jaxprune.examples import CHUNK_BYTES, chunk_size_for
from jaxprune.types import Batch


@pytest.mark.parametrize("shape", [(100,), (32, 32, 3), (64, 64, 3), (224, 224, 3)])
@pytest.mark.parametrize("replicas", [1, 5])
def test_a_chunk_fills_the_budget_and_does_not_exceed_it(shape, replicas):
    size = chunk_size_for(np.empty((0, *shape), np.uint8), None, replicas=replicas)
    one = 4 * replicas * int(np.prod(shape))  # as float32, whatever it is stored as
    assert 1 <= size <= 4096
    assert size * one <= CHUNK_BYTES
    assert size == 4096 or (size + 1) * one > CHUNK_BYTES


def test_a_chunk_has_one_example_at_least_and_what_was_asked_for_is_taken():
    huge = np.broadcast_to(np.uint8(0), (3, 4000, 4000, 3))
    assert chunk_size_for(huge, None) == 1
    assert chunk_size_for(huge, 77) == 77


def test_chunks_of_one_group_keep_to_a_budget_shared_by_the_replicas():
    n = 600
    images = Batch(np.zeros((n, 64, 64, 3), np.uint8), np.zeros(n, int), np.zeros(n, int), np.ones(n, np.float32))
    rows = images._replace(x=np.zeros((n, 100), np.float32))
    lengths = [theory.by_group(batch, 1, replicas=r).y.shape[1] for batch, r in ((rows, 5), (images, 1), (images, 5))]
    assert lengths[0] > lengths[1] > lengths[2] >= 1
    for length, replicas in zip(lengths[1:], (1, 5), strict=True):
        assert length * replicas * 4 * 64 * 64 * 3 <= 2 << 20


def apply(params, x):
    return jnp.tanh(x @ params)


@pytest.mark.usefixtures("x64")
def test_results_do_not_depend_on_it():
    rng = np.random.default_rng(0)
    n = 53
    batch = Batch(rng.normal(size=(n, 6)), rng.integers(0, 3, n), rng.integers(0, 2, n), rng.random(n))
    dense = jnp.asarray(rng.normal(size=(6, 3)))
    pruned = dense * (jnp.abs(dense) > 0.7)

    def results(size):
        return (
            auditing.evaluate(apply, dense, batch, num_groups=2, chunk_size=size),
            auditing.sampling_error(apply, dense, pruned, batch, num_groups=2, chunk_size=size),
            theory.boundary_distance(apply, dense, batch, num_groups=2, chunk_size=size),
            theory.taylor(apply, dense, pruned, batch, num_groups=2, chunk_size=size),
        )

    default = results(None)
    for size in (1, 10):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7), results(size), default)
