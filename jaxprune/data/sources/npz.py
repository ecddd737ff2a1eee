"""Data sets of your own arrays, from an npz file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxprune.data.cells import natural, to_categories
from jaxprune.data.columns import FEW, Bins, BinsLike, not_finite, number_column, read_bins
from jaxprune.data.normalisation import centred, is_image_bytes
from jaxprune.data.raw import Column, RawData
from jaxprune.data.sources.npz_files import read_npz_file
from jaxprune.data.sources.split_column import read_split
from jaxprune.data.splitting import TEST_SHARE, cells_of, copies_of, stratified_units
from jaxprune.errors import UserError

_NO_COLUMNS = ("x", "split", "provenance")


def read_npz(path: Path, *, bins: BinsLike = ()) -> RawData:
    """Read a data set from an npz file.

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
    return RawData(
        x=x,
        labels={"y": columns["y"], **attributes},
        attributes=attributes,
        stratify=tuple(codes.values()),
        split=_split(arrays, strata),
        standardise=np.ones(x.shape[1], bool) if x.ndim == 2 else None,
        provenance=str(arrays.get("provenance", path)),
        unused=unused,
        notes=tuple(split_notes(arrays, path)),
    )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read and check the arrays of an npz file.

    Images are [N, H, W, channels]. Inputs that are not images of bytes are float32, rows about their medians.

    Raises:
      UserError: The file is missing, is not an npz file, or an array is missing or not fit.
    """
    arrays = read_npz_file(path)
    for name in ("x", "y"):
        if name not in arrays:
            raise UserError(f"data.name: {path} has no array {name!r}; it has {', '.join(sorted(arrays)) or 'none'}")
    x = arrays["x"]
    if x.ndim not in (2, 3, 4) or x.dtype.kind not in "fiub":
        raise UserError(
            f"data.name: x in {path} is {x.dtype} with {x.ndim} axes; give numbers, as rows [N, F] or images "
            "[N, H, W, channels]"
        )
    if not x.size:
        raise UserError(f"data.name: x in {path} has shape {x.shape}: nothing is in it; give examples with features")
    x = x[..., None] if x.ndim == 3 else x
    arrays["x"] = x if is_image_bytes(x) else centred(x) if x.ndim == 2 else x.astype(np.float32)
    for name in column_names(arrays):
        if arrays[name].dtype.kind == "U" and f"{name}_names" not in arrays:
            texts = to_categories(arrays[name].reshape(-1).tolist())
            code = {kind: i for i, kind in enumerate(sorted(set(texts), key=natural))}
            arrays[f"{name}_names"] = np.array(list(code))
            arrays[name] = np.array([code[text] for text in texts], np.int32).reshape(arrays[name].shape)
        _check_column(arrays, name, path)
    for name in (name for name in arrays if name.endswith("_names") and name.removesuffix("_names") not in arrays):
        codes = name.removesuffix("_names")
        raise UserError(f"data.name: {path} holds {name} without {codes}; add the codes, or leave the names out")
    if "split" in arrays:
        _check_split(arrays["split"], len(x), path)
    return arrays


def column_names(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Name the arrays that are labels or attributes."""
    return [name for name in arrays if name not in _NO_COLUMNS and not name.endswith("_names")]


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
    if names is not None:
        _check_names(name, values, names, path)


def _check_names(name: str, values: np.ndarray, names: np.ndarray, path: Path) -> None:
    where = f"data.name: {name}_names in {path}"
    if names.ndim != 1:
        raise UserError(f"{where} has shape {names.shape}; give one name for each code, as a list")
    texts = list(map(str, names))
    for code, text in enumerate(texts):
        if not text.strip():
            raise UserError(f"{where} has no name for code {code}; give each code a name")
    if len(set(texts)) < len(texts):
        twice = next(text for i, text in enumerate(texts) if text in texts[:i])
        raise UserError(f"{where} has a name twice, {twice[:40]!r}; give each code its own")
    if len(values) and (values.min() < 0 or values.max() >= len(texts)):
        hint = " (codes that start at 1? subtract 1)" if values.min() == 1 and values.max() == len(texts) else ""
        raise UserError(
            f"{where}: {name} runs from {values.min()} to {values.max()}; the names are for 0 to {len(texts) - 1}{hint}"
        )


def _columns(arrays: Mapping[str, np.ndarray], bins: Bins) -> tuple[dict[str, Column], dict[str, str]]:
    """Convert labels and attributes; give reasons against the others."""
    columns: dict[str, Column] = {}
    unused: dict[str, str] = {}
    candidates = {name: arrays[name] for name in column_names(arrays)}
    numbers = [n for n, a in candidates.items() if f"{n}_names" not in arrays and a.dtype.kind in "iuf"]
    bins.check_names(numbers, {n: code_names(arrays, n) if f"{n}_names" in arrays else () for n in candidates})
    for name, values in candidates.items():
        if is_code(name, arrays, bins):
            columns[name] = values, code_names(arrays, name)
            continue
        if name == "y" and name not in bins.named and begins_elsewhere(values):
            columns[name] = kinds_as_codes(values)
            continue
        column = number_column(name, values, bins.of(name))
        if isinstance(column, str):
            unused[name] = column
        else:
            columns[name] = column
    return columns, unused


def is_code(name: str, arrays: Mapping[str, np.ndarray], bins: Bins) -> bool:
    """Return True if an array holds codes.

    Other numbers are binned, or are categories named by themselves. Codes have names, or are whole numbers from 0
    without a gap that no bin cuts. A label may have gaps and is not cut: a class without examples is still a class;
    only edges of its own cut it. Labels from 1 are not codes.
    """
    values = arrays[name]
    if f"{name}_names" in arrays or values.dtype == bool:
        return True
    if values.dtype.kind == "f":
        return False
    edges = bins.of(name)
    if name == "y" and name not in bins.named:
        return values.min() == 0 and values.max() < len(values)
    kinds = np.unique(values)
    if len(kinds) > FEW and (name == "age" or name in bins.named):  # years, also where no year is missing
        return False
    return np.array_equal(kinds, np.arange(len(kinds))) and len(set(np.digitize(kinds, edges))) <= 1


def begins_elsewhere(y: np.ndarray) -> bool:
    """Return True if class labels start above 0, such as at 1."""
    return y.dtype.kind in "iu" and y.min() > 0 and y.max() < len(y)


def kinds_as_codes(values: np.ndarray) -> Column:
    """Convert distinct numbers to codes, with the numbers for names."""
    kinds, codes = np.unique(values, return_inverse=True)
    return codes.reshape(-1).astype(np.int32), tuple(map(str, kinds))


def code_names(arrays: Mapping[str, np.ndarray], name: str) -> tuple[str, ...]:
    """Return the names of an array's codes, or the codes themselves."""
    if f"{name}_names" in arrays:
        return tuple(map(str, arrays[f"{name}_names"]))
    return tuple(map(str, range(int(arrays[name].max(initial=0)) + 1)))


def _split(arrays: Mapping[str, np.ndarray], strata: Sequence[np.ndarray]) -> np.ndarray:
    """Read the splits [N], or draw a test split.

    It is a fifth of the examples.
    """
    split, x = split_codes(arrays), arrays["x"]
    if split is not None:
        return split
    return stratified_units(cells_of(strata), copies_of(x), TEST_SHARE).astype(np.uint8)


def split_codes(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Read the splits [N] of the file, or None.

    The codes are 0 train, 1 test and 2 validation.
    """
    split = arrays.get("split")
    if split is not None and split.dtype.kind == "U":
        return read_split(split.tolist(), "split", "data.name")
    return split


def split_notes(arrays: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Warn if splits are numbers.

    Other sets count them in another order; words need no warning.
    """
    split = arrays.get("split", np.zeros(1, int))
    of = np.zeros(3, int) if split.dtype.kind == "U" else np.bincount(split.astype(np.intp), minlength=3)
    if not (of[1] and of[2]):
        return []
    return [
        f"split in {path.name}: 1 is read as test ({of[1]:,} examples) and 2 as validation ({of[2]:,}), the other way "
        "round than in CelebA; write the words train, validation and test to be sure"
    ]


def _check_split(split: np.ndarray, n: int, path: Path) -> None:
    if split.ndim != 1:
        raise UserError(
            f"data.name: split in {path} has shape {split.shape}, not ({n},); give one number for each example"
        )
    if len(split) != n:
        raise UserError(f"data.name: split in {path} has {len(split)} entries for {n} examples; give one for each")
    if split.dtype.kind == "U" and not np.isin(split, ("0", "1", "2")).any():
        read_split(split.tolist(), "split", f"data.name: {path}")
    elif split.dtype.kind not in "iub" or not np.isin(split, (0, 1, 2)).all():
        raise UserError(
            f"data.name: split in {path} holds other values than 0 (train), 1 (test) and 2 (validation); write "
            "these, or the words"
        )
