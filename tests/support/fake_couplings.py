"""Couplings of a chain of dense layers, made by hand."""

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.trees import named_leaves


@dataclass(frozen=True, eq=False)
class Member:
    path: str
    axis: int
    positions: np.ndarray
    of: str
    role: str


@dataclass(frozen=True, eq=False)
class Coupling:
    name: str
    size: int
    kind: str
    members: tuple

    @property
    def producers(self):
        return tuple(m.path for m in self.members if m.role == "out")

    @property
    def consumers(self):
        return tuple(m.path for m in self.members if m.role == "in")


class Couplings:
    """The parts of `jaxprune.coupling.Couplings` that structures read."""

    def __init__(self, couplings, shapes, pinned=()):
        self.all, self.shapes, self.pinned = tuple(couplings), dict(shapes), tuple(pinned)

    def __len__(self):
        return len(self.all)

    def __iter__(self):
        return iter(self.all)

    def __getitem__(self, key):
        return self.all[key] if isinstance(key, int) else next(c for c in self.all if c.name == key)

    def _shape(self, path, counts):
        sizes = list(self.shapes[path])
        for coupling in self.all:
            for member in coupling.members:
                if member.path == path:
                    k = member.positions.shape[1]
                    sizes[member.axis] += k * (counts.get(coupling.name, coupling.size) - coupling.size)
        return sizes

    def _size(self, path, counts):
        product = 1
        for size in self._shape(path, counts):
            product = product * size
        return product

    def parameters(self, counts):
        return sum(self._size(path, counts) for path in self.shapes)

    def flops(self, counts):
        return 2 * sum(self._size(path, counts) for path, shape in self.shapes.items() if len(shape) == 2)

    def masks(self, keep, params):
        masks = {path: jnp.ones(leaf.shape, bool) for path, leaf in named_leaves(params)}
        for coupling in self.all:
            if coupling.name not in keep:
                continue
            for member in coupling.members:
                shape = [1] * masks[member.path].ndim
                shape[member.axis] = -1
                along = jnp.ones(masks[member.path].shape[member.axis], bool)
                values = jnp.broadcast_to(keep[coupling.name][:, None], member.positions.shape)
                along = along.at[member.positions.reshape(-1)].set(values.reshape(-1))
                masks[member.path] &= along.reshape(shape)
        leaves = [masks[path] for path, _ in named_leaves(params)]
        return jax.tree.unflatten(jax.tree.structure(params), leaves)


def dense_chain(sizes, names=None, *, kind="channels", biases=True):
    """Couplings of layers `name/kernel` [in, out], with biases, whose ends are fixed."""
    names = names or [f"layer_{i}" for i in range(len(sizes) - 1)]
    shapes = {f"{name}/kernel": shape for name, shape in zip(names, pairwise(sizes), strict=True)}
    if biases:
        shapes |= {f"{name}/bias": (size,) for name, size in zip(names, sizes[1:], strict=True)}
    couplings = []
    for before, after, size in zip(names, names[1:], sizes[1:-1], strict=False):
        at = np.arange(size)[:, None]
        members = [Member(f"{before}/kernel", 1, at, "params", "out"), Member(f"{after}/kernel", 0, at, "params", "in")]
        if biases:
            members.append(Member(f"{before}/bias", 0, at, "params", ""))
        couplings.append(Coupling(f"{before}/kernel[1]", size, kind, tuple(members)))
    return Couplings(couplings, shapes)


def chain_params(sizes, names=None, seed=0):
    rng = np.random.default_rng(seed)
    names = names or [f"layer_{i}" for i in range(len(sizes) - 1)]
    return {
        name: {
            "kernel": jnp.asarray(rng.normal(size=shape), jnp.float32),
            "bias": jnp.asarray(rng.normal(size=shape[1]), jnp.float32),
        }
        for name, shape in zip(names, pairwise(sizes), strict=True)
    }
