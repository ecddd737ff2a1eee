"""Many devices give what one gives. They are pretended, in one process of its own, that all tests here read."""

import jax
import numpy as np
import pytest

from jaxprune import sharding

SCRIPT = """
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprune import losses, pruning, sharding, training
from jaxprune.types import Batch

found = {"devices": jax.device_count(), "mesh": {}, "batch axis": {}, "spread": {}, "fit": {}, "moved": {}, "masks": {},
         "measured": {}}


def apply(params, x):
    return jax.nn.relu(x @ params["first"]) @ params["last"]


rng = np.random.default_rng(0)
data = Batch(
    jnp.asarray(rng.normal(size=(100, 6)), jnp.float32), jnp.asarray(rng.integers(0, 3, 100)),
    jnp.asarray(rng.integers(0, 2, 100)), jnp.ones(100),
)

for replicas in (3, 4, 5, 8):
    mesh = sharding.make_mesh(replicas)
    found["mesh"][replicas] = dict(mesh.shape)
    split = sharding.batch_sharding(mesh)
    found["batch axis"][replicas] = None if split is None else list(split.spec)

for replicas, batch_size in ((4, 16), (5, 10)):
    mesh = sharding.make_mesh(replicas)
    shapes = {"first": (replicas, 6, 8), "last": (replicas, 8, 3)}
    params = {name: jnp.asarray(rng.normal(size=shape) / 2, jnp.float32) for name, shape in shapes.items()}
    masks = {name: jnp.asarray(rng.random(shape) < 0.6) for name, shape in shapes.items()}
    keys = jax.random.split(jax.random.key(1), replicas)
    tx = optax.chain(optax.adam(0.02), pruning.keep_masked(None))
    step = training.make_step(apply, losses.cross_entropy, tx)

    def init(params, masks):
        tx = optax.chain(optax.adam(0.02), pruning.keep_masked(masks))
        return training.init_state(params, tx)

    state = jax.vmap(init)(params, masks)
    placed = sharding.place(state, mesh, "replica")
    found["spread"][replicas] = list(placed.params["first"].sharding.spec)
    options = {"epochs": 3, "batch_size": batch_size}
    one, one_logs = training.fit(step, state, data, key=keys, **options)
    many, many_logs = training.fit(
        step, placed, sharding.place(data, mesh), key=sharding.place(keys, mesh, "replica"),
        data_sharding=sharding.batch_sharding(mesh), **options,
    )
    pairs = zip(jax.tree.leaves((one, one_logs)), jax.tree.leaves((many, many_logs)), strict=True)
    found["fit"][f"{replicas} of {batch_size}"] = max(
        float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)))) for a, b in pairs
    )
    found["moved"][f"{replicas} of {batch_size}"] = float(jnp.max(jnp.abs(one.params["first"] - state.params["first"])))

# Scores with many ties, in one network over all devices, and in replicas of their own.
mesh = jax.make_mesh((4, 2), ("replica", "data"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
scores = {
    "a": jnp.asarray(rng.integers(0, 9, (16, 8)), jnp.float32), "b": jnp.asarray(rng.normal(size=(8, 3)), jnp.float32)
}
spread = {"a": sharding.place(scores["a"], mesh, "replica", "data"), "b": sharding.place(scores["b"], mesh, "replica")}
stacked = {name: jnp.stack([leaf, -leaf, leaf + 1, 2 * leaf]) for name, leaf in scores.items()}
laid = sharding.place(stacked, mesh, "replica", "data")
assert len(spread["a"].sharding.device_set) == len(laid["b"].sharding.device_set) == 8
for sparsity in (0.1, 0.5, 0.9):
    def masks(scores):
        return pruning.global_masks(scores, sparsity)

    both = [(masks(scores), masks(spread)), (jax.vmap(masks)(stacked), jax.vmap(masks)(laid))]
    found["masks"][sparsity] = [
        bool((np.asarray(one[name]) == np.asarray(many[name])).all()) for one, many in both for name in scores
    ]

# Measuring: every replica's loop ends when it is done, whatever the others do.
def measure(factor, start):
    first = (start["value"], jnp.int32(0))
    return jax.lax.while_loop(lambda at: at[0] < 100, lambda at: (at[0] * factor, at[1] + 1), first)


for replicas in (1, 5, 6, 16):
    mesh = sharding.measuring_mesh(replicas)
    starts = {"value": jnp.linspace(0.1, 90, replicas)}
    one = sharding.over_replicas(measure, None, jnp.float32(1.5), starts)
    many = sharding.over_replicas(measure, mesh, jnp.float32(1.5), starts)
    found["measured"][replicas] = {
        "devices": 1 if mesh is None else mesh.size,
        "turns": [leaf.tolist() for leaf in (one[1], many[1])],
        "equal": bool((one[0] == many[0]).all()),
        "left on": len(many[0].devices()),
    }

json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def found(on_eight_devices):
    """What the process with eight devices saw."""
    found = on_eight_devices(SCRIPT)
    return found


@pytest.mark.parametrize(("replicas", "replica", "data"), [(3, 1, 8), (4, 4, 2), (5, 1, 8), (8, 8, 1)])
def test_devices_of_replicas_and_batches(found, replicas, replica, data):
    """As many devices as divide the replicas carry them and the rest split batches."""
    assert found["mesh"][str(replicas)] == {"replica": replica, "data": data}
    assert found["batch axis"][str(replicas)] == (None if data == 1 else ["data"])


def test_replicas_are_laid_over_the_devices(found):
    assert found["spread"] == {"4": ["replica"], "5": ["replica"]}


@pytest.mark.parametrize("case", ["4 of 16", "5 of 10"])
def test_training_on_eight_devices_is_training_on_one(found, case):
    """The second case has batches that eight devices cannot share evenly."""
    assert found["fit"][case] < 1e-5
    assert found["moved"][case] > 0.1, "nothing was trained"


@pytest.mark.parametrize("sparsity", ["0.1", "0.5", "0.9"])
def test_masks_on_eight_devices_are_exactly_those_on_one(found, sparsity):
    assert found["masks"][sparsity] == [True] * 4  # two layers of one network, and of replicas


def test_one_device_needs_no_mesh():
    assert jax.device_count() == 1
    assert sharding.make_mesh(5) is None
    assert sharding.batch_sharding(None) is None
    tree = {"a": np.ones(3)}
    assert sharding.place(tree, None, "replica") is tree


def test_networks_are_measured_on_as_many_devices_as_divide_them(found):
    assert {int(r): m["devices"] for r, m in found["measured"].items()} == {1: 1, 5: 5, 6: 6, 16: 4}
    for replicas, measured in found["measured"].items():
        one, many = measured["turns"]
        assert one == many
        assert len(set(one)) > 1 or replicas == "1"
        assert measured["equal"]
        assert measured["left on"] == 1
