"""Checks that the files of a prepared set are complete."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxprune.data.sources.catalogue import CATALOGUE, FROM_ARRAYS, FROM_TABLE, FROM_TENSORFLOW
from jaxprune.errors import UserError

INFO, FEATURES = "dataset_info.json", "features.json"
_ARRAY_RECORD = "array_record"
_TEMPLATE = (
    "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"  # of the names of shards, where the set does not say its own
)
_SHARD = re.compile(r"\.\w+-\d{5}-of-\d{5}$")


def damaged(file: Path, reason: str) -> UserError:
    """Error for a missing or damaged file of a prepared set.

    It says how to get the file again.

    Args:
      file: The file, in the folder of a version.
      reason: The fault.
    """
    return UserError(
        f"data.name: damaged or half copied: {file} {reason}; copy the folder anew, or delete "
        f"{file.parent} and {_how_to_prepare(file.parent)}"
    )


def in_another_format(folder: Path) -> bool:
    """Return True if a set is not stored as array_record.

    Its shards decide, and its description where it has none.
    """
    shards = [path.name for path in folder.iterdir() if _SHARD.search(path.name)]
    if any(f".{_ARRAY_RECORD}-" in name for name in shards):
        return False
    stored_as = _description(folder).get("fileFormat")
    return bool(shards) or stored_as not in (None, _ARRAY_RECORD)


def read_info(folder: Path) -> dict[str, Any]:
    """Read the description of a set.

    It is `dataset_info.json`, with the features of `features.json` under "features".

    Raises:
      UserError: One of the two is missing or damaged, or the names of a label are missing.
    """
    info, features = _read(folder / INFO), _read(folder / FEATURES)
    for file, fit in (
        (INFO, isinstance(info.get("splits"), list) and all(isinstance(info.get(n), str) for n in ("name", "version"))),
        (FEATURES, isinstance(_nested(features, "featuresDict", "features"), dict)),
    ):
        if not fit:
            raise damaged(folder / file, "does not describe a data set")
    for path, feature in features["featuresDict"]["features"].items():
        names = folder / f"{path}.labels.txt"  # which every label of ours has; other sets may have labels without names
        if _is_ours(folder) and _nested(feature, "classLabel") is not None and not names.is_file():
            raise damaged(names, "is missing")
    return {**info, "features": features["featuresDict"]["features"]}


def check_shards(folder: Path, info: Mapping[str, Any], splits: Sequence[str]) -> None:
    """Check that the shards of some splits are complete.

    They must be there, and hold as many records as the set says. The records themselves are not read: each carries a
    digest, which is checked when it is read.

    Args:
      folder: The folder of a version.
      info: As of `read_info`.
      splits: The splits; one that the set does not have is passed over.

    Raises:
      UserError: A shard is missing or damaged.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    for file, length in _shards(folder, info, splits):
        if not file.is_file():
            raise damaged(file, "is missing")
        try:
            reader = ArrayRecordReader(str(file))
            count = reader.num_records()
            reader.close()
        except RuntimeError:
            raise damaged(file, "is not a complete array_record file") from None
        if count != length:
            raise damaged(file, f"holds {count:,} examples, not the {length:,} of {INFO}")


def _shards(folder: Path, info: Mapping[str, Any], splits: Sequence[str]) -> Iterator[tuple[Path, int]]:
    """Yield each shard of a set with its number of records.

    Shards without records are left out: they need not be there.
    """
    for split in info["splits"]:
        if _nested(split, "name") not in splits:
            continue
        try:
            lengths = [int(n) for n in split.get("shardLengths", ())]
            for i, length in enumerate(lengths):
                place = f"{i:05}-of-{len(lengths):05}"
                file = (split.get("filepathTemplate") or _TEMPLATE).format(
                    DATASET=info["name"], SPLIT=split["name"], FILEFORMAT=_ARRAY_RECORD, SHARD_X_OF_Y=place,
                    SHARD_INDEX=f"{i:05}", NUM_SHARDS=f"{len(lengths):05}",
                )  # fmt: skip
                if length:
                    yield folder / file, length
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            raise damaged(folder / INFO, f"does not describe the {split['name']} split") from None


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise damaged(file, "is missing") from None
    except (OSError, ValueError) as error:
        raise damaged(file, f"cannot be read as JSON ({type(error).__name__})") from None
    if not isinstance(content, dict):
        raise damaged(file, "does not describe a data set")
    return content


def _nested(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _description(folder: Path) -> dict[str, Any]:
    """Read `dataset_info.json`; empty if it cannot be read."""
    try:
        content = json.loads((folder / INFO).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _how_to_prepare(folder: Path) -> str:
    """Describe how to prepare a set again, from its files."""
    info = _description(folder)
    name, config = str(info.get("name", folder.parent.name)), str(info.get("configName", ""))
    ours = FROM_ARRAYS if ".npz, SHA-256" in str(info.get("description")) else FROM_TABLE
    command = CATALOGUE[name].command if name in CATALOGUE else ours if _is_ours(folder) else FROM_TENSORFLOW
    if command == FROM_TENSORFLOW:
        return f"run, where TensorFlow is installed: {command.replace('NAME', f'{name}/{config}'.strip('/'))}"
    return f"prepare it anew with: {command.replace('NAME', name)}"


def _is_ours(folder: Path) -> bool:
    """Return True if jaxprune built the set."""
    marks = ((INFO, b'"jaxprune.data'), (FEATURES, b'"copy_of"'))
    return any((folder / file).is_file() and mark in (folder / file).read_bytes() for file, mark in marks)
