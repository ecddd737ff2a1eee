"""Test splits of image folders, copies of an image kept together."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from jaxprune.data.columns import AGE, AGE_BINS
from jaxprune.data.prepare.collection import Attribute, Collection
from jaxprune.errors import UserError


def draw_test_split(collection: Collection, digests: Sequence[str], test_share: float) -> list[str]:
    """Draw a stratified test split.

    It has its share of every category of the usual label, even over the other attributes within each. It rests on the
    digests of the images, whatever their order, so that adding images moves few of the others.

    Args:
      collection: The images.
      digests: [N] of the bytes of each, in hexadecimal; copies have one digest.
      test_share: The share of distinct images in the test split.

    Returns:
      [N] "test" or "train".

    Raises:
      UserError: The images are too few.
    """
    kinds: dict[str, tuple[int, ...]] = {}
    for digest, codes in zip(digests, _kinds(collection), strict=True):
        kinds[digest] = min(codes, kinds.get(digest, codes))  # copies with several labels are where the first would be
    chosen: set[str] = set()
    for cell in _by_label(kinds):
        share = max(math.floor(test_share * len(cell) + 0.5), int(len(cell) > 1))  # rounded half up, one of two or more
        chosen.update(_even_order(cell, kinds, 1)[:share])
    if not chosen or len(kinds.keys() - chosen) < 2:
        raise UserError(
            f"{collection.name}: {len(kinds)} distinct images are too few to cut a test and a validation "
            "split from; add images, or give each its split (a column named split, an array split)"
        )
    return ["test" if digest in chosen else "train" for digest in digests]


def _kinds(collection: Collection) -> list[tuple[int, ...]]:
    """Describe each image by codes, the usual label first, [N].

    The other attributes follow; of many distinct numbers, ages alone count.
    """
    usual = collection.usual_label
    columns = [_codes(usual, collection.attributes[usual])] + [
        _codes(name, attribute)
        for name, attribute in collection.attributes.items()
        if name != usual and (not attribute.needs_bins or name == AGE)
    ]
    return list(zip(*columns, strict=True))


def _codes(name: str, attribute: Attribute) -> list[int]:
    if not attribute.needs_bins:
        return attribute.values.tolist()
    return (np.digitize(attribute.values, AGE_BINS) if name == AGE else np.zeros(len(attribute.values), int)).tolist()


def _by_label(kinds: Mapping[str, tuple[int, ...]]) -> list[list[str]]:
    """Divide the images by the usual label.

    Categories of one image are too few to share, and are taken together.
    """
    cells = _grouped(kinds, kinds, 0)
    return [cell for cell in cells if len(cell) > 1] + [[cell[0] for cell in cells if len(cell) == 1]]


def _grouped(digests: Iterable[str], kinds: Mapping[str, tuple[int, ...]], depth: int) -> list[list[str]]:
    cells: dict[int, list[str]] = defaultdict(list)
    for digest in digests:
        cells[kinds[digest][depth]].append(digest)
    return list(cells.values())


def _even_order(digests: Sequence[str], kinds: Mapping[str, tuple[int, ...]], depth: int) -> list[str]:
    """Order the images so that every prefix is balanced.

    It is balanced over the attributes from `depth` on. The images of each category, put in such an order by the
    attributes that follow, are spread evenly over [0, 1), the k-th of n at (k + u) / n. The lowest digest makes u,
    which is random and uniform in [0, 1).
    """
    if not digests or depth == len(kinds[digests[0]]):
        return sorted(digests)
    places = []
    for cell in _grouped(digests, kinds, depth):
        low = int(min(cell)[:12], 16) / 16**12  # 12 hexadecimal digits as a number in [0, 1)
        # The least of n uniform numbers has the distribution 1 - (1 - low)^n, by which it becomes uniform itself.
        start = 1 - (1 - low) ** len(cell)
        places += [((k + start) / len(cell), digest) for k, digest in enumerate(_even_order(cell, kinds, depth + 1))]
    return [digest for _, digest in sorted(places)]
