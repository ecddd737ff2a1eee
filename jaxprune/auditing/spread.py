"""Spreads over groups, beside what groups drawn at random would show."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxprune.auditing.permutation import PRIOR, GroupCodes, centred, group_totals, shuffled_totals, thinned


class Spread(NamedTuple):
    """Spread of group means, averaged over seeds, and its null distribution.

    The spread is the largest mean minus the smallest.

    Attributes:
      value: The observed spread.
      expected: The mean under random groups of the same sizes; it is above 0.
      limit: The spread that random groups exceed with a probability of the level.
      p: The share of random groups that show as much.
    """

    value: float
    expected: float
    limit: float
    p: float


def measure_spreads(
    figures: Iterable[np.ndarray], grouping: GroupCodes, *, draws: int = 2000, level: float = 0.05, seed: int = 0
) -> list[Spread]:
    """Compare spreads over groups with those of random groups.

    A spread is above zero even where groups do not differ, so it is judged by the spreads that shuffled people show,
    the differences between groups taken out. The networks are taken as they are.

    Args:
      figures: For each spread, [R, N] figures of people, such as changes of loss (for ξ, eq. (3) of Tran et al. 2022)
        or 0-1 for right predictions (for the accuracy spread).
      grouping: The groups of the N people.
      draws: Shuffles; p is at least 1 / (draws + 1).
      level: Of `Spread.limit`.
      seed: Of the shuffles.

    Returns:
      The spreads; NaN where fewer than two groups have examples.
    """
    rows = thinned(grouping)
    part = GroupCodes(grouping.codes[rows], grouping.size)
    sizes, kept = (np.bincount(each.codes, minlength=each.size) for each in (grouping, part))
    present = sizes > 0
    observed, columns, seeds = [], [], []
    for values in figures:
        people = np.asarray(values, np.float64).T  # [N, R]
        means = group_totals(people, grouping)[present] / sizes[present, None]
        observed.append(float(np.ptp(means, 0).mean()) if present.sum() > 1 else np.nan)
        columns.append(centred(people[rows], part).astype(np.float32))
        seeds.append(people.shape[1])
    noise = np.concatenate(columns, 1)
    totals = shuffled_totals(noise, part, draws, seed)[:, present]
    # Means of the people kept vary more than those of all would, by the root of the ratio of their numbers; and those
    # of a group whose people vary more than others do, by the ratio of their deviations.
    shrink = 1 / np.sqrt(kept[present] * sizes[present])
    deviations = _relative_deviations(noise, part)[present]
    spreads = []
    for value, stop, count in zip(observed, np.cumsum(seeds), seeds, strict=True):
        own = slice(stop - count, stop)
        null = np.ptp(totals[:, :, own] * (shrink[:, None] * deviations[:, own]), 1).mean(-1)
        limit = np.sort(null)[min(int(np.ceil((1 - level) * (draws + 1))) - 1, draws - 1)]
        p = (1 + np.sum(null >= value)) / (draws + 1)
        known = np.isfinite(value)
        spreads.append(Spread(*(float(number) if known else np.nan for number in (value, null.mean(), limit, p))))
    return spreads


def _relative_deviations(noise: np.ndarray, grouping: GroupCodes) -> np.ndarray:
    """Divide the deviation of each group by that of all, [G, K].

    The ratios are drawn a little towards 1.
    """
    sizes = np.bincount(grouping.codes, minlength=grouping.size)[:, None]
    within = group_totals(np.square(noise, dtype=np.float64), grouping)
    pooled = within.sum(0) / max(len(noise), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (within + PRIOR * pooled) / (np.maximum(sizes, 1) + PRIOR) / pooled
    return np.sqrt(np.where(pooled > 0, ratio, 1.0))
