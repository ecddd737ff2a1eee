"""Your own arrays, from an npz file."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxprune.data.columns import FEW, Bins, BinsLike, not_finite, number_column, read_bins
from jaxprune.data.normalisation import centred, is_image_bytes
from jaxprune.data.splitting import TEST_SHARE, cells_of, copies_of, stratified_units
from jaxprune.data.table import Column, Table
from jaxprune.errors import UserError

_NO_COLUMNS = ("x", "split", "provenance")


def read_npz(path: Path, *, bins: BinsLike = ()) -> Table:
    """Reads a data set from an npz file.

    The file holds `x` [N, ...] (rows or images), `y` [N] int, and one array [N] for each attribute that may form
    groups: codes from 0, or numbers to be binned. Optional: `<name>_names`, the names of the codes of `y` or of an
    attribute; `split` [N] (0 train, 1 test, 2 validation), without which a fifth of the examples becomes the test
    split; `provenance`, a text.

    Args:
      path: The file.
      bins: Edges of the bins of numbers, as for `read_bins`; empty for the paper's nine age bins (of an array named
        age).

    Raises:
      UserError: The file is missing, is not an npz file, or lacks an array.
    """
    edges = read_bins(bins)
    arrays = read_arrays(path)
    x = arrays["x"]
    columns, unused = _columns(arrays, edges)
    if "y" in unused:
        raise UserError(f"data.name: array 'y' in {path} {unused['y']}")
    attributes = {name: column for name, column in columns.items() if name != "y"} or {"y": columns["y"]}
    # By the codes of attributes that have some without bins: these must not move the splits.
    codes = {name: arrays[name] for name in columns if name != "y" and is_code(name, arrays, Bins())}
    strata = [columns["y"][0] if name == "y" else codes[name] for name in columns if name == "y" or name in codes]
    return Table(
        x=x,
        labels={"y": columns["y"], **attributes},
        attributes=attributes,
        stratify=tuple(codes.values()),
        split=_split(arrays, strata),
        standardise=np.ones(x.shape[1], bool) if x.ndim == 2 else None,
        provenance=str(arrays.get("provenance", path)),
        unused=unused,
    )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name, checked.

    Images are [N, H, W, channels]. Inputs that are not images of bytes are float32, rows about their medians.

    Raises:
      UserError: The file is missing, is not an npz file, or an array is missing or not fit.
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
    x = x[..., None] if x.ndim == 3 else x
    arrays["x"] = x if is_image_bytes(x) else centred(x) if x.ndim == 2 else x.astype(np.float32)
    for name in column_names(arrays):
        _check_column(arrays, name, path)
    if "split" in arrays:
        _check_split(arrays["split"], len(x), path)
    return arrays


def column_names(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """The arrays that are labels or attributes."""
    return [name for name in arrays if name not in _NO_COLUMNS and not name.endswith("_names")]


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as z:
            return dict(z)
    except FileNotFoundError:
        raise UserError(f"data.name: there is no file {path}; give the path of an npz file") from None
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        kind = type(error).__name__
        raise UserError(f"data.name: {path} cannot be read as an npz file of plain arrays ({kind})") from None


def _check_column(arrays: Mapping[str, np.ndarray], name: str, path: Path) -> None:
    values, names, n = arrays[name], arrays.get(f"{name}_names"), len(arrays["x"])
    if values.shape != (n,) or values.dtype.kind not in ("iubf" if names is None else "iub"):
        what = "a label or an attribute is numbers" if names is None else "named codes are whole numbers"
        raise UserError(
            f"data.name: array {name!r} in {path} is {values.dtype} of shape {values.shape}; {what} of shape ({n},)"
        )
    if bad := not_finite(values):
        raise UserError(
            f"data.name: array {name!r} in {path} {bad}; give a number for each example, or leave the array out"
        )
    if names is not None and names.ndim != 1:
        raise UserError(
            f"data.name: {name}_names in {path} has shape {names.shape}; give one name for each code, as a list"
        )


def _columns(arrays: Mapping[str, np.ndarray], bins: Bins) -> tuple[dict[str, Column], dict[str, str]]:
    """The labels and attributes by name, and why other numbers are none."""
    columns: dict[str, Column] = {}
    unused: dict[str, str] = {}
    given = {name: arrays[name] for name in column_names(arrays)}
    numbers = [n for n, a in given.items() if f"{n}_names" not in arrays and a.dtype.kind in "iuf"]
    bins.check_names(numbers, {n: code_names(arrays, n) if f"{n}_names" in arrays else () for n in given})
    for name, values in given.items():
        if is_code(name, arrays, bins):
            columns[name] = values, code_names(arrays, name)
            continue
        found = number_column(name, values, bins.of(name))
        if isinstance(found, str):
            unused[name] = found
        else:
            columns[name] = found
    return columns, unused


def is_code(name: str, arrays: Mapping[str, np.ndarray], bins: Bins) -> bool:
    """Whether an array is codes, rather than numbers that are to be binned or named by themselves.

    Codes have names, or are whole numbers from 0 without a gap that no bin cuts. A label may have gaps and is not cut:
    a class without examples is still a class; only edges of its own cut it.
    """
    values = arrays[name]
    if f"{name}_names" in arrays or values.dtype == bool:
        return True
    if values.dtype.kind == "f":
        return False
    edges = bins.of(name)
    if name == "y" and name not in bins.named:
        return values.max(initial=0) < len(values) and not (edges and values.min(initial=0) < 0)
    kinds = np.unique(values)
    if name == "age" and len(kinds) > FEW:  # years, also where no year is missing
        return False
    return np.array_equal(kinds, np.arange(len(kinds))) and len(set(np.digitize(kinds, edges))) <= 1


def code_names(arrays: Mapping[str, np.ndarray], name: str) -> tuple[str, ...]:
    """The names of the codes of an array: its own, or the numbers."""
    if f"{name}_names" in arrays:
        return tuple(map(str, arrays[f"{name}_names"]))
    return tuple(map(str, range(int(arrays[name].max(initial=0)) + 1)))


def _split(arrays: Mapping[str, np.ndarray], strata: Sequence[np.ndarray]) -> np.ndarray:
    """[N] the splits of the file; or, where it has none, a fifth of the examples as the test split."""
    if "split" in arrays:
        return arrays["split"]
    x = arrays["x"]
    unit = copies_of(x) if is_image_bytes(x) else np.arange(len(x))
    return stratified_units(cells_of(strata), unit, TEST_SHARE).astype(np.uint8)


def _check_split(split: np.ndarray, n: int, path: Path) -> None:
    if split.ndim != 1:
        raise UserError(
            f"data.name: split in {path} has shape {split.shape}, not ({n},); give one number for each example"
        )
    if len(split) != n:
        raise UserError(f"data.name: split in {path} has {len(split)} entries for {n} examples; give one for each")
    if split.dtype.kind not in "iub" or not np.isin(split, (0, 1, 2)).all():
        raise UserError(f"data.name: split in {path} holds other values than 0 (train), 1 (test) and 2 (validation)")
