"""Axes as trees of dimensions that are linked by position.

An axis of an array is a leaf, a sum of parts that lie one after the other (a concatenation), or a product of factors
that a reshape joined, the slowest first. Leaves are unified where an operation needs two axes to be one, and divided
where only a part of an axis is used. Sizes are never compared to find out what belongs together.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

_serials = itertools.count()
MISMATCH = "it is divided in ways that do not fit each other"
SINGLE = "it is the only channel"


@dataclass(eq=False)
class Leaf:
    """A dimension that is not divided, as far as is known.

    Attributes:
      size: Its length.
      reason: Why it cannot be cut; None where it can.
      link: What it was unified with or divided into later.
      serial: Its age: of two leaves that are unified, the older one stays.
    """

    size: int
    reason: str | None = None
    link: "Dimension | None" = None
    serial: int = field(default_factory=lambda: next(_serials))

    def __post_init__(self) -> None:
        if self.size in (0, 1) and self.reason is None:  # == alone is known of a size without a number
            self.reason = SINGLE


@dataclass(frozen=True, eq=False)
class Sum:
    """Parts that lie one after the other."""

    parts: "tuple[Dimension, ...]"

    @property
    def size(self) -> int:
        """The length of the axis."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, eq=False)
class Product:
    """Factors of an axis, the slowest first; none for a length of 1."""

    parts: "tuple[Dimension, ...]"

    @property
    def size(self) -> int:
        """The length of the axis."""
        return math.prod(part.size for part in self.parts)


Dimension = Leaf | Sum | Product
Dimensions = tuple[Dimension, ...]  # of the axes of an array


def resolve(dimension: Dimension) -> Dimension:
    """The dimension that stands for another one by now."""
    while isinstance(dimension, Leaf) and dimension.link is not None:
        if isinstance(dimension.link, Leaf) and dimension.link.link is not None:
            dimension.link = dimension.link.link  # shorten the way for the next time
        dimension = dimension.link
    return dimension


def leaves_of(dimension: Dimension) -> Iterator[Leaf]:
    """The leaves of a dimension as it is by now, in order."""
    dimension = resolve(dimension)
    if isinstance(dimension, Leaf):
        yield dimension
    else:
        for part in dimension.parts:
            yield from leaves_of(part)


def free_leaves(dimension: Dimension) -> Iterator[Leaf]:
    """The leaves that can be cut."""
    return (leaf for leaf in leaves_of(dimension) if leaf.reason is None)


def pin(dimension: Dimension, reason: str) -> None:
    """Keep a dimension whole. The first reason stays."""
    for leaf in leaves_of(dimension):
        leaf.reason = leaf.reason or reason


def pinned(size: int, reason: str) -> Leaf:
    """A new dimension that is kept whole."""
    return Leaf(size, reason)


def unify(a: Dimension, b: Dimension) -> None:
    """Make two dimensions of one length one."""
    a, b = resolve(a), resolve(b)
    if a is b:
        return
    if isinstance(a, Leaf) and isinstance(b, Leaf):
        older, newer = sorted((a, b), key=lambda leaf: leaf.serial)
        older.reason, newer.link = older.reason or newer.reason, older
    elif isinstance(a, Leaf):
        _define(a, b)
    elif isinstance(b, Leaf):
        _define(b, a)
    elif type(a) is type(b):
        _refine(a, b)
    else:
        pin(a, MISMATCH)
        pin(b, MISMATCH)


def _define(leaf: Leaf, dimension: Dimension) -> None:
    if any(part is leaf for part in leaves_of(dimension)):
        pin(dimension, MISMATCH)
        return
    if leaf.reason is not None:
        pin(dimension, leaf.reason)
    leaf.link = dimension


def _refine(a: Sum | Product, b: Sum | Product) -> None:
    """Divide the parts of two sums or products until they fit.

    Where they do not, the parts up to the next place where both have come equally far are pinned.
    """
    kind = type(a)
    unit, divide = (0, _divided_sum) if kind is Sum else (1, _divided_product)
    left, right = list(reversed(a.parts)), list(reversed(b.parts))

    def following(stack: list[Dimension]) -> Dimension | None:
        while stack:
            part = resolve(stack.pop())
            if isinstance(part, kind):
                stack.extend(reversed(part.parts))
            elif part.size != unit:
                return part
        return None

    while True:
        x, y = following(left), following(right)
        if x is None or y is None:
            return
        if x.size == y.size:
            unify(x, y)
            continue
        larger, smaller, stack = (x, y, left) if x.size > y.size else (y, x, right)
        parts = divide(larger, smaller.size)
        if parts is None:
            _pin_to_next_meeting(x, y, lambda: following(left), lambda: following(right), join=_JOIN[kind])
        else:
            unify(parts[0], smaller)
            stack.append(parts[1])


_JOIN: dict[type, Callable[[int, int], int]] = {Sum: lambda a, b: a + b, Product: lambda a, b: a * b}


def _pin_to_next_meeting(
    x: Dimension,
    y: Dimension,
    next_left: Callable[[], Dimension | None],
    next_right: Callable[[], Dimension | None],
    *,
    join: Callable[[int, int], int],
) -> None:
    sizes = [x.size, y.size]
    pin(x, MISMATCH)
    pin(y, MISMATCH)
    while sizes[0] != sizes[1]:
        side = 0 if sizes[0] < sizes[1] else 1
        part = (next_left, next_right)[side]()
        if part is None:
            return
        pin(part, MISMATCH)
        sizes[side] = join(sizes[side], part.size)


def _divided_sum(dimension: Dimension, first: int) -> tuple[Dimension, Dimension] | None:
    if not isinstance(dimension, Leaf):
        return None
    parts = (Leaf(first, dimension.reason), Leaf(dimension.size - first, dimension.reason))
    dimension.link = Sum(parts)
    return parts


def _divided_product(dimension: Dimension, outer: int) -> tuple[Dimension, Dimension] | None:
    if not isinstance(dimension, Leaf) or dimension.size % outer:
        return None
    parts = (Leaf(outer, dimension.reason), Leaf(dimension.size // outer, dimension.reason))
    dimension.link = Product(parts)
    return parts


def stretch(dimension: Dimension, start: int, limit: int) -> Dimension:
    """The part of a dimension from `start` to `limit`."""
    if start == limit:
        return pinned(0, SINGLE)
    sizes = [size for size in (start, limit - start, dimension.size - limit) if size]
    if len(sizes) == 1:
        return dimension
    return divided(dimension, sizes)[1 if start else 0]


def divided(dimension: Dimension, sizes: Sequence[int]) -> Dimensions:
    """The consecutive parts of a dimension."""
    parts = tuple(Leaf(size) for size in sizes)
    if all(leaf.reason is not None for leaf in leaves_of(dimension)):
        reason = next((leaf.reason for leaf in leaves_of(dimension)), None) or MISMATCH
        return tuple(pinned(size, reason) for size in sizes)
    unify(dimension, Sum(parts))
    return parts


def reshaped(dimensions: Iterable[Dimension], shape: Sequence[int]) -> Dimensions:
    """The dimensions of an array after a reshape."""
    before = tuple(dimensions)
    after = tuple(Leaf(size) for size in shape)
    if 0 in shape:
        for dimension in (*before, *after):
            pin(dimension, MISMATCH)
    else:
        unify(Product(before), Product(after))
    return after
