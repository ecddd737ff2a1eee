"""Where replicas and batches lie when there is more than one device."""

import math

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxprune.types import PyTree


def make_mesh(num_replicas: int) -> Mesh | None:
    """A mesh with the axes (replica, data) over all devices, or None where there is one device.

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


def place(tree: PyTree, mesh: Mesh | None, *axes: str) -> PyTree:
    """Lays the leading axes of every array along the mesh axes named; without names, copies it to every device."""
    if mesh is None:
        return tree
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*axes)))


def batch_sharding(mesh: Mesh | None) -> NamedSharding | None:
    """How `training.fit` splits a batch: over the data axis."""
    return None if mesh is None or mesh.shape["data"] == 1 else NamedSharding(mesh, PartitionSpec("data"))
