"""Placement of replicas and batches on several devices."""

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxprune.errors import UserError
from jaxprune.types import Array, PyTree


def make_mesh(num_replicas: int) -> Mesh | None:
    """A mesh (replica, data) over all devices, or None for one device.

    As many devices as divide R carry replicas of their own; the rest split the batches.

    Args:
      num_replicas: R.
    """
    devices = jax.device_count()
    if devices == 1:
        return None
    replica = math.gcd(num_replicas, devices)
    # Auto: under Explicit axes, gathers from sharded arrays raise.
    return jax.make_mesh((replica, devices // replica), ("replica", "data"), axis_types=(AxisType.Auto, AxisType.Auto))


def measuring_mesh(num_replicas: int) -> Mesh | None:
    """Build a mesh of replicas over this host's devices, or None.

    It has as many devices as divide R; one device needs no mesh.

    For functions of one replica each: every device has replicas of its own, and nothing is exchanged, so that loops
    end on each device when its own replicas are done.

    Args:
      num_replicas: R.
    """
    devices = jax.local_devices()
    most = min(num_replicas, len(devices), _pretended_at_work(devices))
    used = next(n for n in range(most, 0, -1) if num_replicas % n == 0)
    return None if used == 1 else Mesh(np.array(devices[:used]), ("replica",), axis_types=(AxisType.Auto,))


def _pretended_at_work(devices: Sequence[Any]) -> int:
    """The number of devices that may be inside a loop at once.

    The pretended devices of a CPU share a pool of threads, one for each core and no fewer than there are devices. A
    device inside of a loop keeps its thread and waits for work that others do: at least one has to stay free, or all
    wait for ever.
    """
    if devices[0].platform != "cpu":
        return len(devices)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = int(os.environ.get("NPROC") or cores)  # XLA reads the variable too
    return max(1, max(threads, len(devices)) - 1)


def over_replicas(function: Callable[..., Any], mesh: Mesh | None, shared: PyTree, *stacked: PyTree) -> Any:
    """`function(shared, *one replica's)` for every replica, as one compiled program for each `function` object.

    Args:
      function: A pure function.
      mesh: Of `measuring_mesh`, or None for the first device.
      shared: Arrays that are the same for all replicas.
      *stacked: Arrays with a leading axis R.

    Returns:
      The results, stacked along a leading axis R, on the first device.
    """
    first = jax.local_devices()[0]
    if mesh is None:
        return _over_replicas(function, None, *jax.device_put((shared, stacked), first))
    shared, stacked = place(shared, mesh), place(stacked, mesh, "replica")
    return jax.device_put(_over_replicas(function, mesh, shared, stacked), first)


@partial(jax.jit, static_argnames=("function", "mesh"))
def _over_replicas(function: Callable[..., Any], mesh: Mesh | None, shared: PyTree, stacked: tuple) -> Any:
    def mapped(shared: PyTree, stacked: tuple) -> Any:
        return jax.vmap(lambda *leaves: function(shared, *leaves))(*stacked)

    if mesh is None:
        return mapped(shared, stacked)
    whole, spread = PartitionSpec(), PartitionSpec("replica")
    return jax.shard_map(mapped, mesh=mesh, in_specs=(whole, spread), out_specs=spread, check_vma=False)(
        shared, stacked
    )


def place(tree: PyTree, mesh: Mesh | None, *axes: str) -> PyTree:
    """Lay the leading axes of arrays along mesh axes.

    Without names, copy them to every device.
    """
    if mesh is None:
        return tree
    layout = NamedSharding(mesh, PartitionSpec(*axes))
    if layout.is_fully_addressable:
        return jax.device_put(tree, layout)
    return jax.tree.map(lambda leaf: _over_hosts(leaf, layout), tree)


def _over_hosts(leaf: Array, layout: NamedSharding) -> jax.Array:
    """Lay an array that every host holds over all devices.

    An array bound to a device cannot be laid so.
    """
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_over_hosts(jax.random.key_data(leaf), layout), impl=jax.random.key_impl(leaf))
    return jax.device_put(np.asarray(leaf), layout)


def on_host(key: jax.Array) -> jax.Array:
    """Typed keys from any device, on this host's default device."""
    return jax.random.wrap_key_data(fetch(jax.random.key_data(key)), impl=jax.random.key_impl(key))


def check_mesh(mesh: Mesh | None, *, replicated: bool = False) -> None:
    """Raise where a mesh lacks the axis "data", or "replica" for replicas."""
    for axis in ("data", "replica") if replicated else ("data",):
        if mesh is not None and axis not in mesh.shape:
            raise UserError(
                f"mesh: its axes are {', '.join(map(str, mesh.axis_names)) or 'none'}, and {axis!r} is not among them; "
                "give sharding.make_mesh(R), whose axes are replica and data"
            )


def batch_sharding(mesh: Mesh | None) -> NamedSharding | None:
    """The sharding of a batch in `training.fit`: over the data axis.

    Raises:
      UserError: The mesh has no axis "data".
    """
    check_mesh(mesh)
    return None if mesh is None or mesh.shape["data"] == 1 else NamedSharding(mesh, PartitionSpec("data"))


def fetch(tree: PyTree) -> PyTree:
    """Fetch arrays as numpy arrays on every host.

    Arrays on the devices of several hosts are gathered.
    """
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in leaves):
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)
