"""Data sets that can be loaded by name, and their readers."""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxprune.components import SOURCES
from jaxprune.data.raw import RawData
from jaxprune.data.sources.catalogue import (
    CATALOGUE,
    FROM_ARRAYS,
    FROM_TENSORFLOW,
    PLACEHOLDERS,
    CatalogueEntry,
    fit_name,
)
from jaxprune.data.sources.npz import read_npz
from jaxprune.data.sources.people import is_table_file, read_people
from jaxprune.data.sources.split_column import SPLIT_CODES
from jaxprune.data.sources.tfds import data_directory, find_prepared, read_prepared
from jaxprune.data.sources.tfds_integrity import check_shards, in_another_format, read_info
from jaxprune.errors import UserError, unknown
from jaxprune.registry import fill

# Options of files and prepared sets, which are read by path or folder.
NPZ_OPTIONS: Mapping[str, Any] = {"bins": ()}
TABLE_OPTIONS: Mapping[str, Any] = {
    "bins": (), "missing": "category", "split_column": "", "leave_out": (), "groupings": ()
}  # fmt: skip
PREPARED_OPTIONS: Mapping[str, Any] = {"directory": "", "bins": (), "image_size": 0, "stream": False}


def read_source(
    name: str, options: Mapping[str, Any], *, label: str | None = None, group: str | None = None
) -> RawData:
    """Read the raw examples of a data set by name.

    Args:
      name: As for `load`.
      options: Options of the source by name; None means its default.
      label: The column that is predicted; only tables of people need it.
      group: The column or columns that form the groups; likewise.

    Raises:
      UserError: The name is unknown, the set is not prepared, or its source has no such option.
    """
    if name in SOURCES:
        return SOURCES[name](**SOURCES.fill(name, options, section="data"))
    if Path(name).suffix.lower() == ".npz":
        _refuse_options_of_prepared_sets(name, options)
        return read_npz(Path(name), **fill("data", name, NPZ_OPTIONS, options))
    if is_table_file(name):
        chosen = fill("data", name, TABLE_OPTIONS, options)
        return read_people(Path(name), label=label or "", group=group or "", **chosen)
    _refuse_other_files(name)
    chosen = fill("data", name, PREPARED_OPTIONS, options)
    directory = chosen.pop("directory")
    folder = find_prepared(name, directory)
    if folder is not None:
        return read_prepared(folder, **chosen)
    if name in CATALOGUE and name not in PLACEHOLDERS:
        raise _not_prepared(name, directory)
    names = {*SOURCES, *CATALOGUE, *prepared_sets(directory)} - set(PLACEHOLDERS)
    raise _unknown_name(name, names, directory)


def installed_sets() -> dict[str, CatalogueEntry]:
    """Describe the data sets that other packages add, by name."""
    return {
        name: CatalogueEntry("", 0, 0, "", about) for name, about in SOURCES.describe().items() if name not in CATALOGUE
    }


def prepared_sets(directory: str = "") -> dict[str, CatalogueEntry]:
    """Describe the prepared data sets of a folder, by name.

    Args:
      directory: The folder; empty for tensorflow-datasets' own.
    """
    entries = {}
    parent = data_directory(directory)
    for name in sorted(path.name for path in parent.glob("*") if path.is_dir()) if parent.is_dir() else ():
        folder = find_prepared(name, directory)
        if folder is not None and not in_another_format(folder):
            entries[name] = _describe(name, folder)
    return entries


def _describe(name: str, folder: Path) -> CatalogueEntry:
    known = CATALOGUE.get(name)
    try:
        info = read_info(folder)
        check_shards(folder, info, tuple(SPLIT_CODES))
    except UserError:
        return CatalogueEntry("", 0, 0, "", "damaged: prepare it anew")
    examples = sum(
        int(n) for split in info["splits"] for n in split.get("shardLengths", ()) if split["name"] != "extra"
    )
    megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    groups = known.groups if known else fit_list(_feature_paths(info["features"]))
    return CatalogueEntry(known.licence if known else "yours", examples, megabytes, groups, "prepared")


def fit_list(names: Sequence[str], room: int = 26) -> str:
    """Join as many names as fit, with "..." for the others.

    They fit into `room` characters.
    """
    text = ", ".join(names)
    while len(text) > room and len(names) > 1:
        names = names[:-1]
        text = ", ".join([*names, "..."])
    return text


def _feature_paths(features: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Paths of the features that are labels or numbers."""
    paths = []
    for name, feature in features.items():
        if "featuresDict" in feature:
            paths += _feature_paths(feature["featuresDict"]["features"], f"{prefix}{name}/")
        elif ("classLabel" in feature or "Scalar" in feature.get("pythonClassName", "")) and name != "copy_of":
            paths.append(prefix + name)
    return paths


def _not_prepared(name: str, directory: str) -> UserError:
    """Error for a known set that must be prepared first.

    It gives the command that prepares it.
    """
    command = CATALOGUE[name].command.replace("NAME", name)
    where = "where TensorFlow is installed, run once" if CATALOGUE[name].command == FROM_TENSORFLOW else "run"
    return UserError(
        f"data.name: {name} is not prepared in {data_directory(directory)}; {where}: {command}, or copy a prepared "
        "folder there"
    )


def _unknown_name(name: str, names: Iterable[str], directory: str) -> UserError:
    """Error for an unknown data set."""
    message = str(unknown("data set", name, names, where="data.name"))
    message += f"{'' if message.endswith('?') else ';'} none of that name is prepared in {data_directory(directory)}"
    if re.fullmatch(r"[a-z]\w*(/[\w.-]+)?", name):
        command = FROM_TENSORFLOW.replace("NAME", name)
        message += f"; any image set of tensorflow-datasets can be, once, where TensorFlow is installed: {command}"
    return UserError(message)


def _refuse_other_files(name: str) -> None:
    """Raise if a path names a file of another type."""
    if Path(name).suffix.lower() == ".npy":
        raise UserError(
            f"data.name: {name} is one array; save x, y and attributes in one file, with numpy.savez('FILE.npz', x=x, "
            "y=y, race=race)"
        )
    if Path(name).is_file():
        raise UserError(f"data.name: {name} is a file of another type; .npz, .csv, .tsv and .parquet are read")


def _refuse_options_of_prepared_sets(path: str, options: Mapping[str, Any]) -> None:
    """Raise if an npz file is to be streamed or resized.

    Only prepared sets can be.
    """
    for option in ("stream", "image_size"):
        if options.get(option):
            stem = fit_name(Path(path).stem)
            command = FROM_ARRAYS.replace("NAME", stem).replace("FILE.npz", shlex.quote(path))
            raise UserError(
                f"data.{option}: {path} is read as it is, as a whole; prepare its images once, with: {command}, and "
                f"give data.name {stem}; or leave it out"
            )
