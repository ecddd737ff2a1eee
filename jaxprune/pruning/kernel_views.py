"""Kernels as matrices, followed through reshapes and transpositions.

An atom is a part of an axis of a parameter: `index along the axis = Σ index of atom * inner`. A view of a parameter is
its atoms in another order, cut and joined into other axes. Atoms that a reshape cuts stay comparable, as each knows its
place in the parameter.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp

from jaxprune.types import Array


class Atom(NamedTuple):
    """A part of an axis of a parameter.

    Attributes:
      axis: The axis.
      inner: The product of the sizes of the parts of the axis that run faster.
      size: Its own size.
    """

    axis: int
    inner: int
    size: int


Axes = tuple[tuple[Atom, ...], ...]  # the atoms of each axis of a view, the slowest first; none for an added axis


def whole(shape: Sequence[int]) -> Axes:
    """The view of a parameter that is the parameter itself."""
    return tuple((Atom(axis, 1, size),) for axis, size in enumerate(shape))


def reshaped(axes: Iterable[Sequence[Atom]], shape: Sequence[int]) -> Axes | None:
    """The view after a reshape.

    Args:
      axes: The view before.
      shape: The new shape, of as many elements.

    Returns:
      The new view; None where an atom would have to be cut unevenly, as from [2, 3] to [3, 2].
    """
    rest = [atom for axis in axes for atom in axis][::-1]
    result = []
    for size in shape:
        # Axes of length 1 go with the next axis; which of several they were is not known after a reshape.
        taken, missing = [], size
        if size == 1 and rest and rest[-1].size == 1:
            taken.append(rest.pop())
        while missing > 1:
            axis, inner, length = rest.pop()
            if missing % length == 0:
                taken.append(Atom(axis, inner, length))
                missing //= length
            elif length % missing == 0:
                inside = length // missing
                taken.append(Atom(axis, inner * inside, missing))
                rest.append(Atom(axis, inner, inside))
                missing = 1
            else:
                return None
        result.append(tuple(taken))
    return tuple(result)


@dataclass(frozen=True)
class Kernel:
    """A parameter that is one side of a product or convolution.

    As a matrix it is [K, d, p]: K independent products (the groups of a grouped convolution, mostly 1) of d inputs with
    p outputs. The inputs are in the order of the parameter's own axes.

    Attributes:
      path: Such as `dense_0/kernel`.
      index: Its place among the leaves of the parameters.
      shape: Of the parameter.
      reduction_axes: The axes that are summed over, such as (0,) of [in, out] and (0, 1, 2) of HWIO.
      atoms: All its atoms in its own order.
      batched: The places in `atoms` of the K products.
      reduced: Those of the d inputs.
    """

    path: str
    index: int
    shape: tuple[int, ...]
    reduction_axes: tuple[int, ...]
    atoms: tuple[Atom, ...]
    batched: tuple[int, ...]
    reduced: tuple[int, ...]

    @property
    def free(self) -> tuple[int, ...]:
        """The places in `atoms` of the p outputs."""
        return tuple(i for i in range(len(self.atoms)) if i not in (*self.batched, *self.reduced))

    @property
    def matrix_shape(self) -> tuple[int, int, int]:
        """(K, d, p)."""
        k, d, p = (math.prod(self.atoms[i].size for i in part) for part in (self.batched, self.reduced, self.free))
        return k, d, p

    def as_matrix(self, leaf: Array) -> Array:
        """The parameter, its mask or its scores, as [K, d, p]."""
        order = (*self.batched, *self.reduced, *self.free)
        return jnp.transpose(leaf.reshape([atom.size for atom in self.atoms]), order).reshape(self.matrix_shape)

    def from_matrix(self, matrix: Array) -> Array:
        """[K, d, p] in the shape of the parameter."""
        order = (*self.batched, *self.reduced, *self.free)
        parts = matrix.reshape([self.atoms[i].size for i in order])
        return jnp.transpose(parts, [order.index(i) for i in range(len(order))]).reshape(self.shape)

    def of_inputs(self, values: Array) -> Array:
        """[K, d] values of inputs, in a shape that broadcasts to the parameter.

        Axes of outputs alone have length 1.
        """
        parts = values.reshape([self.atoms[i].size for i in (*self.batched, *self.reduced)])
        order = sorted((*self.batched, *self.reduced))
        parts = jnp.transpose(parts, [(*self.batched, *self.reduced).index(i) for i in order])
        mixed = {self.atoms[i].axis for i in order}
        # An axis of outputs that is grouped has both kinds of atoms, and is spread out whole.
        sizes = [a.size if i in order else 1 for i, a in enumerate(self.atoms)]
        spread = [a.size if a.axis in mixed else 1 for a in self.atoms]
        shape = [n if axis in mixed else 1 for axis, n in enumerate(self.shape)]
        return jnp.broadcast_to(parts.reshape(sizes), spread).reshape(shape)


def kernel_of(
    path: str, index: int, shape: tuple[int, ...], batched: Sequence[Atom], reduced: Sequence[Atom], axes: Axes
) -> Kernel | None:
    """A kernel from a view of it in a product.

    Args:
      path: Of the parameter.
      index: Its place among the leaves.
      shape: Of the parameter.
      batched: The atoms of the K products.
      reduced: The atoms of the inputs.
      axes: The view, cut where `batched` needs it.

    Returns:
      The kernel; None where an axis is of inputs and of others at once.
    """
    atoms = tuple(sorted((atom for axis in axes for atom in axis), key=lambda a: (a.axis, -a.inner)))
    summed = {atom.axis for atom in reduced}
    if any(atom.axis in summed for atom in atoms if atom not in reduced):
        return None
    reduction_axes = tuple(sorted(summed))
    places = (tuple(i for i, atom in enumerate(atoms) if atom in part) for part in (batched, reduced))
    return Kernel(path, index, shape, reduction_axes, atoms, *places)
