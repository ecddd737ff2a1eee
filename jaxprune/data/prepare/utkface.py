"""UTKFace from its published files, whose names hold the labels."""

import re
from pathlib import Path

import numpy as np

from jaxprune.data.prepare.collection import Attribute, Collection
from jaxprune.data.prepare.images import find_images
from jaxprune.errors import UserError

RACES = ("White", "Black", "Asian", "Indian", "Others")
GENDERS = ("Male", "Female")
# age_gender_race_date.jpg.chip.jpg; what follows the date varies, and a few published names have a slip in it
_NAME = re.compile(r"^(\d{1,3})_([01])_([0-4])_\d+.*\.(jpg|jpeg|png)$", re.IGNORECASE)


def collect_utkface(directory: Path) -> Collection:
    """Collect the well-named images of a UTKFace folder.

    The labels are in their names.

    Raises:
      UserError: The folder is missing, or holds no image with labels in its name.
    """
    paths = find_images(directory, "of UTKFace's published files")
    matches = [_NAME.match(path.name) for path in paths]
    labels = np.array([list(map(int, match.groups()[:3])) for match in matches if match is not None], np.int64)
    if not len(labels):
        raise UserError(
            f"--directory {directory} holds no image named age_gender_race_date.jpg; give the folder of UTKFace's files"
        )
    return Collection(
        name="utkface",
        directory=directory,
        paths=[path for path, match in zip(paths, matches, strict=True) if match is not None],
        attributes={
            "race": Attribute(labels[:, 2], RACES),
            "age": Attribute(labels[:, 0]),
            "gender": Attribute(labels[:, 1], GENDERS),
        },
        split=None,
        description="UTKFace (Zhang, Song, Qi, CVPR 2017). Non-commercial research only; labels are perceived.",
        malformed={
            path: "its name is not age_gender_race_date"
            for path, match in zip(paths, matches, strict=True)
            if match is None
        },
    )
