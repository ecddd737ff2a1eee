"""Null distributions over people: group contrasts when group labels are shuffled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

MOST_PEOPLE = 32_768  # a null distribution is drawn from at most this many people
_FEW_GROUPS = 24  # up to here a dense product is faster than a sparse one
_ROWS = 64  # rows of a product: groups times shuffles
PRIOR = 4.0  # people that the pooled variance counts for in the variance of a group


class GroupCodes(NamedTuple):
    """A division of the people into groups.

    Attributes:
      codes: [N] int in [0, G).
      size: G.
    """

    codes: np.ndarray
    size: int


class Contrasts(NamedTuple):
    """Group means minus the mean of everybody else, with their variances.

    Attributes:
      value: [..., G, K] the contrasts of K columns; NaN for a group that is empty or holds everybody.
      variance: [..., G, K] their variance over people.
    """

    value: np.ndarray
    variance: np.ndarray


def contrasts(sizes: np.ndarray, sums: np.ndarray, squares: np.ndarray) -> Contrasts:
    """Contrast each group with the rest, from sums over its people.

    The variance is Welch's, with the variance of each group drawn a little towards the pooled one: a group of few
    people whose values happen to be equal would otherwise have none.

    Args:
      sizes: [G] numbers of people.
      sums: [..., G, K] sums of their values.
      squares: [..., G, K] sums of the squares of their values.

    Returns:
      The contrasts.
    """
    n = np.asarray(sizes, float)[:, None]
    people, present = n.sum(), int(np.sum(n > 0))
    rest, some = people - n, np.maximum(n, 1)
    within = np.maximum(squares - sums**2 / some, 0)
    pooled = within.sum(-2, keepdims=True) / max(people - present, 1)
    variance = (within + PRIOR * pooled) / (some - 1 + PRIOR)
    weighted = n * variance
    with np.errstate(divide="ignore", invalid="ignore"):
        value = sums / n - (sums.sum(-2, keepdims=True) - sums) / rest
        spread = variance / n + (weighted.sum(-2, keepdims=True) - weighted) / rest**2
    usable = (n > 0) & (rest > 0)
    return Contrasts(np.where(usable, value, np.nan), np.where(usable, spread, np.nan))


def group_totals(values: np.ndarray, grouping: GroupCodes) -> np.ndarray:
    """Sum values [N, K] over each group, to [G, K] in float64."""
    columns = np.asarray(values, np.float64).T
    return np.stack([np.bincount(grouping.codes, column, grouping.size) for column in columns], -1)


def centred(values: np.ndarray, grouping: GroupCodes) -> np.ndarray:
    """Subtract group means from values [N, K].

    The mean of each group is subtracted, and what is left is stretched by √(n/(n - 1)), as the subtraction takes that
    much of the spread away.

    Args:
      values: [N, K].
      grouping: The groups.

    Returns:
      [N, K]; zero for a group of one.
    """
    sizes = np.bincount(grouping.codes, minlength=grouping.size)
    means = group_totals(values, grouping) / np.maximum(sizes, 1)[:, None]
    stretch = np.sqrt(sizes / np.maximum(sizes - 1, 1))
    return (values - means[grouping.codes]) * stretch[grouping.codes][:, None]


def shuffled_totals(values: np.ndarray, grouping: GroupCodes, draws: int, seed: int = 0) -> np.ndarray:
    """Sum over groups of people drawn at random.

    Every group keeps its size.

    Args:
      values: [N, K].
      grouping: The groups.
      draws: How often the people are shuffled.
      seed: Of the shuffles; equal seeds shuffle N people alike, whatever the groups.

    Returns:
      [draws, G, K] float32.
    """
    values = np.ascontiguousarray(values, np.float32)
    generator = np.random.Generator(np.random.PCG64(seed))
    count, size = len(values), grouping.size
    totals = np.empty((draws, size, values.shape[1]), np.float32)
    if size > _FEW_GROUPS:
        rows, ones = np.arange(count), np.ones(count, np.float32)
        for b in range(draws):
            codes = grouping.codes[generator.permutation(count)]
            totals[b] = sparse.csr_matrix((ones, (codes, rows)), (size, count)) @ values
        return totals
    # A few shuffles in one product, so that the values are read from memory once for all of them.
    member = np.zeros((size, count), np.float32)
    member[grouping.codes, np.arange(count)] = 1
    block = max(1, min(_ROWS // size, draws))
    for start in range(0, draws, block):
        part = totals[start : start + block]
        shuffles = np.concatenate([member[:, generator.permutation(count)] for _ in part])
        part[:] = (shuffles @ values).reshape(part.shape)
    return totals


def thinned(grouping: GroupCodes, most: int = MOST_PEOPLE) -> np.ndarray:
    """Choose the people that a null distribution is drawn from.

    The distribution of a studentised contrast depends on the number of people in a group only while that is small, so
    large groups are cut to one common size.

    Args:
      grouping: The groups.
      most: How many people to keep, about.

    Returns:
      Sorted indices of those kept; everybody where there are no more than `most`.
    """
    count = len(grouping.codes)
    if count <= most:
        return np.arange(count)
    sizes = np.sort(np.bincount(grouping.codes, minlength=grouping.size))
    # The level L with sum(min(size, L)) = most.
    below = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    levels = (most - below) / (len(sizes) - np.arange(len(sizes)))
    level = int(levels[np.argmax(levels <= sizes)])
    generator = np.random.Generator(np.random.PCG64(0))
    order = generator.permutation(count)
    order = order[np.argsort(grouping.codes[order], kind="stable")]
    codes = grouping.codes[order]
    rank = np.arange(count) - np.searchsorted(codes, codes)
    return np.sort(order[rank < level])


def crossed(groupings: Sequence[GroupCodes]) -> GroupCodes:
    """Cross several groupings into one."""
    codes = np.stack([grouping.codes for grouping in groupings])
    kinds, inverse = np.unique(codes, axis=1, return_inverse=True)
    return GroupCodes(inverse.reshape(-1), kinds.shape[1])
