"""FairFace from its published files.

They are two folders of images and two tables of labels.
"""

from pathlib import Path

import numpy as np

from jaxprune.data.prepare.collection import Attribute, Collection
from jaxprune.data.prepare.images import find_images
from jaxprune.data.prepare.match import match_rows
from jaxprune.data.sources.table_files import read_columns
from jaxprune.errors import UserError, unknown

_NAMES = {
    "race": ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"),
    "gender": ("Male", "Female"),
    "age": ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"),
    "service_test": ("False", "True"),
}
_TABLES = {"fairface_label_train.csv": "train", "fairface_label_val.csv": "test"}


def collect_fairface(directory: Path) -> Collection:
    """Collect the images of a FairFace folder with their labels.

    The published validation part is the test split.

    Raises:
      UserError: The folder is missing or is not that of FairFace, or a table and the images do not fit each other.
    """
    files = find_images(directory, "that holds FairFace's train, val and label files")
    cells: dict[str, list[str]] = {"file": [], **{name: [] for name in _NAMES}}
    split: list[str] = []
    for table, side in _TABLES.items():
        path = directory / table
        if not path.is_file():
            raise UserError(
                f"--directory {directory} has no {table}; give the folder of FairFace's train, val and tables"
            )
        columns = read_columns(path, f"--table {path}")
        for name, collected in cells.items():
            if name not in columns:
                raise unknown("column", name, columns, where=str(path))
            collected += map(str, columns[name])
        split += [side] * len(columns["file"])
    return Collection(
        name="fairface",
        directory=directory,
        paths=match_rows(cells["file"], files, directory, "fairface_label_train.csv and fairface_label_val.csv"),
        attributes={name: Attribute(_codes(name, cells[name], names), names) for name, names in _NAMES.items()},
        split=split,
        description="FairFace (Karkkainen, Joo, WACV 2021). CC BY 4.0; labels are perceived.",
    )


def _codes(name: str, cells: list[str], names: tuple[str, ...]) -> np.ndarray:
    strange = next((cell for cell in cells if cell not in names), None)
    if strange is not None:
        raise UserError(
            f"fairface: {name} {strange!r} is not one of {', '.join(names)}; give the tables as they were published"
        )
    return np.array([names.index(cell) for cell in cells], np.int64)
