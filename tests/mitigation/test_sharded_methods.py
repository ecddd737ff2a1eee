"""Every method on many devices gives what it gives on one; multipliers, buffers and held-out examples included."""

import pytest

from jaxprune.mitigation import METHODS

SCRIPT = """
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprune import sharding
from jaxprune.mitigation import (
    METHODS, MethodInputs, dense_reference, method_data, method_step, method_transformation
)
from jaxprune.pruning import keep_masked, magnitude, prune
from jaxprune.training import fit, init_state
from jaxprune.networks import Network
from jaxprune.types import Batch

R, G = 4, 3
rng = np.random.default_rng(0)


def forward(params, x):
    return jnp.tanh(x @ params["in"]["kernel"]) @ params["out"]["kernel"] + params["out"]["bias"]


def apply(params, stats, x, train):
    return forward(params, x), stats


def split(n):
    x, y = rng.normal(size=(n, 4)).astype(np.float32), rng.integers(0, 3, n).astype(np.int32)
    return Batch(x, y, (np.arange(n) % 7 // 3).astype(np.int32), np.ones(n, np.float32))


train, validation = split(98), split(28)
kernels = {"in": (4, 6), "out": (6, 3)}
dense = {name: {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32)} for name, shape in kernels.items()}
dense["out"]["bias"] = jnp.zeros(3)
pruned, masks = prune(dense, 0.5, criterion=magnitude())
shares = [jnp.asarray(np.bincount(codes, minlength=3) / len(codes), jnp.float32) for codes in (train.group, train.y)]
reference = dense_reference(forward, dense, train, num_groups=G, held_out=validation)
around = MethodInputs(*shares, reference, jax.random.key(1))
primal = optax.chain(optax.sgd(0.05, momentum=0.9), keep_masked(masks))
mesh, keys = sharding.make_mesh(R), jax.random.split(jax.random.key(3), R)
found = {"devices": jax.device_count(), "mesh": dict(mesh.shape), "apart": {}, "moved": {}}

for name, method in METHODS.items():
    values = {hyper: jnp.linspace(min(tried), max(tried) + 0.01, R) for hyper, tried in method.candidates.items()}

    def init(values, method=method):
        return init_state(pruned, method_transformation(method, primal, pruned, around, values))

    state = jax.jit(jax.vmap(init, axis_size=R))(values)
    some = {hyper: float(tried[0]) for hyper, tried in values.items()}
    step = method_step(
        method, Network(None, apply), method_transformation(method, primal, pruned, around, some), num_groups=G
    )
    data = method_data(method, train, validation, num_groups=G)
    placed = sharding.place(state, mesh, "replica"), sharding.place(data, mesh)
    options = {"epochs": 2, "batch_size": 28}
    one = fit(step, state, data, key=keys, **options)
    many = fit(
        step, *placed, key=sharding.place(keys, mesh, "replica"), data_sharding=sharding.batch_sharding(mesh), **options
    )
    kinds = jax.dtypes.prng_key
    pairs = [
        (np.asarray(a, np.float64), np.asarray(b, np.float64))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True)
        if not jnp.issubdtype(a.dtype, kinds)
    ]
    found["apart"][name] = max(float(np.max(np.abs(a - b) / (1 + np.abs(a)), initial=0)) for a, b in pairs)
    found["moved"][name] = float(jnp.max(jnp.abs(one[0].params["out"]["bias"])))

json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def found(on_eight_devices):
    """What the process with eight devices saw."""
    found = on_eight_devices(SCRIPT)
    assert found["mesh"] == {"replica": 4, "data": 2}
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_on_eight_devices_is_that_on_one(found, name):
    """Parameters, multipliers, buffers, what is held, and the whole log."""
    assert found["apart"][name] < 1e-4
    assert found["moved"][name] > 0.01, "nothing was trained"
