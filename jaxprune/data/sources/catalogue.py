"""Descriptions of the known data sets, with commands to prepare them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

FROM_FILES = "jaxprune datasets prepare NAME --directory FOLDER"
FROM_TABLE = "jaxprune datasets prepare NAME --directory FOLDER --table TABLE.csv"
FROM_ARRAYS = "jaxprune datasets prepare NAME --npz FILE.npz"
FROM_TENSORFLOW = (
    'python -c "import tensorflow_datasets as t; '
    "t.builder('NAME', file_format='array_record').download_and_prepare()\""
)


@dataclass(frozen=True)
class CatalogueEntry:
    """Description of a data set.

    Attributes:
      licence: Its licence.
      examples: How many it has (of those that are read); 0 where it depends.
      megabytes: The size of its files as they are published, in units of 10^6 bytes; 0 where it depends.
      groups: Attributes that may form groups.
      how: How to get it, in few words.
      command: The command that prepares it, with NAME for its name; empty if it needs none.
    """

    licence: str
    examples: int
    megabytes: float
    groups: str
    how: str
    command: str = ""


def _by_files(licence: str, examples: int, megabytes: float) -> CatalogueEntry:
    return CatalogueEntry(licence, examples, megabytes, "race, gender, age", "prepare its files (1)", FROM_FILES)


def _by_tensorflow(licence: str, examples: int, megabytes: float, groups: str) -> CatalogueEntry:
    return CatalogueEntry(licence, examples, megabytes, groups, "TensorFlow, once (3)", FROM_TENSORFLOW)


# Examples and bytes of the published files are those that tensorflow-datasets 4.9.10 states; without the "extra" part
# of SVHN, which is downloaded and not read.
CATALOGUE: Mapping[str, CatalogueEntry] = {
    "adult": CatalogueEntry("CC BY 4.0", 48_842, 0.5, "race, sex, education, ...", "in the package"),
    "digits": CatalogueEntry("CC BY 4.0", 1_797, 0.05, "digit", "in the package"),
    "synthetic": CatalogueEntry("none needed", 17_600, 0, "cell: size, margin, noise", "made when asked for"),
    "FILE.csv": CatalogueEntry("yours", 0, 0, "any column", "a row for each person (4)"),
    "FILE.npz": CatalogueEntry("yours", 0, 0, "any array in it", "numpy.savez (5)"),
    "folder": CatalogueEntry("yours", 0, 0, "any column of a table", "prepare with a table (2)", FROM_TABLE),
    "utkface": _by_files("research only", 23_704, 107),
    "fairface": _by_files("CC BY 4.0", 97_698, 563),
    "celeb_a": _by_tensorflow("research only", 202_599, 1_489, "attributes/Male, 39 more"),
    "cifar10": _by_tensorflow("none given", 60_000, 170, "label: 10 classes"),
    "cifar100": _by_tensorflow("none given", 60_000, 169, "label, coarse_label"),
    "svhn_cropped": _by_tensorflow("non-commercial", 99_289, 1_576, "label: 10 digits"),
    "mnist": _by_tensorflow("CC BY-SA 3.0", 70_000, 12, "label: 10 digits"),
    "fashion_mnist": _by_tensorflow("MIT", 70_000, 31, "label: 10 classes"),
}
PLACEHOLDERS = ("FILE.csv", "FILE.npz", "folder")  # that stand for sets of your own


def fit_name(name: str) -> str:
    """Turn a name into one that a set may have."""
    fit = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").lstrip("0123456789_") or "faces"
    return f"my_{fit}" if fit in CATALOGUE else fit
