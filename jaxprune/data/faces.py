"""UTKFace from a folder of its published files: the names hold the labels."""

import contextlib
import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.errors import UserError

RACES = ("White", "Black", "Asian", "Indian", "Others")
GENDERS = ("Male", "Female")
# age_gender_race_date.jpg.chip.jpg; what follows the date varies, and a few published names have a slip in it
_NAME = re.compile(r"^(\d{1,3})_([01])_([0-4])_\d+.*\.(jpg|jpeg|png)$", re.IGNORECASE)


@dataclass
class FolderReport:
    """What was found in a folder of images.

    Attributes:
      used: Images that were taken.
      malformed: Names that do not hold the labels; those files were left out.
      repeats: Images whose bytes are those of another one; they are kept, on the same side of the split.
      contradictory: Images that occur with different labels.
    """

    used: int = 0
    malformed: list[str] = field(default_factory=list)
    repeats: int = 0
    contradictory: list[str] = field(default_factory=list)


def scan(directory: Path) -> tuple[list[tuple[Path, str]], FolderReport]:
    """The well-named images of a UTKFace folder with the digests of their bytes, in the order of their names.

    Raises:
      UserError: The folder is missing, or holds no image with labels in its name.
    """
    if not directory.is_dir():
        raise UserError(f"--directory {directory} is not a folder; give the folder of UTKFace's published files")
    report = FolderReport()
    files = []
    labels: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for path in sorted(p for p in directory.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        match = _NAME.match(path.name)
        if match is None:
            report.malformed.append(path.name)
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        report.repeats += digest in labels
        labels[digest].add(match.groups()[:3])
        files.append((path, digest))
    report.used = len(files)
    report.contradictory = [path.name for path, digest in files if len(labels[digest]) > 1]
    if not files:
        raise UserError(
            f"--directory {directory} holds no image named age_gender_race_date.jpg; give the folder of UTKFace's files"
        )
    return files, report


def prepare_utkface(
    directory: Path, destination: Path, *, test_share: float = 0.2, advance: Callable[[int], None] = lambda total: None
) -> FolderReport:
    """Builds UTKFace as array_record, once; a build that is interrupted leaves nothing that could be taken for it.

    The test split is drawn by the digest of each image's bytes, so that copies of one image are on one side.

    Args:
      directory: The folder of the published files.
      destination: The folder of prepared data sets.
      test_share: The share of distinct images in the test split.
      advance: Called with the number of images, before each one.

    Returns:
      What was found.

    Raises:
      UserError: As `scan`; or an image cannot be read.
    """
    files, report = scan(directory)
    first = {digest: i for i, (_, digest) in reversed(list(enumerate(files)))}
    sides: dict[str, list[tuple[int, Path, int]]] = {"train": [], "test": []}
    for i, (path, digest) in enumerate(files):
        side = "test" if int(digest[:8], 16) < test_share * 2**32 else "train"
        sides[side].append((i, path, first[digest]))
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    builder = _builder(sides, lambda: advance(len(files)), str(destination))
    with contextlib.redirect_stdout(io.StringIO()):  # its own announcements
        builder.download_and_prepare()
    return report


def _builder(sides: dict[str, list[tuple[int, Path, int]]], advance: Callable[[], None], destination: str) -> Any:
    import tensorflow_datasets as tfds

    class Utkface(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """UTKFace: faces with perceived age, gender and race."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "race": tfds.features.ClassLabel(names=list(RACES)),
                    "gender": tfds.features.ClassLabel(names=list(GENDERS)),
                    "age": tfds.features.Scalar(dtype=np.int32),
                    "copy_of": tfds.features.Scalar(dtype=np.int32),
                }
            )
            return tfds.core.DatasetInfo(
                builder=self,
                features=features,
                supervised_keys=("image", "race"),
                description="UTKFace (Zhang, Song, Qi, CVPR 2017). Non-commercial research only; labels are perceived.",
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            return {side: self._generate_examples(members) for side, members in sides.items()}

        def _generate_examples(self, members: list[tuple[int, Path, int]]) -> Iterator[tuple[int, dict[str, Any]]]:
            for i, path, copy_of in members:
                advance()
                match = _NAME.match(path.name)
                assert match is not None
                age, gender, race = map(int, match.groups()[:3])
                content = path.read_bytes()
                _check_image(path)
                yield i, {"image": content, "race": race, "gender": gender, "age": age, "copy_of": copy_of}

    return Utkface(data_dir=destination, file_format="array_record")


def _check_image(path: Path) -> None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.load()
            if image.mode != "RGB":
                raise UserError(f"{path} is an image of mode {image.mode}, not of three colours; convert or remove it")
    except OSError as error:
        raise UserError(f"{path} cannot be read as an image ({error}); replace or remove it") from None
