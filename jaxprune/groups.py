"""Sums and means per group, and the crossing of attributes.

A group that has no examples contributes nothing: its sum and its count are 0, and its mean is what the caller asks
for (`empty`), never 0/0 by accident.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.batches import check_groups
from jaxprune.errors import UserError, unknown
from jaxprune.types import Array


def group_sum(values: Array, group: Array, num_groups: int, weight: Array | None = None) -> Array:
    """Sums of `values` over the examples of each group.

    On a CPU a scatter, which costs the same for any number of groups; elsewhere a masked reduction, which fuses and,
    unlike a scatter on a GPU, adds in one order every time. Neither is a product with one-hot rows, which a TPU would
    round to bfloat16 and through which a NaN of one group would reach all. Examples of weight 0 are left out even when
    their value is not finite.

    Args:
      values: [B, ...] numbers.
      group: [B] int in [0, G).
      num_groups: G.
      weight: [B], or None for ones.

    Returns:
      [G, ...] sums.

    Raises:
      UserError: Lengths differ; or a group of an example of weight other than 0 is out of range (outside of `jax.jit`).
    """
    _check(values, group, num_groups, weight)
    return _sum(values, group, num_groups, weight)


def _check(values: Array, group: Array, num_groups: int, weight: Array | None) -> None:
    if jnp.shape(values)[:1] != jnp.shape(group):
        raise UserError(f"values: shape {jnp.shape(values)} for groups of shape {jnp.shape(group)}; give one for each")
    check_groups(group, num_groups, weight)


def _sum(values: Array, group: Array, num_groups: int, weight: Array | None) -> Array:
    values, group = jnp.asarray(values), jnp.asarray(group)
    values = values.astype(jnp.int32) if values.dtype == bool else values
    if weight is not None:
        weight = _expand(jnp.asarray(weight), values.ndim)
        values = jnp.where(weight != 0, values * weight, 0)

    def scatter(values: Array, group: Array) -> Array:
        return jax.ops.segment_sum(values, group, num_groups)

    def reduction(values: Array, group: Array) -> Array:
        member = _expand(group[:, None] == jnp.arange(num_groups), values.ndim + 1)
        return jnp.sum(jnp.where(member, values[:, None], 0), axis=0)

    return jax.lax.platform_dependent(values, group, cpu=scatter, default=reduction)


def group_count(group: Array, num_groups: int, weight: Array | None = None) -> Array:
    """The total weight of each group, [G], or its number of examples."""
    check_groups(group, num_groups, weight)
    return _count(group, num_groups, weight)


def _count(group: Array, num_groups: int, weight: Array | None) -> Array:
    ones = jnp.ones(jnp.shape(group), jnp.float32)
    return _sum(ones if weight is None else jnp.ones_like(weight), group, num_groups, weight)


def group_mean(
    values: Array, group: Array, num_groups: int, weight: Array | None = None, *, empty: float = 0.0
) -> tuple[Array, Array]:
    """Weighted means of `values` over each group, with their total weights.

    Args:
      values: [B, ...] numbers.
      group: [B] int in [0, G).
      num_groups: G.
      weight: [B], or None for ones.
      empty: The mean of a group without examples: 0 where it is to contribute nothing, NaN where it is reported.

    Returns:
      Means [G, ...] and total weights [G].

    Raises:
      UserError: As `group_sum` does.
    """
    _check(values, group, num_groups, weight)
    total, count = _sum(values, group, num_groups, weight), _count(group, num_groups, weight)
    present = _expand(count > 0, total.ndim)
    # The inner where keeps the division finite, so that gradients through it are too.
    mean = total / _expand(jnp.where(count > 0, count, 1), total.ndim)
    return jnp.where(present, mean, empty), count


def largest_over_groups(values: Array) -> Array:
    """[..., G] -> [...], NaN left out; arrays of numpy keep their precision."""
    return np.nanmax(values, -1) if isinstance(values, np.ndarray) else jnp.nanmax(values, -1)


def spread_over_groups(values: Array) -> Array:
    """[..., G] -> [...], the largest value minus the smallest; as `largest_over_groups`."""
    return largest_over_groups(values) + largest_over_groups(-values)


def attributes_of(spec: str) -> tuple[str, ...]:
    """The attributes that a grouping names, such as ("race", "sex") of "race*sex"."""
    return tuple(part.strip() for part in spec.split("*"))


def same_grouping(one: str, other: str) -> bool:
    """Return True if two names cross the same attributes, in any order."""
    return sorted(attributes_of(one)) == sorted(attributes_of(other))


def intersect(
    attributes: Mapping[str, tuple[np.ndarray, Sequence[str]]], spec: str, *, where: str = "data.group"
) -> tuple[np.ndarray, list[str]]:
    """The groups of `spec`: one attribute, or several crossed, such as `"race*sex"`.

    Args:
      attributes: Name -> (codes [N], names of the codes).
      spec: Attribute names joined by `*`.
      where: The setting to name in the messages.

    Returns:
      Codes [N] in [0, G) and the G names, the last attribute running fastest ("White, Male", "White, Female", ...).

    Raises:
      UserError: An attribute is not known, or is named twice.
    """
    parts = attributes_of(spec)
    if len(set(parts)) != len(parts):
        raise UserError(f"{where}: {spec!r} names an attribute twice; name each one once")
    for part in parts:
        if part not in attributes:
            raise unknown("group attribute", part, attributes, where=where, listed=True)
    codes, names = attributes[parts[0]]
    codes, names = np.asarray(codes, np.int32), list(names)
    for part in parts[1:]:
        more, more_names = attributes[part]
        codes = codes * len(more_names) + np.asarray(more, np.int32)
        names = [f"{a}, {b}" for a in names for b in more_names]
    return codes, names


def _expand(array: Array, ndim: int) -> Array:
    return array.reshape(array.shape + (1,) * (ndim - array.ndim))
