"""Selection of groups by size."""

from collections.abc import Sequence

import numpy as np

from jaxprune.data.dataset import SPLITS, refuse_empty_groups
from jaxprune.errors import UserError
from jaxprune.text import name_some, shortened

Members = dict[str, np.ndarray]  # split -> indices of its examples


def keep_groups(
    members: Members, group: np.ndarray, group_names: Sequence[str], group_by: str, minimum: int
) -> tuple[Members, np.ndarray, tuple[str, ...], list[str]]:
    """Leave out small and empty groups, with all their examples.

    Groups that are kept keep their order, and their examples stay in their splits. Crossed groups without examples in
    any split are dropped.

    Args:
      members: The examples of each split.
      group: [N] the group of each example.
      group_names: The G names.
      group_by: The attribute that forms the groups.
      minimum: Groups with fewer examples than this in any split are left out; 0 leaves none out.

    Returns:
      The members, groups [N] (-1 for those left out) and names that are kept, and sentences about the others.

    Raises:
      UserError: No group is left, or one has no examples in a split.
    """
    sizes = np.stack([np.bincount(group[members[split]], minlength=len(group_names)) for split in SPLITS])
    nobody = (sizes.sum(0) == 0) & ("*" in group_by)
    small = (sizes.min(0) < minimum) & ~nobody
    kept = np.flatnonzero(~(nobody | small))
    if not len(kept):
        raise UserError(
            f"data.min_group_size: no group of {group_by!r} has {minimum:,} examples in every split; the largest has "
            f"{sizes.min(0).max():,}; give a smaller number, or group by something else"
        )
    names = tuple(group_names[g] for g in kept.tolist())
    remedy = "set data.min_group_size to 1 or more to leave such groups out, or group by something else"
    refuse_empty_groups(dict(zip(SPLITS, sizes[:, kept], strict=True)), names, group_by, remedy)
    code = np.full(len(group_names), -1, np.int32)  # old group -> new group, -1 for those left out
    code[kept] = np.arange(len(kept))
    members = {split: rows[code[group[rows]] >= 0] for split, rows in members.items()}
    return members, code[group], names, _notes(nobody, small, sizes, group_names, group_by, minimum)


def _notes(
    nobody: np.ndarray, small: np.ndarray, sizes: np.ndarray, group_names: Sequence[str], group_by: str, minimum: int
) -> list[str]:
    of_all, notes = f"of the {len(group_names):,} groups of {group_by}", []
    if nobody.any():
        notes.append(f"{nobody.sum():,} {of_all} {_are(nobody)} left out: nobody is in them")
    if small.any():
        examples = ", ".join(f"{n:,} of {split}" for split, n in zip(SPLITS, sizes[:, small].sum(1), strict=True))
        left_out = np.flatnonzero(small).tolist()
        named = name_some(
            [f"{shortened(group_names[g], 60)} ({sizes[:, g].sum():,})" for g in left_out], separator="; "
        )
        notes.append(
            f"{small.sum():,} {of_all} {_are(small)} left out with all their examples ({examples}), fewer than "
            f"{minimum:,} being in a split of each: {named}"
        )
    return notes


def _are(which: np.ndarray) -> str:
    return "is" if which.sum() == 1 else "are"
