"""The lowest scores, exactly and without a sort: thresholds by counting."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.pruning.counting import count, on_one_cpu
from jaxprune.types import Array, PyTree

SAMPLE, WORTH_A_SAMPLE = 2**13, 2**18  # scores

# (arrays, three numbers) -> for each leaf, where it is below each of them
_Below = Callable[[PyTree, Array], list[list[Array]]]


@jax.jit
def keep_all_but_lowest(scores: list[Array], pruned: Array, masks: Sequence[Array | None]) -> list[Array]:
    """Make masks that are False at exactly the `pruned` lowest scores.

    The threshold is the lowest score that is kept. It is found on the bits of the scores, which keep their order, in at
    most 16 passes over memory (32 for float64), on a CPU in some eight. Ties are broken by the position likewise.

    Args:
      scores: Finite float arrays, less than 2^31 scores in all.
      pruned: [] int32.
      masks: What is pruned already (False), or None: lower than every score, and pruned even where it is more than
        `pruned`.

    Returns:
      Bool arrays with the shapes of `scores`, on the devices of them.
    """
    # One width for all: the bits of a float32 and of a float64 are not in one order. bfloat16 widens without loss.
    wide = any(leaf.dtype == jnp.float64 for leaf in scores)
    unsigned = jnp.uint64 if wide else jnp.uint32
    starts = [0, *np.cumsum([leaf.size for leaf in scores]).tolist()]
    last = jnp.array(jnp.iinfo(unsigned).max, unsigned)
    arrays = (scores, list(masks), jnp.array(starts, jnp.uint32))

    def keys_of(arrays: PyTree) -> list[Array]:
        keys = [_ordered_bits(_wide(leaf) if wide else leaf.astype(jnp.float32), unsigned) for leaf in arrays[0]]
        # No finite score has the key 0.
        return [key if mask is None else jnp.where(mask, key, 0) for key, mask in zip(keys, arrays[1], strict=True)]

    def keys_and_places(arrays: PyTree) -> list[tuple[Array, Array]]:
        keys = keys_of(arrays)
        return [(key, _places(key.shape, arrays[2][i])) for i, key in enumerate(keys)]

    def below(arrays: PyTree, tried: Array) -> list[list[Array]]:
        return [[key < t for t in tried] for key in keys_of(arrays)]

    def equal_before(arrays: PyTree, tried: Array) -> list[list[Array]]:
        return [[(key == threshold) & (at < t) for t in tried] for key, at in keys_and_places(arrays)]

    guess = None
    if on_one_cpu() and starts[-1] >= WORTH_A_SAMPLE:
        stride = starts[-1] // SAMPLE | 1  # odd: not always the same channels
        sample = jax.tree.map(lambda leaf: leaf.reshape(-1)[::stride], arrays[:2])
        guess = _guess(jnp.concatenate(keys_of(sample)), pruned / starts[-1], last)
    threshold, num_below = _search(below, arrays, pruned, last, guess)
    first_kept, _ = _search(equal_before, arrays, pruned - num_below, jnp.uint32(starts[-1]))
    return [
        ((key > threshold) | ((key == threshold) & (at >= first_kept))) & (key != 0)
        for key, at in keys_and_places(arrays)
    ]


def _search(below: _Below, data: PyTree, target: Array, last: Array, guess: Array | None = None) -> tuple[Array, Array]:
    """Find the largest number with at most `target` below it.

    Three numbers are counted in each pass, which leaves a quarter of the range. Any number with exactly `target` below
    it is as good: the search ends there.

    Args:
      below: Where each leaf is below three numbers.
      data: The arrays that `below` is of.
      target: [] int32.
      last: The largest number there can be.
      guess: [3], the numbers of the first pass in ascending order, from 1 to `last`.

    Returns:
      The number, and [] int32, how many are below it.
    """

    def unsettled(state: tuple[Array, ...]) -> Array:
        low, high, num_below, _ = state
        return (low != high) & (num_below != target)

    def narrow(state: tuple[Array, ...]) -> tuple[Array, ...]:
        # The number is at least low, with `num_below` below it, and at most high.
        low, high, num_below, tried = state
        # Else XLA would prepare the arrays once, before the loop: as much memory again, and slower than to do it anew.
        arrays, tried = jax.lax.optimization_barrier((data, tried))
        counts = sum((count(*marked) for marked in below(arrays, tried)), start=jnp.zeros(3, jnp.int32))
        fits = counts <= target
        low = jnp.max(jnp.where(fits, tried, low))
        high = jnp.min(jnp.where(fits, high, tried - 1))
        return low, high, jnp.max(jnp.where(fits, counts, num_below)), _quarters(low, high)

    low = jnp.zeros_like(last)
    start = (low, last, jnp.int32(0), _quarters(low, last) if guess is None else guess)
    number, _, num_below, _ = jax.lax.while_loop(unsettled, narrow, start)
    return number, num_below


def _quarters(low: Array, high: Array) -> Array:
    """Cut a range into quarters, by three numbers in (low, high]."""
    gap, parts = high - low, jnp.arange(1, 4, dtype=low.dtype)
    return low + (gap >> 2) * parts + (((gap & 3) * parts + 3) >> 2)  # no product is beyond the range


def _guess(sample: Array, share: Array, last: Array) -> Array:
    """Three numbers about the threshold, from a sample.

    The threshold of all is not below the first, and below the third, but for some in 10,000 samples, which cost more
    passes.
    """
    rank = share * sample.size
    spread = 4 * jnp.sqrt(rank * (1 - share)) + 1
    ranks = jnp.clip(rank + spread * jnp.arange(-1, 2), 0, sample.size).astype(jnp.int32)

    def below(sample: Array, tried: Array) -> list[list[Array]]:
        return [[sample < t for t in tried]]

    numbers, _ = jax.vmap(lambda rank: _search(below, sample, rank, last))(ranks)
    # One more, so that a third that is the threshold, as where many are equal, is found to be the last.
    return jnp.clip(numbers, 1, last - 1) + jnp.array([0, 0, 1], last.dtype)


def _places(shape: tuple[int, ...], start: Array) -> Array:
    """Number the places of an array, row-major from `start`, as uint32.

    Without a reshape, which would gather an array from its devices.
    """
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    axes = [jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(n) for axis, n in enumerate(strides)]
    return sum(axes, start=jnp.broadcast_to(start, shape))


def _wide(scores: Array) -> Array:
    """The scores as float64, exactly.

    By their bits where they are denormal in float32: a processor that flushes those would make them 0.
    """
    if scores.dtype == jnp.float64:
        return scores
    single = scores.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(single, jnp.uint32)
    size = (bits & 0x7FFFFF).astype(jnp.float64) * 2.0**-149
    denormal = jnp.where(bits >> 31 != 0, -size, size)
    return jnp.where(bits >> 23 & 255 == 0, denormal, single.astype(jnp.float64))


def _ordered_bits(scores: Array, unsigned: type) -> Array:
    """Unsigned integers in the order of the floats; -0.0 equals 0.0."""
    bits = jax.lax.bitcast_convert_type(scores, unsigned)
    # By the bits, not by scores == 0, which is true of denormals as well where a processor flushes them.
    bits = jnp.where(bits << 1 == 0, unsigned(0), bits)
    top = unsigned(1) << unsigned(scores.dtype.itemsize * 8 - 1)
    return jnp.where(bits & top != 0, ~bits, bits | top)
