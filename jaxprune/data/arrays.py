"""Your own arrays, from an npz file."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxprune.data.normalisation import is_image_bytes
from jaxprune.data.splitting import TEST_SHARE, copies_of, stratified_units
from jaxprune.data.table import Table
from jaxprune.errors import UserError


def read_npz(path: Path) -> Table:
    """Reads a data set from an npz file.

    The file holds `x` [N, ...] (rows or images), `y` [N] int, and one int array [N] for each attribute that may
    form groups. Optional: `<name>_names`, the names of the codes of `y` or of an attribute; `split` [N] (0 train,
    1 test, 2 validation), without which a fifth of the examples becomes the test split; `provenance`, a text.

    Raises:
      UserError: The file is missing, is not an npz file, or lacks an array.
    """
    arrays = _read(path)
    for name in ("x", "y"):
        if name not in arrays:
            raise UserError(f"data.name: {path} has no array {name!r}; it has {', '.join(sorted(arrays))}")
    x = arrays["x"]
    if x.ndim not in (2, 3, 4) or x.dtype.kind not in "fiub":
        raise UserError(
            f"data.name: x in {path} is {x.dtype} with {x.ndim} axes; give numbers, as rows [N, F] or images "
            "[N, H, W, channels]"
        )
    x, n = x[..., None] if x.ndim == 3 else x, len(x)
    x = x if is_image_bytes(x) else x.astype(np.float32)
    columns = {
        name: (values, _names(arrays, name, values))
        for name, values in arrays.items()
        if name not in ("x", "split", "provenance") and not name.endswith("_names")
    }
    for name, (values, _) in columns.items():
        if values.shape != (n,) or values.dtype.kind not in "iub":
            raise UserError(
                f"data.name: array {name!r} in {path} is {values.dtype} of shape {values.shape}; "
                f"a label or an attribute is whole numbers of shape ({n},)"
            )
    attributes = {name: column for name, column in columns.items() if name != "y"} or {"y": columns["y"]}
    split = arrays.get("split")
    if split is None:
        cells = np.unique(np.stack([values for values, _ in columns.values()]), axis=1, return_inverse=True)[1]
        unit = copies_of(x) if is_image_bytes(x) else np.arange(n)
        split = stratified_units(cells.reshape(-1), unit, TEST_SHARE).astype(np.uint8)
    if len(split) != n:
        raise UserError(f"data.name: split in {path} has {len(split)} entries for {n} examples; give one for each")
    if split.dtype.kind not in "iub" or not np.isin(split, (0, 1, 2)).all():
        raise UserError(f"data.name: split in {path} holds other values than 0 (train), 1 (test) and 2 (validation)")
    return Table(
        x=x,
        labels={"y": columns["y"], **attributes},
        attributes=attributes,
        stratify=tuple(attributes),
        split=split,
        standardise=np.ones(x.shape[1], bool) if x.ndim == 2 else None,
        provenance=str(arrays.get("provenance", path)),
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as z:
            return dict(z)
    except FileNotFoundError:
        raise UserError(f"data.name: there is no file {path}; give the path of an npz file") from None
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        kind = type(error).__name__
        raise UserError(f"data.name: {path} cannot be read as an npz file of plain arrays ({kind})") from None


def _names(arrays: dict[str, np.ndarray], name: str, values: np.ndarray) -> tuple[str, ...]:
    if f"{name}_names" in arrays:
        return tuple(str(n) for n in arrays[f"{name}_names"])
    if values.dtype.kind not in "iub":
        return ()
    if values.max(initial=0) >= len(values):
        raise UserError(f"data.name: array {name!r} holds {values.max()}, more than a code; number its kinds from 0")
    return tuple(str(n) for n in range(int(values.max(initial=0)) + 1))
