"""Preparation of published sets, and of image sets of your own."""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jaxprune.data.prepare.build import build, refuse_prepared
from jaxprune.data.prepare.collection import FolderReport
from jaxprune.data.prepare.fairface import collect_fairface
from jaxprune.data.prepare.npz import collect_npz
from jaxprune.data.prepare.table import collect_table
from jaxprune.data.prepare.utkface import collect_utkface
from jaxprune.data.sources.catalogue import CATALOGUE, fit_name
from jaxprune.errors import UserError
from jaxprune.progress import Progress

__all__ = ["PUBLISHED", "FolderReport", "prepare_fairface", "prepare_folder", "prepare_npz", "prepare_utkface"]


def prepare_utkface(
    directory: Path, destination: Path, *, test_share: float = 0.2, progress: Progress | None = None
) -> FolderReport:
    """Build UTKFace from its published files, without TensorFlow.

    The set is stored as array_record, once. The test split is a fifth of every race, even over the paper's bins of ages
    and gender; copies of one image are on one side. A build that is interrupted leaves nothing that could be taken for
    the set.

    Args:
      directory: The folder of the published files, whose names hold the labels.
      destination: The folder of prepared data sets.
      test_share: The share of distinct images in the test split.
      progress: Display of the work.

    Returns:
      The report.

    Raises:
      UserError: The set is built already, the folder is missing or holds none of the files, or an image cannot be read.
    """
    return build(collect_utkface(Path(directory)), Path(destination), test_share=test_share, progress=progress)


def prepare_fairface(directory: Path, destination: Path, *, progress: Progress | None = None) -> FolderReport:
    """Build FairFace from its published files, without TensorFlow.

    The set is stored as array_record, once. The published validation part is the test split; training images that are
    copies of one of it are left out. A build that is interrupted leaves nothing that could be taken for the set.

    Args:
      directory: The folder that holds train, val, fairface_label_train.csv and fairface_label_val.csv.
      destination: The folder of prepared data sets.
      progress: Display of the work.

    Returns:
      The report.

    Raises:
      UserError: The set is built already, a file is missing, tables and images do not fit, or an image cannot be read.
    """
    return build(collect_fairface(Path(directory)), Path(destination), progress=progress)


def prepare_folder(
    name: str,
    directory: Path | None,
    table: Path,
    destination: Path,
    *,
    image_column: str | None = None,
    columns: Sequence[str] = (),
    split_column: str | None = None,
    progress: Progress | None = None,
) -> FolderReport:
    """Build a set from a folder of images and a table.

    It is stored as array_record, once, without TensorFlow. Text columns become labels with names, columns of numbers
    stay numbers (`load(..., bins=...)` bins them). The split is that of the table; where it has none, a fifth of each
    category of the usual label, even over the other columns, is the test split. Copies of one image are on one side of
    every split. An interrupted build leaves nothing that could be taken for the set.

    Args:
      name: The name of the set: a letter, then letters, digits and underscores, all lower case.
      directory: The folder of the images (JPEG, PNG, BMP, WebP), which may be in folders in it; None where a Parquet
        table holds them, as bytes or as structs of bytes and a path, as Hugging Face's datasets store them.
      table: A CSV or Parquet file with one row for each image and one image for each row.
      destination: The folder of prepared data sets.
      image_column: The column that names the images: by path from the folder, by file name, or by that without its
        suffix; None for the first there is of file, image, filename, file_name, path, image_id.
      columns: The columns to take, the first that needs no bins being the usual label; empty for all that are fit.
      split_column: The column that says train, validation or test; None for one named split, where there is one.
      progress: Display of the work.

    Returns:
      The report.

    Raises:
      UserError: The name is in use or not valid, the set is built already, or the folder or the table cannot be used.
    """
    _check_name(name)
    refuse_prepared(name, Path(destination))
    with tempfile.TemporaryDirectory() as scratch:
        collection = collect_table(
            name, None if directory is None else Path(directory), Path(table), scratch=Path(scratch),
            image_column=image_column, columns=columns, split_column=split_column,
        )  # fmt: skip
        return build(collection, Path(destination), progress=progress)


def prepare_npz(name: str, path: Path, destination: Path, *, progress: Progress | None = None) -> FolderReport:
    """Build a set from the images of an npz file.

    It is stored as array_record, so that it streams and can be resized. The arrays are those that `load` takes by the
    path of the file: `x` (uint8 images), `y`, attributes, their names and `split`. Codes become labels with names,
    other numbers stay numbers. Without a `split`, the test split is drawn as for a folder of images. Copies of one
    image are on one side of every split.

    Args:
      name: The name of the set: a letter, then letters, digits and underscores, all lower case.
      path: The file.
      destination: The folder of prepared data sets.
      progress: Display of the work.

    Returns:
      The report; images are called by the numbers of their rows.

    Raises:
      UserError: The name is in use or not valid, the set is built already, or the file cannot be used.
    """
    _check_name(name)
    refuse_prepared(name, Path(destination))
    with tempfile.TemporaryDirectory() as scratch:
        return build(collect_npz(name, Path(path), Path(scratch)), Path(destination), progress=progress)


def _check_name(name: str) -> None:
    if name in CATALOGUE:
        raise UserError(f"datasets prepare: {name} is the name of a known data set; call yours otherwise")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(
            f"datasets prepare: {name!r} cannot name a data set; use small letters, digits and _, such as "
            f"{fit_name(name)}"
        )


PUBLISHED: Mapping[str, Callable[..., FolderReport]] = {"utkface": prepare_utkface, "fairface": prepare_fairface}
