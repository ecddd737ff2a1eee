"""The analysis: which channels of a network must be cut together."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import jax.numpy as jnp

from jaxprune.coupling.axes import Axis, Channels, Crossed, Joined, Whole, positions_on
from jaxprune.coupling.couplings import Coupling, Couplings, Member, Pinned
from jaxprune.coupling.dimensions import (
    Dimension,
    Dimensions,
    Leaf,
    Product,
    Sum,
    free_leaves,
    leaves_of,
    pin,
    resolve,
    unify,
)
from jaxprune.coupling.linking import Linker, Use, random_dimensions, work_of
from jaxprune.coupling.proof import prove
from jaxprune.coupling.rule import LinkedProgram, Source, Value, Zeros, whole_array
from jaxprune.coupling.tracing import Mode, check_batch, trace
from jaxprune.errors import unknown
from jaxprune.networks import Network, as_network
from jaxprune.trees import named_leaves
from jaxprune.types import Apply, Array, Params, Stats

OUTPUT, INPUT = "it is an axis of the outputs", "it is an axis of the inputs"
# Fewer would be other numbers. In training mode that is so of dropout, whose numbers are as good as any.
RANDOM = "random numbers are drawn for its channels in evaluation mode"
Leaves = Mapping[str, Dimensions]  # path of a leaf -> the dimensions of its axes


def couplings(
    network: Network | Apply, params: Params, stats: Stats = (), *, sample: Any, exclude: Sequence[str] = ()
) -> Couplings:
    """Find the channels of a network that must be cut together.

    The network is traced, in evaluation mode and, for a `Network`, in training mode. Axes are linked by the operations
    that meet them, never by their sizes. A channel is cut only if it is proven that the network with its slices at 0 is
    the network without them; all else is pinned, with the reason.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> params = {"up": jnp.ones((4, 8)), "down": jnp.ones((8, 2))}
      >>> apply = lambda params, x: jnp.maximum(x @ params["up"], 0) @ params["down"]
      >>> pruning.couplings(apply, params, sample=jnp.ones((1, 4)))["up[1]"]
      <8 channels up[1]: down[0], up[1]; 2 members>

    Args:
      network: The network, or a function `(params, x [B, ...]) -> logits [B, C]`.
      params: Its parameters, or their shapes.
      stats: Its statistics.
      sample: [B, ...] inputs, or their shape and type.
      exclude: Patterns of paths of parameters that are kept whole.

    Returns:
      The couplings, empty where nothing can be cut.

    Raises:
      UserError: The network cannot be traced, its outputs are not of a batch, or a pattern matches no parameter.
    """
    whole = as_network(network)
    axes = _fresh(params, "params", exclude), _fresh(stats, "stats", ())
    linker, programs = Linker(), []
    modes = [Mode(False)]
    if isinstance(network, Network):
        modes.append(Mode(True, "float32" if network.takes_weight else None))
    used: set[str] = set()
    for mode in modes:
        closed = trace(whole, params, stats, sample, mode)
        check_batch(closed, sample)
        programs.append(linked_to(linker, closed, *axes, whole_batch=mode.train))
        used |= _used(closed, list(axes[0]))
    for path in axes[0].keys() - used:
        for dimension in axes[0][path]:
            pin(dimension, "the network does not use the parameter")
    for program in programs:
        prove_linked(program, *axes)
    _pin_unmade(axes[0], linker.uses)
    return _described(*axes, linker, programs[0])


def linked_to(linker: Linker, closed: Any, params: Leaves, stats: Leaves, *, whole_batch: bool) -> LinkedProgram:
    """Link a traced network to the dimensions of its parameters and statistics.

    Args:
      linker: The pass.
      closed: The program, from `tracing.trace`.
      params: The dimensions of every parameter.
      stats: Those of every leaf of the statistics.
      whole_batch: Whether the program returns the statistics as well.
    """
    values = [Value(dims, Source(path, tuple(range(len(dims))))) for path, dims in params.items()]
    values += [Value(dims) for dims in stats.values()]
    rest = closed.jaxpr.invars[len(values) :]
    values += [Value(whole_array(variable.aval.shape, INPUT)) for variable in rest]
    program = linker.program(closed.jaxpr, closed.consts, values)
    for dimension in program.outputs[0]:
        pin(dimension, OUTPUT)
    if not whole_batch:
        for dimension in random_dimensions(program):
            pin(dimension, RANDOM)
    if whole_batch:
        for new, old in zip(program.outputs[1:], stats.values(), strict=True):
            for a, b in zip(new, old, strict=True):
                unify(a, b)
    return program


def prove_linked(program: LinkedProgram, params: Leaves, stats: Leaves) -> None:
    """Pin what is not proven when cut slices of parameters are 0."""
    zeros = [
        Zeros(frozenset((axis, leaf) for axis, dimension in enumerate(dims) for leaf in free_leaves(dimension)))
        for dims in params.values()
    ]
    others = len(program.inputs) - len(params)
    prove(program, [*zeros, *[Zeros()] * others])


def _fresh(tree: Any, kind: str, exclude: Sequence[str]) -> dict[str, Dimensions]:
    """New dimensions for every leaf, pinned where it must stay whole."""
    exclude = [exclude] if isinstance(exclude, str) else exclude
    leaves = named_leaves(tree)
    for pattern in exclude:
        if not any(fnmatchcase(path, pattern) for path, _ in leaves):
            raise unknown("parameter", pattern, [path for path, _ in leaves], where="exclude")

    def dimensions(path: str, leaf: Array) -> Dimensions:
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            return whole_array(leaf.shape, f"its {kind} are not floating-point numbers")
        if any(fnmatchcase(path, pattern) for pattern in exclude):
            return whole_array(leaf.shape, "it is excluded")
        return tuple(Leaf(size) for size in leaf.shape)

    return {path: dimensions(path, leaf) for path, leaf in leaves}


def _used(closed: Any, paths: Sequence[str]) -> set[str]:
    """The parameters that a program reads."""
    read = {id(variable) for equation in closed.jaxpr.eqns for variable in equation.invars}
    read |= {id(variable) for variable in closed.jaxpr.outvars}
    inputs = closed.jaxpr.invars[: len(paths)]
    return {path for path, variable in zip(paths, inputs, strict=True) if id(variable) in read}


def _pin_unmade(params: Leaves, uses: Sequence[Use]) -> None:
    """Pin what no parameter makes.

    Parameters only sum over it, as over the rows of a constant matrix and the zeros of a padding.
    """
    made: set[Leaf] = set()
    found: set[Leaf] = set()
    for path, dims in params.items():
        for axis, dimension in enumerate(dims):
            roles = {use.role for use in uses if use.path == path and use.axis in (axis, None)}
            leaves = set(free_leaves(dimension))
            found |= leaves
            made |= leaves if roles != {"in"} else set()
    for leaf in found - made:
        pin(leaf, "no parameter makes it")


def _described(params: Leaves, stats: Leaves, linker: Linker, program: LinkedProgram) -> Couplings:
    """The couplings as plain values."""
    uses: dict[Leaf, list[Use]] = {}
    for use in linker.uses:
        for leaf in free_leaves(use.dimension):
            uses.setdefault(leaf, []).append(use)
    heads = {leaf for dimension in linker.heads for leaf in free_leaves(dimension)}
    places: dict[Leaf, list[tuple[str, int]]] = {}
    for path, dims in params.items():
        for axis, dimension in enumerate(dims):
            for leaf in dict.fromkeys(free_leaves(dimension)):
                places.setdefault(leaf, []).append((path, axis))
    order = [leaf for use in linker.uses if use.role == "out" for leaf in free_leaves(use.dimension)]
    order = [leaf for leaf in dict.fromkeys([*order, *places]) if leaf in places]
    names = {leaf: _name(leaf, params, places[leaf], uses.get(leaf, [])) for leaf in order}
    axes = {path: tuple(axis_of(dimension, names) for dimension in dims) for path, dims in params.items()}
    stats_axes = {path: tuple(axis_of(dimension, names) for dimension in dims) for path, dims in stats.items()}
    entries = []
    for leaf, name in names.items():
        kind: Literal["heads", "channels"] = "heads" if leaf in heads else "channels"
        members = [
            *_members(name, axes, "params", uses.get(leaf, [])),
            *_members(name, stats_axes, "stats", []),
        ]
        entries.append(Coupling(name, leaf.size, kind, tuple(members)))
    work = tuple((factor, tuple(axis_of(d, names) for d in dims)) for factor, dims in work_of(program))
    return Couplings(tuple(entries), _pinned(params), axes, stats_axes, work)


def _name(leaf: Leaf, params: Leaves, places: Sequence[tuple[str, int]], uses: Sequence[Use]) -> str:
    """The name of a coupling, from its first kernel."""
    made = next((use for use in uses if use.role == "out"), None)
    if made is None:
        path, axis = next((place for place in places if len(params[place[0]]) > 1), places[0])
    else:
        path = made.path
        axis = [axis for other, axis in places if other == path][-1] if made.axis is None else made.axis
    on_axis = list(dict.fromkeys(leaves_of(params[path][axis])))
    return f"{path}[{axis}]" + (f".{on_axis.index(leaf)}" if len(on_axis) > 1 else "")


def axis_of(dimension: Dimension, names: Mapping[Leaf, str]) -> Axis:
    """An axis in terms of named leaves."""
    dimension = resolve(dimension)
    if isinstance(dimension, Leaf):
        return Channels(names[dimension], dimension.size) if dimension in names else Whole(dimension.size)
    parts = tuple(axis_of(part, names) for part in dimension.parts)
    if all(isinstance(part, Whole) for part in parts):
        return Whole(dimension.size)
    return Joined(parts) if isinstance(dimension, Sum) else Crossed(parts)


def _members(
    name: str, axes: Mapping[str, tuple[Axis, ...]], of: Literal["params", "stats"], uses: Sequence[Use]
) -> Iterable[Member]:
    for path, of_leaf in axes.items():
        both = [axis for axis, description in enumerate(of_leaf) if positions_on(description, name)]
        for axis in both:
            for positions in positions_on(of_leaf[axis], name):
                yield Member(path, axis, positions, of, _role(path, axis, both, uses))


def _role(path: str, axis: int, both: Sequence[int], uses: Sequence[Use]) -> Literal["out", "in", ""]:
    roles = {use.role for use in uses if use.path == path and use.axis in (axis, None)}
    if len(roles) < 2 or len(both) < 2:
        return "out" if "out" in roles else "in" if roles else ""
    return "out" if axis == both[-1] else "in"  # a square kernel that a reshape hides: outputs come last


def _pinned(params: Leaves) -> tuple[Pinned, ...]:
    """The axes of which nothing can be cut."""
    return tuple(
        Pinned(path, axis, next(leaf.reason for leaf in leaves_of(dimension) if leaf.reason))
        for path, dims in params.items()
        for axis, dimension in enumerate(dims)
        if dimension.size > 1 and not list(free_leaves(dimension))
    )


def from_axes(described: Couplings) -> tuple[dict[str, Dimensions], dict[str, Dimensions], dict[str, Leaf]]:
    """Dimensions of parameters and statistics as they were described.

    Nothing is pinned: how an operation links depends on what is pinned before it, so that a program has to be linked
    from what it was linked from when the couplings were found.

    Args:
      described: The couplings.

    Returns:
      The dimensions of the parameters, of the statistics, and the leaf of each coupling.
    """
    leaves = {name: Leaf(size) for name, size in described.sizes.items()}

    def dimension(axis: Axis) -> Dimension:
        if isinstance(axis, Channels):
            return leaves[axis.name]
        if isinstance(axis, Whole):
            return Leaf(axis.size)
        parts = tuple(map(dimension, axis.parts))
        return Sum(parts) if isinstance(axis, Joined) else Product(parts)

    def of_leaves(axes: Mapping[str, tuple[Axis, ...]]) -> dict[str, Dimensions]:
        return {path: tuple(map(dimension, of_leaf)) for path, of_leaf in axes.items()}

    return of_leaves(described.axes), of_leaves(described.stats_axes), leaves
