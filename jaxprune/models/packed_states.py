"""State dicts without the zeros of pruned weights.

An array with pruned entries is kept as its mask, eight entries in a byte, and the values of its kept entries:

    NAME:bits    [ceil(size / 8)] uint8, row-major, the first entry is the highest bit (`numpy.packbits`)
    NAME:values  [kept], in the same order and of the array's own type

Arrays for which this would take more bytes stay as they are. The header of the file has the shapes.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxprune.errors import UserError

LAYOUT = "jaxprune.packed"  # where the header of a safetensors file has the shapes
_BITS, _VALUES = ":bits", ":values"


def pack_entries(
    entries: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Leave out the pruned entries of a state dict.

    Args:
      entries: Name -> array, 0 at every pruned entry.
      masks: Name -> bools of the same shape, True = kept; for names that it lacks, every 0 counts as pruned.

    Returns:
      The arrays to write, and the header that `unpack_entries` needs; empty where nothing is left out.

    Raises:
      UserError: A pruned entry is not 0.
    """
    arrays, shapes, masks = {}, {}, masks or {}
    for name, array in entries.items():
        kept = np.asarray(masks.get(name, array != 0))
        if (array[~kept] != 0).any():
            raise UserError(f"masks: {name} has values other than 0 where it is pruned; apply the masks first")
        size = -(-array.size // 8) + int(kept.sum()) * array.itemsize
        if size < array.nbytes:
            arrays[f"{name}{_BITS}"], arrays[f"{name}{_VALUES}"] = np.packbits(kept.reshape(-1)), array[kept]
            shapes[name] = list(array.shape)
        else:
            arrays[name] = array
    return arrays, {LAYOUT: json.dumps({"version": 1, "shapes": shapes})} if shapes else {}


def unpack_entries(arrays: Mapping[str, np.ndarray], header: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Restore the state dict that `pack_entries` was given.

    Args:
      arrays: Those of the file.
      header: That of the file; without an entry of `pack_entries` the arrays are returned as they are.

    Raises:
      ValueError: The header or an array is damaged.
    """
    entries = dict(arrays)
    for name, shape in _shapes(header).items():
        kept = _mask(entries, name, shape)
        values = entries.pop(f"{name}{_VALUES}")
        if values.shape != (int(kept.sum()),):
            raise ValueError(f"{name} has {values.size:,} values for {int(kept.sum()):,} kept entries")
        entries[name] = np.zeros(shape, values.dtype)
        entries[name][kept] = values
    return entries


def unpack_masks_of(arrays: Mapping[str, np.ndarray], header: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Restore the masks of the packed arrays.

    All others are whole.

    Raises:
      ValueError: The header or an array is damaged.
    """
    entries = dict(arrays)
    return {name: _mask(entries, name, shape) for name, shape in _shapes(header).items()}


def _shapes(header: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    layout: Any = json.loads(header.get(LAYOUT, '{"shapes": {}}'))
    shapes = layout.get("shapes") if isinstance(layout, dict) else None
    if not isinstance(shapes, dict):
        raise ValueError(f"its header {LAYOUT} has no shapes")
    for name, shape in shapes.items():
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
            raise ValueError(f"its header {LAYOUT} has {shape!r} for the shape of {name}")
    return {name: tuple(shape) for name, shape in shapes.items()}


def _mask(entries: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Take the mask of an array out of the entries."""
    if not {f"{name}{_BITS}", f"{name}{_VALUES}"} <= entries.keys():
        raise ValueError(f"it lacks the mask or the values of {name}")
    bits, size = entries.pop(f"{name}{_BITS}"), math.prod(shape)
    if bits.dtype != np.uint8 or bits.shape != (-(-size // 8),):  # so that a header cannot ask for more memory
        raise ValueError(f"the mask of {name} is not that of an array {list(shape)}")
    return np.unpackbits(bits, count=size).astype(bool).reshape(shape)
