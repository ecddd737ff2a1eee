"""Thinning and repeating of training examples by group."""

from collections.abc import Sequence

import numpy as np

from jaxprune.errors import UserError, unknown
from jaxprune.memory import check_fits

_SEED = 20220614  # fixed, like the splits: the data must not change with the seed of a run


def long_tail(group: np.ndarray, num_groups: int, imbalance: float) -> np.ndarray:
    """Choose examples so that the groups become unevenly large.

    Group a keeps `n_max * imbalance ** (-a / (G - 1))` examples, n_max being the size of the largest group: the
    first stays whole, the last becomes `imbalance` times smaller than the largest. A group that is smaller already
    stays as it is.

    Args:
      group: [N] int in [0, G).
      num_groups: G.
      imbalance: At least 1; 1 keeps everything.

    Returns:
      Sorted indices of the examples to keep.

    Raises:
      UserError: `imbalance` is below 1.
    """
    if imbalance < 1:
        raise UserError(f"data.imbalance: {imbalance} is below 1; 1 keeps every example, 10 makes a ten-fold tail")
    largest = np.bincount(group, minlength=num_groups).max()
    tail = imbalance ** (-np.arange(num_groups) / max(num_groups - 1, 1))
    return _draw(group, np.maximum(1, np.round(largest * tail)).astype(int))


def to_shares(group: np.ndarray, group_names: Sequence[str], shares: Sequence[float]) -> np.ndarray:
    """Choose examples so that the groups have given shares.

    As many are kept as that allows.

    Args:
      group: [N] int in [0, G).
      group_names: The G names.
      shares: G positive numbers, in any unit.

    Returns:
      Sorted indices of the examples to keep; the share of each group is met to within one example.

    Raises:
      UserError: There are not G shares, one is not positive, or one is too small for a single example.
    """
    parts = np.asarray(shares, float)
    if len(parts) != len(group_names):
        raise UserError(f"data.shares: {len(parts)} shares for {len(group_names)} groups ({', '.join(group_names)})")
    if (parts <= 0).any():
        raise UserError(f"data.shares: {parts.min():g} is not above 0; give each group a positive share")
    parts = parts / parts.sum()
    # The scarcest group, measured by its share, stays whole and decides the total. 1e-9: a quotient that should be
    # whole may be a rounding below it.
    total = np.min(np.bincount(group, minlength=len(parts)) / parts)
    quota = np.floor(total * parts + 1e-9).astype(int)
    if (quota == 0).any():
        raise UserError("data.shares: the smallest share leaves its group without an example; make it larger")
    return _draw(group, quota)


def upsample(group: np.ndarray, group_names: Sequence[str], name: str, times: int) -> np.ndarray:
    """Repeat the examples of one group `times` times.

    All others occur once, as in Figs 14 and 15 of Tran et al. 2022.

    Args:
      group: [N] int in [0, G).
      group_names: The G names.
      name: The group to repeat.
      times: How often each of its examples is to occur.

    Returns:
      Sorted indices, with repeats.

    Raises:
      UserError: The group is unknown.
    """
    if name not in group_names:
        raise unknown("group", name, group_names, where="data.upsample_group")
    member = group == list(group_names).index(name)
    rows = len(group) + times * int(member.sum())
    check_fits("data.upsample_times", f"{rows:,} examples", 64 * rows, "give a smaller number")
    return np.repeat(np.arange(len(group)), np.where(member, times, 1))


def balance(group: np.ndarray, num_groups: int) -> np.ndarray:
    """Repeat examples until every group is as large as the largest.

    Those of a group are repeated nearly equally often.

    Args:
      group: [N] int in [0, G), every group with at least one example.
      num_groups: G.

    Returns:
      Sorted indices, with repeats.
    """
    counts = np.bincount(group, minlength=num_groups)
    generator = np.random.Generator(np.random.PCG64(_SEED))
    chosen = []
    for a in range(num_groups):
        members = generator.permutation(np.flatnonzero(group == a))
        chosen.append(np.resize(members, counts.max()))  # again from the start until there are enough
    return np.sort(np.concatenate(chosen))


def _draw(group: np.ndarray, quota: np.ndarray) -> np.ndarray:
    """Draw at most `quota` examples of each group, as sorted indices."""
    # One generator for all groups, in their order, also for those that stay whole: the draws of a group depend on the
    # groups before it, not on its own quota, so that a smaller quota keeps a part of what a larger one keeps.
    generator = np.random.Generator(np.random.PCG64(_SEED))
    kept = [generator.permutation(np.flatnonzero(group == a))[:count] for a, count in enumerate(quota)]
    return np.sort(np.concatenate(kept))
