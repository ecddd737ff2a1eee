"""Which split every image of a folder is in, so that copies of one image are on one side."""

import math
from collections import defaultdict
from collections.abc import Sequence

from jaxprune.data.folders.collection import Collection
from jaxprune.errors import UserError

# Where copies of one image are in two splits, the first of these keeps them.
PRECEDENCE = ("test", "validation", "train")


def drawn(collection: Collection, digests: Sequence[str], test_share: float) -> list[str]:
    """A test split by the digests of the images, whatever their order: adding images moves none or few of the others.

    Args:
      collection: The images.
      digests: [N] of the bytes of each, in hexadecimal; copies have one digest.
      test_share: The share of distinct images in the test split.

    Returns:
      [N] "test" or "train".

    Raises:
      UserError: The images are too few.
    """
    if collection.even:
        chosen = _lowest_of_each(_cells(collection, digests), test_share)
    else:
        chosen = {digest for digest in digests if int(digest[:8], 16) < test_share * 2**32}
    distinct = set(digests)
    if not chosen or len(distinct - chosen) < 2:
        raise UserError(
            f"{collection.name}: {len(distinct)} distinct images are too few to cut a test and a validation "
            "split from; add images, or give the table a column named split"
        )
    return ["test" if digest in chosen else "train" for digest in digests]


def crossing(split: Sequence[str], digests: Sequence[str]) -> dict[int, int]:
    """Images of a split that are copies of one in a split that goes before it -> the first such one, by number."""
    first: dict[str, int] = {}
    for side in PRECEDENCE:
        for i, digest in enumerate(digests):
            if split[i] == side:
                first.setdefault(digest, i)
    return {i: first[digest] for i, digest in enumerate(digests) if split[first[digest]] != split[i]}


def _cells(collection: Collection, digests: Sequence[str]) -> list[list[str]]:
    """The distinct images of every kind of the usual label; those of kinds with one image, too few to share, together.

    Copies with several labels are in the cell of the first of them, by the order of the labels.
    """
    label = collection.attributes[collection.usual_label]
    kinds = [0] * len(digests) if label.needs_bins else label.values.tolist()
    kind_of: dict[str, float] = {}
    for digest, kind in zip(digests, kinds, strict=True):
        kind_of[digest] = min(kind, kind_of.get(digest, kind))
    cells: dict[float, list[str]] = defaultdict(list)
    for digest, kind in kind_of.items():
        cells[kind].append(digest)
    single = [cell[0] for cell in cells.values() if len(cell) == 1]
    return [cell for cell in cells.values() if len(cell) > 1] + [single]


def _lowest_of_each(cells: Sequence[Sequence[str]], share: float) -> set[str]:
    """The lowest digests of each cell: its share of them, rounded half up, and one at least of two or more."""
    return {
        digest
        for cell in cells
        for digest in sorted(cell)[: max(math.floor(share * len(cell) + 0.5), int(len(cell) > 1))]
    }
