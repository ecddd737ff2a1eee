"""Scores of channels, pooled from those of their weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxprune.coupling.couplings import Coupling
from jaxprune.types import Array


class Pool(NamedTuple):
    """How the scores of a channel's weights become one.

    Attributes:
      prepare: Applied to the score of every weight.
      reduce: `(values, axis) -> values`, over some of the weights; associative.
      finish: `(reduced, number of weights) -> score`.
    """

    prepare: Callable[[Array], Array]
    reduce: Callable[..., Array]
    finish: Callable[[Array, int], Array]


def _same(scores: Array) -> Array:
    return scores


def _signed_square(scores: Array) -> Array:
    # A score below 0, which some criteria have, says that a weight does harm. Its square must not count as use.
    return scores * jnp.abs(scores)


# Of scores that are never below 0, such as magnitudes, "l1" and "l2" are those norms.
POOLS: Mapping[str, Pool] = {
    "l2": Pool(_signed_square, jnp.sum, lambda total, _: jnp.sign(total) * jnp.sqrt(jnp.abs(total))),
    "l1": Pool(_same, jnp.sum, lambda total, _: total),
    "mean": Pool(_same, jnp.sum, lambda total, number: total / number),
    "max": Pool(_same, jnp.max, lambda largest, _: largest),
}

# Name -> what the scores of a coupling are divided by, from their absolute values [size] and which of them count.
NORMALISERS: Mapping[str, Callable[[Array, Array], Array]] = {
    "mean": lambda sizes, alive: jnp.sum(sizes) / jnp.maximum(jnp.sum(alive), 1),
    "max": lambda sizes, alive: jnp.max(sizes),
    "none": lambda sizes, alive: jnp.ones((), sizes.dtype),
}


def pooled_scores(
    couplings: Sequence[Coupling],
    scores: Mapping[str, Array],
    masks: Mapping[str, Array],
    alive: Mapping[str, Array],
    *,
    pool: str,
    normalise: str,
) -> dict[str, Array]:
    """One score for each channel of some couplings.

    Only leaves in `scores` take part. Those are the kernels: what a criterion says of other leaves may be anything, and
    the scale of a norm, which is near 1, would outweigh all the weights of a channel. Kernels count on both of their
    sides: those that make a channel, and those that read it.

    Args:
      couplings: The couplings.
      scores: Path -> scores of the leaves that count, of which each coupling has at least one.
      masks: Path -> mask of what is pruned already, whose scores are 0; paths may lack.
      alive: Name of a coupling -> [size] bool, channels that are not pruned already; names may lack.
      pool: A name in `POOLS`.
      normalise: A name in `NORMALISERS`.

    Returns:
      Name of the coupling -> [size] float.
    """
    chosen = POOLS[pool]
    by_side: dict[tuple[str, int], Array] = {}  # reduced over all axes but one, which members of one leaf share
    kept = {path: jnp.where(masks[path], leaf, 0) if path in masks else leaf for path, leaf in scores.items()}
    # One factor for all keeps their order: squares of small scores would vanish, and those of large ones overflow.
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0).astype(jnp.float32) for leaf in kept.values()]))
    factor = jnp.where(largest > 0, largest, 1)

    def side(path: str, axis: int) -> Array:
        if (path, axis) not in by_side:
            leaf = kept[path].astype(jnp.promote_types(kept[path].dtype, jnp.float32)) / factor
            others = tuple(other for other in range(leaf.ndim) if other != axis)
            by_side[path, axis] = chosen.reduce(chosen.prepare(leaf), axis=others)
        return by_side[path, axis]

    pooled = {}
    for coupling in couplings:
        parts, number = [], 0
        for member in coupling.members:
            if member.of != "params" or member.path not in scores:
                continue
            leaf, axis = scores[member.path], member.axis % scores[member.path].ndim
            parts.append(chosen.reduce(side(member.path, axis)[member.positions], axis=-1))
            number += leaf.size // leaf.shape[axis] * member.positions.shape[1]
        score = chosen.finish(chosen.reduce(jnp.stack(parts), axis=0), number) * factor
        there = alive.get(coupling.name, jnp.ones(coupling.size, bool))
        divisor = NORMALISERS[normalise](jnp.abs(score), there)
        pooled[coupling.name] = score / jnp.where(divisor > 0, divisor, 1)
    return pooled


def channels_alive(couplings: Sequence[Coupling], masks: Mapping[str, Array]) -> dict[str, Array]:
    """Find the channels of which a weight is left.

    Args:
      couplings: The couplings.
      masks: Path -> mask of the kernels.

    Returns:
      Name of the coupling -> [size] bool.
    """
    alive = {}
    for coupling in couplings:
        left = jnp.zeros(coupling.size, bool)
        for member in coupling.members:
            if member.of == "params" and member.path in masks:
                mask = jnp.asarray(masks[member.path])
                others = tuple(other for other in range(mask.ndim) if other != member.axis % mask.ndim)
                left |= jnp.any(jnp.any(mask, axis=others)[member.positions], axis=-1)
        alive[coupling.name] = left
    return alive
