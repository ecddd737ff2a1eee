"""Data sets that tensorflow-datasets has prepared, read without TensorFlow."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.data.columns import AGE, Bins, BinsLike, not_finite, number_column, read_bins
from jaxprune.data.raw import Column, RawData
from jaxprune.data.sources.split_column import SPLIT_CODES
from jaxprune.data.sources.tfds_integrity import FEATURES, INFO, check_shards, damaged, in_another_format, read_info
from jaxprune.data.sources.tfds_records import Records, read_all
from jaxprune.errors import UserError

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_NO_SETS = ("", "downloads")  # names of folders beside the sets


def data_directory(directory: str = "") -> Path:
    """Return the folder of prepared data sets.

    It is the one given, or tensorflow-datasets' own.
    """
    try:
        return Path(directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    except RuntimeError:  # there is no home directory
        return Path(directory or "tensorflow_datasets")


def find_prepared(name: str, directory: str = "") -> Path | None:
    """Find the newest prepared version of a data set, or None.

    It is a folder such as `.../cifar10/3.0.2`. Looked for as NAME/VERSION and NAME/CONFIG/VERSION, and nowhere deeper:
    downloads may hold a million files.
    """
    inside = _folders(data_directory(directory) / name) if name not in _NO_SETS else []
    versions = [folder for folder in inside if _VERSION.fullmatch(folder.name)]
    for folder in inside:
        if folder not in versions and folder.name not in _NO_SETS:
            versions += [version for version in _folders(folder) if _VERSION.fullmatch(version.name)]
    described = [folder for folder in versions if (folder / INFO).is_file()]
    # Without any description: a half-copied set, which is reported as damaged later.
    versions = described or [folder for folder in versions if any(folder.glob("*.array_record-*"))]
    # 10.0.0 is newer than 9.0.0, but comes before it by the alphabet.
    return max(versions, key=lambda folder: ([int(n) for n in re.findall(r"\d+", folder.name)], folder), default=None)


def _folders(where: Path) -> list[Path]:
    return [path for path in where.iterdir() if path.is_dir()] if where.is_dir() else []


def read_prepared(folder: Path, *, bins: BinsLike = (), image_size: int = 0, stream: bool = False) -> RawData:
    """Read a prepared data set, its images into memory or not.

    Labels and attributes are named by their feature path (`attributes/Male`). Class labels, truth values and whole
    few distinct numbers are taken as they are; other numbers are binned.

    Args:
      folder: The folder of a version, holding `dataset_info.json` and array_record files.
      bins: Edges of the bins of numeric attributes, as for `read_bins`; empty for the paper's nine age bins (of a
        feature named age).
      image_size: Pixels a side to resize images to; 0 leaves them as they are, and they must then be of one size.
      stream: Leave the images on disk; each is decoded once now, for its moments, and again whenever it is used.

    Raises:
      UserError: The set is stored in another format, is damaged, has no image, or its images differ in size.
    """
    edges = read_bins(bins)
    import tensorflow_datasets as tfds

    logging.getLogger("absl").setLevel(logging.ERROR)  # it recommends OpenCV, with every data set
    if in_another_format(folder):
        raise UserError(
            f"data.name: {folder} is not stored as array_record; prepare it again with "
            f'tfds.builder("{folder.parent.name}", file_format="array_record").download_and_prepare()'
        )
    check_shards(folder, read_info(folder), tuple(SPLIT_CODES))
    builder = _builder(folder)
    # Sorted: features.json is a map of protobuf, whose order differs from process to process.
    features = dict(sorted(_flatten(builder.info.features)))
    images = [path for path, feature in features.items() if isinstance(feature, tfds.features.Image)]
    if not images:
        raise UserError(f"data.name: {folder} has no image among its features: {', '.join(features)}")
    names = [name for name in SPLIT_CODES if name in builder.info.splits]
    records = Records(builder, names, images[0], image_size)
    if not len(records):
        raise UserError(f"data.name: {folder} holds no examples; prepare it again")
    single = [path for path in features if path not in images and getattr(features[path], "shape", None) == ()]
    x, values = read_all(records, single, stream=stream)
    unit = values.pop("copy_of", None)
    columns, unused = _columns(features, values, edges)
    usual = str((builder.info.supervised_keys or ("", ""))[1])
    if usual in columns:  # what the set is usually used for comes first, and so is the default
        columns = {usual: columns.pop(usual), **columns}
    return RawData(
        x=x,
        labels=columns,
        attributes=columns,
        stratify=_strata(features, columns, values),
        split=np.repeat(np.array([SPLIT_CODES[name] for name in names], np.uint8), records.count),
        standardise=None,
        provenance=f"{builder.info.full_name}, prepared in {folder}. {builder.info.description or ''}".strip(),
        unit=unit,
        unused=unused,
    )


def _builder(folder: Path) -> Any:
    """Build a tensorflow-datasets builder from a folder described in JSON."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(str(folder))
    except (ValueError, KeyError, AttributeError, ImportError, TypeError):
        raise damaged(folder / FEATURES, "does not describe features of tensorflow-datasets") from None


def _flatten(features: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested features with their paths."""
    for name, value in features.items():
        if hasattr(value, "items"):
            yield from _flatten(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _columns(
    features: Mapping[str, Any], values: Mapping[str, np.ndarray], bins: Bins
) -> tuple[dict[str, Column], dict[str, str]]:
    """Convert labels and attributes; give reasons against other values."""
    columns, unused = {}, {}
    named = {path: tuple(getattr(features[path], "names", None) or ()) for path in values}
    bins.check_names([path for path in values if _is_number(features[path], values[path])], named)
    for path, array in values.items():
        column = _column(path, features[path], array, bins)
        if isinstance(column, str):
            unused[path] = column
        else:
            columns[path] = column
    return columns, unused


def _strata(
    features: Mapping[str, Any], columns: Mapping[str, Column], values: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, ...]:
    """Collect the codes [N] that stratify the splits.

    They are those of named columns, and ages by the paper's bins: `data.bins` must not move the splits.
    """
    named = [codes for path, (codes, _) in columns.items() if getattr(features[path], "names", None)]
    if AGE in values and _is_number(features[AGE], values[AGE]) and not not_finite(values[AGE]):
        ages = number_column(AGE, values[AGE], ())
        named += [] if isinstance(ages, str) else [ages[0]]
    return tuple(named)


def _column(path: str, feature: Any, values: np.ndarray, bins: Bins) -> Column | str:
    """Convert a feature to codes, or return the reason against it."""
    names = getattr(feature, "names", None)
    if names:
        return values.astype(np.int32), tuple(names)
    if values.dtype == bool:
        return values.astype(np.int32), (f"not {path}", path)
    if not _is_number(feature, values):
        return "holds neither numbers nor named categories; take another feature"
    if bad := not_finite(values):
        return f"{bad}; prepare the set again with a number for each example, or take another feature"
    return number_column(path, values, bins.of(path))


def _is_number(feature: Any, values: np.ndarray) -> bool:
    return not getattr(feature, "names", None) and values.dtype.kind in "iuf"
