"""How many channels of each coupling are kept."""

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.structures.channel_costs import ChannelCost
from jaxprune.pruning.structures.width_rounding import WidthRule
from jaxprune.types import Array

_BITS = 24  # of the share that is searched for: each of its values is a float32


class CountRule(NamedTuple):
    """What decides the numbers of channels beside their scores.

    Attributes:
      cost: What the sparsity is a share of.
      widths: The numbers that may be kept.
      at_least: Channels that stay in every coupling.
    """

    cost: ChannelCost
    widths: WidthRule
    at_least: int


@partial(jax.jit, static_argnames=("allocation", "rule"))
def kept_counts(
    units: Mapping[str, Array],
    alive: Mapping[str, Array] | None,
    most: Array,
    *,
    allocation: Allocation,
    rule: CountRule,
) -> dict[str, Array]:
    """Find the numbers of channels whose cost is nearest to a target.

    The allocation shares out a share of channels. What is kept in addition, because a coupling must keep some or has a
    width of the device, changes the cost; so does the cost of a channel, which differs. The share is therefore searched
    for by bisection: allocations prune no less of a coupling as it grows, so the cost falls.

    Args:
      units: Name -> [size] scores of the channels.
      alive: Name -> [size] bool, channels that are not pruned already; None for all.
      most: [] float32, the target cost.
      allocation: Shares the channels out over the couplings.
      rule: The cost, and which numbers may be kept.

    Returns:
      Name -> [] int32.
    """

    def allowed(name: str, count: Array) -> Array:
        size = units[name].size
        there = jnp.int32(size) if alive is None else jnp.sum(alive[name], dtype=jnp.int32)
        wanted = jnp.maximum(rule.widths.round(count, size), min(rule.at_least, size))
        return jnp.minimum(wanted, there)

    def at(steps: Array) -> tuple[dict[str, Array], Array]:
        kept = allocation(dict(units), steps.astype(jnp.float32) / 2**_BITS, None, alive)
        counts = {name: allowed(name, jnp.sum(mask, dtype=jnp.int32)) for name, mask in kept.items()}
        # As floats: products of whole numbers would overflow for FLOPs.
        cost = rule.cost.of({name: count.astype(jnp.float32) for name, count in counts.items()})
        return counts, jnp.asarray(cost, jnp.float32)

    def halve(i: Array, bounds: tuple[_Bound, _Bound]) -> tuple[_Bound, _Bound]:
        # Invariant: the cost is above the target at `low`, or that is 0; and not above it at `high`, or that is the
        # last. Both ends are tried first, in here: the allocation is compiled once.
        low, high = bounds
        steps = jnp.where(i == 0, 0, jnp.where(i == 1, last, (low.steps + high.steps) // 2))
        tried = _Bound(steps, *at(steps))
        is_low, is_high = (i == 0) | ((i > 1) & (tried.cost > most)), (i == 1) | ((i > 1) & (tried.cost <= most))
        pick = lambda use, old: jax.tree.map(lambda new, before: jnp.where(use, new, before), tried, old)  # noqa: E731
        return pick(is_low, low), pick(is_high, high)

    last = jnp.int32(2**_BITS - 1)
    none = _Bound(jnp.int32(0), {name: jnp.int32(0) for name in units}, jnp.float32(0))
    low, high = jax.lax.fori_loop(0, _BITS + 2, halve, (none, none))
    # Adjacent shares now, on both sides of the target: the nearer one; of two as near, that which is not above.
    nearer = most - high.cost <= low.cost - most
    return jax.tree.map(lambda above, below: jnp.where(nearer, above, below), high.counts, low.counts)


class _Bound(NamedTuple):
    """A share of the channels in steps of 2^-24, with its counts."""

    steps: Array
    counts: dict[str, Array]
    cost: Array


def keep_highest(scores: Array, alive: Array | None, count: Array) -> Array:
    """[size] bool, the channels with the highest scores.

    Of equal scores those that come first are pruned first, and what is pruned already before all others.
    """
    there = jnp.ones(scores.shape, bool) if alive is None else alive
    # The rank of a channel is the number of those that go before it. Comparisons of all pairs compile faster than a
    # sort, and widths are small.
    mine, other = jnp.arange(scores.size)[:, None], jnp.arange(scores.size)[None, :]
    lower = (scores[other] < scores[mine]) | ((scores[other] == scores[mine]) & (other < mine))
    before = (~there[other] & there[mine]) | ((there[other] == there[mine]) & lower)
    return (jnp.sum(before, axis=1) >= scores.size - count) & there
