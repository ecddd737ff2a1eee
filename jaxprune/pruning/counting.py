"""Shares of units as whole numbers, and counts of units."""

import functools

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.types import Array

LARGEST = 2**31 - 1  # counts are int32


def units_to_prune(sparsity: float | Array, size: int) -> Array:
    """The nearest whole number of units, halves to the even one.

    Args:
      sparsity: A share in [0, 1). A traced one is read as a float32, of which the product is exact; it is clamped, and
        NaN is 0.
      size: The number of units, less than 2^31.

    Returns:
      [] int32.

    Raises:
      UserError: There are 2^31 units or more.

    Example:
      >>> import jax
      >>> from jaxprune.pruning.counting import units_to_prune
      >>> int(units_to_prune(0.9, 25)), int(jax.jit(lambda s: units_to_prune(s, 25))(0.9))
      (22, 22)
    """
    if size > LARGEST:
        raise UserError(f"scores: {size:,} units are more than {LARGEST:,} in one threshold; prune them layer by layer")
    return _product(sparsity, size) if isinstance(sparsity, Tracer) else jnp.int32(round(float(sparsity) * size))


def _product(share: Array, size: int) -> Array:
    """Multiply in whole numbers: a float32 holds no count above 2^24."""
    share = jnp.clip(jnp.nan_to_num(share.astype(jnp.float32)), 0, 1 - 2**-24)
    bits = jax.lax.bitcast_convert_type(share, jnp.uint32)
    # share = digits / 2^shift with 24 <= shift. What is below 2^-34 of a unit rounds to none of at most 2^31.
    digits = (bits & 0x7FFFFF) | 0x800000
    shift = jnp.minimum(150 - (bits >> 23), 60)
    # The product has at most 55 bits: two words, of products of halves that fit one.
    low, high = digits & 0xFFFF, digits >> 16
    first, second = jnp.uint32(size & 0xFFFF), jnp.uint32(size >> 16)
    middle = (low * first >> 16) + (low * second & 0xFFFF) + (high * first & 0xFFFF)
    lower = (low * first & 0xFFFF) | (middle << 16)
    upper = high * second + (low * second >> 16) + (high * first >> 16) + (middle >> 16)
    # The quotient, the first bit that is cut off, and whether any bit after it is set. XLA shifts a word by its width
    # or more to 0, in either direction.
    right, left = jax.lax.shift_right_logical, jax.lax.shift_left
    word = jnp.uint32(32)
    whole = jnp.where(shift < word, left(upper, word - shift) | right(lower, shift), right(upper, shift - word))
    cut = shift - 1
    half = jnp.where(cut < word, right(lower, cut), right(upper, cut - word)) & 1
    rest = jnp.where(cut < word, left(lower, word - cut), left(upper, 2 * word - cut) | lower)
    up = half & ((rest != 0) | (whole & 1 == 1))
    return (whole + up).astype(jnp.int32)


def on_one_cpu() -> bool:
    """Return True if JAX has one CPU alone.

    Then no array lies on several devices.
    """
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def count(*marked: Array) -> Array:
    """Count what is True in each of some arrays.

    At most four, of one shape. On several devices, only counts are summed over them.

    Returns:
      [K] int32.
    """
    if not on_one_cpu():
        return jnp.stack([jnp.sum(each, dtype=jnp.int32) for each in marked])
    # On a CPU, XLA reduces an array to one number without vectors. Rows of 32 are eight times faster, and the bytes of
    # a word hold the counts of four arrays for the price of one.
    words = functools.reduce(jnp.bitwise_or, (each.astype(jnp.uint32) << 8 * i for i, each in enumerate(marked)))
    flat = words.reshape(-1)
    whole = flat.size // 32 * 32
    parts = (jnp.sum(flat[:whole].reshape(-1, 32), axis=1, dtype=jnp.uint32), jnp.sum(flat[whole:], dtype=jnp.uint32))
    rows, rest = (
        jnp.stack([jnp.sum(part >> 8 * i & 255, dtype=jnp.int32) for i in range(len(marked))]) for part in parts
    )
    return rows + rest
