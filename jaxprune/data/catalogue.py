"""What is known of every data set before it is read: size, groups, licence, and how to get it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxprune.data.prepared import data_directory, find_prepared
from jaxprune.errors import UserError

FROM_FILES = "jaxprune datasets prepare NAME --directory FOLDER"
FROM_TABLE = "jaxprune datasets prepare NAME --directory FOLDER --table TABLE.csv"
FROM_TENSORFLOW = (
    'python -c "import tensorflow_datasets as t; '
    "t.builder('NAME', file_format='array_record').download_and_prepare()\""
)


@dataclass(frozen=True)
class KnownSet:
    """A data set and how to get it.

    Attributes:
      licence: Its licence.
      examples: How many it has (of those that are read); 0 where it depends.
      megabytes: The size of its files as they are published, in units of 10^6 bytes; 0 where it depends.
      groups: What may form groups.
      how: How to get it, in few words.
      command: The command that prepares it, with NAME for its name; empty where none is needed.
    """

    licence: str
    examples: int
    megabytes: float
    groups: str
    how: str
    command: str = ""


def _by_files(licence: str, examples: int, megabytes: float) -> KnownSet:
    return KnownSet(licence, examples, megabytes, "race, gender, age", "prepare its files (1)", FROM_FILES)


def _by_tensorflow(licence: str, examples: int, megabytes: float, groups: str) -> KnownSet:
    return KnownSet(licence, examples, megabytes, groups, "TensorFlow, once (3)", FROM_TENSORFLOW)


# Examples and bytes of the published files are those that tensorflow-datasets 4.9.10 states; without the "extra" part
# of SVHN, which is downloaded and not read.
KNOWN_SETS: Mapping[str, KnownSet] = {
    "adult": KnownSet("CC BY 4.0", 48_842, 0.5, "race, sex, education, ...", "in the package"),
    "digits": KnownSet("CC BY 4.0", 1_797, 0.05, "digit", "in the package"),
    "synthetic": KnownSet("none needed", 17_600, 0, "cell: size, margin, noise", "made when asked for"),
    "FILE.npz": KnownSet("yours", 0, 0, "any array in it", "numpy.savez (4)"),
    "folder": KnownSet("yours", 0, 0, "any column of a table", "prepare with a table (2)", FROM_TABLE),
    "utkface": _by_files("research only", 23_704, 107),
    "fairface": _by_files("CC BY 4.0", 97_698, 563),
    "celeb_a": _by_tensorflow("research only", 202_599, 1_489, "attributes/Male, 39 more"),
    "cifar10": _by_tensorflow("none given", 60_000, 170, "label: 10 classes"),
    "cifar100": _by_tensorflow("none given", 60_000, 169, "label, coarse_label"),
    "svhn_cropped": _by_tensorflow("non-commercial", 99_289, 1_576, "label: 10 digits"),
    "mnist": _by_tensorflow("CC BY-SA 3.0", 70_000, 12, "label: 10 digits"),
    "fashion_mnist": _by_tensorflow("MIT", 70_000, 31, "label: 10 kinds"),
}
PLACEHOLDERS = ("FILE.npz", "folder")  # that stand for sets of your own


def not_prepared(name: str, directory: str) -> UserError:
    """The error for a known set that is not where it was looked for: it says how to prepare the set."""
    command = KNOWN_SETS[name].command.replace("NAME", name)
    where = "where TensorFlow is installed, run once" if KNOWN_SETS[name].command == FROM_TENSORFLOW else "run"
    return UserError(
        f"data.name: {name} is not prepared in {data_directory(directory)}; {where}: {command}, or copy a prepared "
        "folder there"
    )


def prepared_sets(directory: str = "") -> dict[str, KnownSet]:
    """Name -> data set, those that are prepared in a folder, with what their own files say.

    Args:
      directory: The folder; empty for tensorflow-datasets' own.
    """
    found = {}
    folders = data_directory(directory)
    for name in sorted(path.name for path in folders.glob("*") if path.is_dir()) if folders.is_dir() else ():
        folder = find_prepared(name, directory)
        if folder is not None and any(folder.glob("*.array_record-*")):
            found[name] = _described(name, folder)
    return found


def _described(name: str, folder: Path) -> KnownSet:
    known = KNOWN_SETS.get(name)
    try:
        splits = json.loads((folder / "dataset_info.json").read_bytes())["splits"]
        features = json.loads((folder / "features.json").read_bytes())["featuresDict"]["features"]
        examples = sum(int(n) for split in splits for n in split["shardLengths"] if split["name"] != "extra")
    except (OSError, ValueError, KeyError, TypeError):
        return KnownSet("", 0, 0, "", "damaged: prepare it anew")
    megabytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    groups = known.groups if known else _some(_attributes(features))
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
