"""Images of an npz file, for building a set."""

from pathlib import Path

import numpy as np

from jaxprune.data.cells import twin_notes
from jaxprune.data.columns import Bins
from jaxprune.data.normalisation import is_image_bytes
from jaxprune.data.prepare.collection import RESERVED, Attribute, Collection
from jaxprune.data.sources.npz import (
    begins_elsewhere,
    code_names,
    column_names,
    is_code,
    kinds_as_codes,
    read_arrays,
    split_codes,
    split_notes,
)
from jaxprune.data.sources.split_column import SPLIT_NAMES
from jaxprune.errors import UserError
from jaxprune.files import digest_of


def collect_npz(name: str, path: Path, scratch: Path) -> Collection:
    """Collect the images of an npz file.

    They are written out as PNG without loss, with labels, attributes and splits.

    Args:
      name: The name of the built set.
      path: The file, as docs/data.md describes it.
      scratch: An empty folder for the images, which are called by the numbers of their rows.

    Raises:
      UserError: The file is missing or not fit, or does not hold images of bytes.
    """
    arrays = read_arrays(path)
    x = arrays["x"]
    if not is_image_bytes(x) or x.shape[-1] not in (1, 3):
        raise UserError(
            f"--npz {path}: x is {x.dtype} of shape {x.shape}; only images of bytes, [N, H, W] or [N, H, W, 1 or 3] "
            "of uint8, are prepared; load other arrays as they are, with --data.name"
        )
    split = split_codes(arrays)
    if split is not None and not (split == 0).any():
        raise UserError(f"--npz {path}: the train split is empty; give it examples")
    attributes = {column: _attribute(arrays, column, path) for column in _in_order(arrays)}
    return Collection(
        name=name,
        directory=scratch,
        paths=_written(x, scratch),
        attributes=attributes,
        split=None if split is None else [SPLIT_NAMES[code] for code in split.astype(int)],
        warnings=split_notes(arrays, path)
        + twin_notes((name, attribute.names) for name, attribute in attributes.items()),
        description=f"{arrays.get('provenance', 'Arrays')} (prepared from {path.name}, SHA-256 {digest_of(path)})",
    )


def _in_order(arrays: dict[str, np.ndarray]) -> list[str]:
    """Order the columns: the label, then the attributes."""
    return ["y", *(name for name in column_names(arrays) if name != "y")]


def _attribute(arrays: dict[str, np.ndarray], name: str, path: Path) -> Attribute:
    values = arrays[name]
    if name in RESERVED or set(name) & set("*/"):
        raise UserError(f"--npz {path}: {name!r} is the name of a stored feature, or has a * or / in it; rename it")
    if name == "y" and "y_names" not in arrays and begins_elsewhere(values):
        codes, names = kinds_as_codes(values)
        return Attribute(codes.astype(np.int64), names)
    if (name == "age" and f"{name}_names" not in arrays) or not is_code(name, arrays, Bins()):
        return Attribute(values.astype(np.float32 if values.dtype.kind == "f" else np.int64))
    return Attribute(values.astype(np.int64), code_names(arrays, name))


def _written(x: np.ndarray, folder: Path) -> list[Path]:
    from PIL import Image

    paths = [folder / f"{i:07}.png" for i in range(len(x))]
    for path, image in zip(paths, x, strict=True):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path, compress_level=1)
    return paths
