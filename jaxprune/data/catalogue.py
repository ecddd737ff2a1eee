"""What is known of every data set before it is read: size, groups, licence, and how to get it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxprune.data.integrity import check_shards, in_another_format, read_info
from jaxprune.data.known import FROM_TENSORFLOW, KNOWN_SETS, KnownSet
from jaxprune.data.prepared import data_directory, find_prepared
from jaxprune.data.split_column import SPLIT_CODES
from jaxprune.errors import UserError, unknown


def not_prepared(name: str, directory: str) -> UserError:
    """The error for a known set that is not where it was looked for: it says how to prepare the set."""
    command = KNOWN_SETS[name].command.replace("NAME", name)
    where = "where TensorFlow is installed, run once" if KNOWN_SETS[name].command == FROM_TENSORFLOW else "run"
    return UserError(
        f"data.name: {name} is not prepared in {data_directory(directory)}; {where}: {command}, or copy a prepared "
        "folder there"
    )


def not_known(name: str, others: Iterable[str], directory: str) -> UserError:
    """The error for a name that is none of the others: where it was looked for, and that more sets can be prepared."""
    message = str(unknown("data set", name, others, where="data.name"))
    message += f"{'' if message.endswith('?') else ';'} none of that name is prepared in {data_directory(directory)}"
    if re.fullmatch(r"[a-z]\w*(/[\w.-]+)?", name):
        command = FROM_TENSORFLOW.replace("NAME", name)
        message += f"; any image set of tensorflow-datasets can be, once, where TensorFlow is installed: {command}"
    return UserError(message)


def prepared_sets(directory: str = "") -> dict[str, KnownSet]:
    """Name -> data set, those that are prepared in a folder, with what their own files say.

    Args:
      directory: The folder; empty for tensorflow-datasets' own.
    """
    found = {}
    folders = data_directory(directory)
    for name in sorted(path.name for path in folders.glob("*") if path.is_dir()) if folders.is_dir() else ():
        folder = find_prepared(name, directory)
        if folder is not None and not in_another_format(folder):
            found[name] = _described(name, folder)
    return found


def _described(name: str, folder: Path) -> KnownSet:
    known = KNOWN_SETS.get(name)
    try:
        info = read_info(folder)
        check_shards(folder, info, tuple(SPLIT_CODES))
    except UserError:
        return KnownSet("", 0, 0, "", "damaged: prepare it anew")
    examples = sum(
        int(n) for split in info["splits"] for n in split.get("shardLengths", ()) if split["name"] != "extra"
    )
    megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    groups = known.groups if known else _some(_attributes(info["features"]))
    return KnownSet(known.licence if known else "yours", examples, megabytes, groups, "prepared")


def _some(names: Sequence[str], room: int = 26) -> str:
    """The names, or as many as there is room for."""
    text = ", ".join(names)
    while len(text) > room and len(names) > 1:
        names = names[:-1]
        text = ", ".join([*names, "..."])
    return text


def _attributes(features: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Paths of the features that are labels or numbers."""
    found = []
    for name, feature in features.items():
        if "featuresDict" in feature:
            found += _attributes(feature["featuresDict"]["features"], f"{prefix}{name}/")
        elif ("classLabel" in feature or "Scalar" in feature.get("pythonClassName", "")) and name != "copy_of":
            found.append(prefix + name)
    return found
