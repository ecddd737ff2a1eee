"""The registry of data sets: those that can be read by name, and those that must be prepared first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxprune.data.arrays import read_npz
from jaxprune.data.bundled import adult, digits
from jaxprune.data.prepared import data_directory, find_prepared, read_prepared
from jaxprune.data.synthetic import synthetic
from jaxprune.data.table import Table
from jaxprune.errors import UserError, unknown
from jaxprune.options import fill


@dataclass(frozen=True)
class Source:
    """A data set that can be loaded by name.

    Attributes:
      read: Yields the raw examples, given the options.
      summary: One line for the list of data sets.
      licence: Its licence.
      options: What can be chosen, with the defaults.
    """

    read: Callable[..., Table]
    summary: str
    licence: str
    options: Mapping[str, Any] = field(default_factory=dict)


SOURCES = {
    "adult": Source(adult, "census income of 48,842 people; groups race, sex, race*sex, ...", "CC BY 4.0"),
    "synthetic": Source(
        synthetic,
        "made data: group size, difficulty and label noise set independently",
        "none needed",
        {"sizes": (8000, 800), "margins": (2.0, 1.0), "noise": (0.0,)},
    ),
    "digits": Source(digits, "1,797 handwritten digits, 8x8; groups are the classes", "CC BY 4.0"),
}


PREPARED_OPTIONS: Mapping[str, Any] = {"directory": "", "bins": (), "image_size": 0, "stream": False}


@dataclass(frozen=True)
class KnownSet:
    """A data set that is not bundled, and how to get it."""

    summary: str
    licence: str
    how: str


def _with_tensorflow(name: str) -> str:
    return (
        f'prepare it once where TensorFlow is installed: python -c "import tensorflow_datasets as t; '
        f"t.builder('{name}', file_format='array_record').download_and_prepare()\""
    )


KNOWN_SETS = {
    "utkface": KnownSet(
        "23,704 faces; race, gender, age (nine bins)",
        "research only",
        "run: jaxprune datasets prepare utkface --directory FOLDER_OF_ITS_FILES",
    ),
    **{
        name: KnownSet(f"{summary} (tensorflow-datasets)", licence, _with_tensorflow(name))
        for name, summary, licence in (
            ("cifar10", "60,000 images, 10 classes", "none given"),
            ("cifar100", "60,000 images, 100 classes", "none given"),
            ("svhn_cropped", "600,000 house numbers, 10 classes", "non-commercial"),
            ("mnist", "70,000 digits, 10 classes", "CC BY-SA 3.0"),
            ("fashion_mnist", "70,000 articles of clothing, 10 classes", "MIT"),
            ("celeb_a", "202,599 faces, 40 attributes", "research only"),
        )
    },
}


def read_table(name: str, options: Mapping[str, Any]) -> Table:
    """The raw examples of a data set by name, with the options of its source.

    Raises:
      UserError: The name is not known, the set is not prepared, or its source has no such option.
    """
    if name in SOURCES:
        return SOURCES[name].read(**fill("data", name, SOURCES[name].options, options))
    if name.endswith(".npz"):
        fill("data", name, {}, options)
        return read_npz(Path(name))
    chosen = fill("data", name, PREPARED_OPTIONS, options)
    folder = find_prepared(name, chosen["directory"])
    if folder is not None:
        return read_prepared(folder, **{option: chosen[option] for option in ("bins", "image_size", "stream")})
    if name in KNOWN_SETS:
        raise UserError(
            f"data.name: {name} is not prepared in {data_directory(chosen['directory'])}; "
            f"{KNOWN_SETS[name].how}, or copy a prepared folder there"
        )
    raise unknown("data set", name, [*SOURCES, *KNOWN_SETS], where="data.name")
