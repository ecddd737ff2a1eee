"""Couplings: channels of a network that can only be cut together."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxprune.coupling.axes import Axis, Counts, Keep, kept_along, size_of
from jaxprune.errors import UserError, unknown
from jaxprune.trees import named_leaves
from jaxprune.types import Array, Masks, Params, PyTree


@dataclass(frozen=True, eq=False)
class Member:
    """A stretch of one axis of one leaf.

    Attributes:
      path: The leaf, such as `conv_0/kernel`.
      axis: The axis.
      positions: [size, k] int, where each channel lies along the axis.
      of: Whether the leaf is one of the parameters or of the statistics.
      role: "out" for the outputs of a kernel, "in" for an axis that a product sums over, "" for any other.
    """

    path: str
    axis: int
    positions: np.ndarray
    of: Literal["params", "stats"]
    role: Literal["out", "in", ""]


@dataclass(frozen=True, eq=False)
class Coupling:
    """Channels that can only be cut in all members at once.

    Attributes:
      name: That of its first kernel and the axis of its outputs, such as `conv_0/kernel[3]`.
      size: The number of channels.
      kind: "heads" for those of attention, "channels" for all others.
      members: Where the channels lie.
    """

    name: str
    size: int
    kind: Literal["channels", "heads"]
    members: tuple[Member, ...]

    @property
    def producers(self) -> tuple[str, ...]:
        """The kernels whose outputs the channels are."""
        return tuple(dict.fromkeys(member.path for member in self.members if member.role == "out"))

    @property
    def consumers(self) -> tuple[str, ...]:
        """The kernels that sum over the channels."""
        return tuple(dict.fromkeys(member.path for member in self.members if member.role == "in"))

    def __repr__(self) -> str:
        paths = ", ".join(dict.fromkeys(f"{m.path}[{m.axis}]" for m in self.members if m.role))
        return f"<{self.size} {self.kind} {self.name}: {paths}; {len(self.members)} members>"


class Pinned(NamedTuple):
    """An axis of a parameter that cannot be cut, and why."""

    path: str
    axis: int
    reason: str


@dataclass(frozen=True, eq=False)
class Couplings(Sequence[Coupling]):
    """The couplings of a network, by place or by name.

    Attributes:
      entries: The couplings, in the order in which the network uses them.
      pinned: The axes of parameters that cannot be cut.
      axes: Path of each parameter -> its axes.
      stats_axes: Path of each leaf of the statistics -> its axes.
      work: The terms of the FLOPs: a factor and axes whose lengths are multiplied.
    """

    entries: tuple[Coupling, ...]
    pinned: tuple[Pinned, ...]
    axes: Mapping[str, tuple[Axis, ...]]
    stats_axes: Mapping[str, tuple[Axis, ...]]
    work: tuple[tuple[float, tuple[Axis, ...]], ...]

    def __repr__(self) -> str:
        lines = [f"{len(self)} couplings, {len(self.pinned)} axes pinned", *map(repr, self.entries)]
        return "\n".join(lines)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Coupling]:
        return iter(self.entries)

    @overload
    def __getitem__(self, index: int | str) -> Coupling: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Coupling]: ...
    def __getitem__(self, index: int | str | slice) -> Coupling | Sequence[Coupling]:
        """A coupling by its place or its name."""
        if not isinstance(index, str):
            return self.entries[index]
        if index not in self.sizes:
            raise unknown("coupling", index, self.sizes, where="couplings")
        return next(coupling for coupling in self.entries if coupling.name == index)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Name -> channels."""
        return {coupling.name: coupling.size for coupling in self.entries}

    def parameters(self, counts: Counts) -> Any:
        """The number of parameters that a cut leaves.

        Args:
          counts: Name -> channels kept, int or traced; a coupling that is not in it is kept whole.

        Raises:
          UserError: A name is unknown, or more is kept than there is.
        """
        self._check_counts(counts)
        return sum(_product(axes, counts) for axes in self.axes.values())

    def flops(self, counts: Counts) -> Any:
        """The FLOPs of all products that a cut leaves.

        They are those of the whole batch of the sample: find the couplings with one example for the FLOPs of one. A
        multiplication and an addition count as two, also where they meet padding; what is no product is left out.

        Args:
          counts: Name -> channels kept, int or traced; a coupling that is not in it is kept whole.

        Raises:
          UserError: A name is unknown, or more is kept than there is.
        """
        self._check_counts(counts)
        return sum((factor * _product(axes, counts) for factor, axes in self.work), start=0.0)

    def masks(self, keep: Keep, params: Params) -> Masks:
        """The masks of parameters: False in every member of a cut channel.

        Args:
          keep: Name -> [size] bool, True = kept; a coupling that is not in it is kept whole. May be traced.
          params: The parameters, or their shapes.

        Returns:
          Bools with the structure of `params`.

        Raises:
          UserError: A name is unknown, an array is not of its size, or the parameters are of another network.
        """
        self._check(keep)
        self.check_shapes(params, "params")
        leaves = []
        for path, leaf in named_leaves(params):
            mask: Array = np.ones((1,) * len(leaf.shape), bool)
            for i, axis in enumerate(self.axes[path]):
                vector = kept_along(axis, keep)
                mask = mask & vector.reshape((-1,) + (1,) * (len(leaf.shape) - i - 1))
            leaves.append(jnp.broadcast_to(jnp.asarray(mask), leaf.shape))
        return jax.tree.unflatten(jax.tree.structure(params), leaves)

    def keep(self, masks: Masks) -> dict[str, np.ndarray]:
        """The channels that masks keep, of one network.

        Args:
          masks: Bools with the structure of the parameters.

        Returns:
          Name -> [size] bool, True = kept.

        Raises:
          UserError: A channel is cut in all kernels that make it, but not in another member, or the masks are not of
            the network's shapes.
        """
        alive = self._alive(masks)
        for coupling, of_members in alive.items():
            _check_whole(coupling, of_members)
        return {coupling.name: np.any(list(of_members.values()), axis=0) for coupling, of_members in alive.items()}

    def left(self, masks: Masks) -> dict[str, np.ndarray]:
        """The channels of which masks leave anything, of one network.

        A channel may be pruned in the kernels that make it and live by its bias, as in networks that came with zeros.

        Args:
          masks: Bools with the structure of the parameters.

        Returns:
          Name -> [size] bool, True = something is left.

        Raises:
          UserError: The masks are not of the network's shapes.
        """
        alive = self._alive(masks)
        return {coupling.name: np.any(list(of_members.values()), axis=0) for coupling, of_members in alive.items()}

    def _alive(self, masks: Masks) -> dict[Coupling, dict[Member, np.ndarray]]:
        """The channels [size] that are left in each member among parameters."""
        self.check_shapes(masks, "masks")
        leaves = {path: np.asarray(mask, bool) for path, mask in named_leaves(masks)}
        return {
            coupling: {
                member: _alive(leaves[member.path], member.axis, member.positions)
                for member in coupling.members
                if member.of == "params"
            }
            for coupling in self.entries
        }

    def check_shapes(self, tree: PyTree, argument: str, counts: Counts | None = None, *, of: str = "params") -> None:
        """Raise unless a tree has the paths and shapes of the network's.

        Args:
          tree: Arrays or their shapes.
          argument: Its name, for the message.
          counts: Name -> channels kept, of a smaller network; a coupling that is not in it is whole.
          of: Whether it is of "params" or of "stats".

        Raises:
          UserError: It has others.
        """
        expected = self.axes if of == "params" else self.stats_axes
        shapes = {path: tuple(leaf.shape) for path, leaf in named_leaves(tree)}
        wanted = {path: tuple(size_of(axis, counts or {}) for axis in axes) for path, axes in expected.items()}
        if shapes == wanted:
            return
        if odd := [path for path in (*wanted, *shapes) if path not in wanted or path not in shapes]:
            lack = "there is nothing for" if odd[0] in wanted else "the network of the couplings has no"
            raise UserError(f"{argument}: {lack} array {odd[0]}; give those of the same network")
        path = next(path for path in wanted if shapes[path] != wanted[path])
        raise UserError(
            f"{argument}: {path} is of shape {list(shapes[path])}, and in the network of {list(wanted[path])}; give "
            "those of the same network, of one replica"
        )

    def _check_counts(self, counts: Counts) -> None:
        for name, count in counts.items():
            size = self[name].size
            if not isinstance(count, Tracer) and not 0 <= count <= size:
                raise UserError(f"counts: {name} has {size} channels, and {count} would be kept; give 0 to {size}")

    def _check(self, keep: Keep) -> None:
        for name, vector in keep.items():
            if name not in self.sizes:
                raise unknown("coupling", name, self.sizes, where="keep")
            if tuple(vector.shape) != (self.sizes[name],):
                raise UserError(
                    f"keep: {name} has {self.sizes[name]} channels, and its array is of shape "
                    f"{list(vector.shape)}; give one bool for each channel"
                )


def _check_whole(coupling: Coupling, alive: Mapping[Member, np.ndarray]) -> None:
    """Raise for a channel that is pruned in its kernels alone."""
    kept = np.any(list(alive.values()), axis=0)
    making = [vector for member, vector in alive.items() if member.role == "out"]
    if not np.any(making):  # nothing makes it, or a layer of which nothing is left
        return
    half = ~np.any(making, axis=0) & kept
    if half.any():
        channel = int(half.argmax())
        rest = next(member for member, vector in alive.items() if vector[channel])
        raise UserError(
            f"masks: channel {channel} of {coupling.name} is pruned in {', '.join(coupling.producers)} but not in axis "
            f"{rest.axis} of {rest.path}; prune whole channels, as with structure=channels(couplings)"
        )


def _alive(mask: np.ndarray, axis: int, positions: np.ndarray) -> np.ndarray:
    """Whether anything is kept in the slices of each channel, [size]."""
    others = tuple(i for i in range(mask.ndim) if i != axis)
    along = np.any(mask, axis=others).reshape(-1)
    return np.any(along[positions], axis=1)


def _product(axes: Sequence[Axis], counts: Counts) -> Any:
    return math.prod(size_of(axis, counts) for axis in axes)
