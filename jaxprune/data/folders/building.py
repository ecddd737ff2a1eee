"""From a collection of images to a data set on disk: array_record through tensorflow-datasets, without TensorFlow."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.data.folders.collection import Collection, FolderReport
from jaxprune.data.folders.images import Look, examine, stored
from jaxprune.data.prepared import find_prepared
from jaxprune.errors import UserError
from jaxprune.types import Progress

_PRECEDENCE = (
    "test",
    "validation",
    "train",
)  # where copies of one image are in two splits, the first of these keeps them
_NOTHING = ""  # the split of an image that is left out


def build(
    collection: Collection, destination: Path, *, test_share: float = 0.2, progress: Progress | None = None
) -> FolderReport:
    """Builds a data set once; a build that fails or is interrupted leaves nothing that could be taken for it.

    Without a split of its own, the test split is drawn by the digest of each image's bytes, so that copies of one image
    are on one side, and adding images moves none of the others. A split that the collection brings is kept; training
    images that are copies of test images are left out.

    Args:
      collection: The images.
      destination: The folder of prepared data sets.
      test_share: The share of distinct images in a test split that is drawn.
      progress: Told of the work.

    Returns:
      What was found.

    Raises:
      UserError: The set is built already, an image cannot be read, or the images are too few to be split.
    """
    there = find_prepared(collection.name, str(destination))
    if there is not None:
        raise UserError(f"{collection.name} is prepared already, in {there}; delete that folder to build it anew")
    with _work(progress, f"{collection.name}: checking the images", len(collection.paths)) as advance:
        looks = examine(collection.paths, advance)
    digests = [look.digest for look in looks]
    split, crossing = _split(collection, digests, test_share)
    grey = all(look.grey for look in looks)
    kept = [i for i, side in enumerate(split) if side != _NOTHING]
    with _work(progress, f"{collection.name}: writing", len(kept)) as advance:
        _write(collection, looks, split, grey, str(destination), advance)
    return FolderReport(
        used=len(kept),
        malformed=list(collection.malformed),
        repeats=len(kept) - len({digests[i] for i in kept}),
        contradictory=_contradictory(collection, digests),
        crossing=[collection.paths[i].name for i in crossing],
        converted=sum(not (looks[i].plain and looks[i].grey == grey) for i in kept),
        left_out=list(collection.left_out),
    )


@contextlib.contextmanager
def _work(progress: Progress | None, description: str, total: int) -> Iterator[Callable[[], None]]:
    """A piece of work, told to whoever listens."""
    if progress is None:
        yield lambda: None
        return
    progress.start(description, total)
    yield progress.advance
    progress.finish()


def _split(collection: Collection, digests: list[str], test_share: float) -> tuple[list[str], list[int]]:
    """The split of every image, and the indices of those left out as copies of one in another split."""
    if collection.split is None:
        sides = ["test" if int(digest[:8], 16) < test_share * 2**32 else "train" for digest in digests]
        if len(set(sides)) < 2 or len({d for d, side in zip(digests, sides, strict=True) if side == "train"}) < 2:
            raise UserError(
                f"{collection.name}: {len(set(digests))} distinct images are too few to cut a test and a validation "
                "split from; add images, or give the table a column named split"
            )
        return sides, []
    first: dict[str, int] = {}  # the precedence of the split that keeps an image
    for digest, side in zip(digests, collection.split, strict=True):
        first[digest] = min(first.get(digest, len(_PRECEDENCE)), _PRECEDENCE.index(side))
    crossing = [i for i, side in enumerate(collection.split) if _PRECEDENCE.index(side) > first[digests[i]]]
    left_out = set(crossing)
    sides = [_NOTHING if i in left_out else side for i, side in enumerate(collection.split)]
    if "train" not in sides:
        raise UserError(f"{collection.name}: every training image is a copy of one in another split; mend the splits")
    return sides, crossing


def _contradictory(collection: Collection, digests: list[str]) -> list[str]:
    """Names of the images whose copies are labelled otherwise."""
    labels: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    rows = zip(*(attribute.values.tolist() for attribute in collection.attributes.values()), strict=True)
    for digest, row in zip(digests, rows, strict=True):
        labels[digest].add(row)
    return [path.name for path, digest in zip(collection.paths, digests, strict=True) if len(labels[digest]) > 1]


def _write(
    collection: Collection,
    looks: list[Look],
    split: list[str],
    grey: bool,
    destination: str,
    advance: Callable[[], None],
) -> None:
    import tensorflow_datasets as tfds

    first: dict[str, int] = {}
    copy_of = [first.setdefault(look.digest, i) for i, look in enumerate(looks)]
    usable = [
        name for name, found in collection.attributes.items() if found.names or len(np.unique(found.values)) <= 20
    ]
    label = next(iter([*usable, *collection.attributes]))  # numbers of many kinds need bins first

    class Folder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Images of a folder."""

        name = collection.name
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            features = {
                "image": tfds.features.Image(shape=(None, None, 1 if grey else 3)),
                **{
                    attribute: tfds.features.ClassLabel(names=list(found.names))
                    if found.names
                    else tfds.features.Scalar(dtype=found.values.dtype.type)
                    for attribute, found in collection.attributes.items()
                },
                "copy_of": tfds.features.Scalar(dtype=np.int64),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", label),
                description=collection.description,
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            return {side: self._generate_examples(side) for side in _PRECEDENCE[::-1] if side in split}

        def _generate_examples(self, side: str) -> Iterator[tuple[int, dict[str, Any]]]:
            for i, path in enumerate(collection.paths):
                if split[i] == side:
                    values = {name: found.values[i].item() for name, found in collection.attributes.items()}
                    yield i, {"image": stored(path, looks[i], grey), **values, "copy_of": copy_of[i]}
                    advance()

    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # its own announcements
            Folder(data_dir=destination, file_format="array_record").download_and_prepare()
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise UserError(
            f"{collection.name} cannot be built in {destination} ({reason}); give another --data.directory"
        ) from None
