"""Building of data sets on disk, as array_record without TensorFlow."""

import contextlib
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.data.prepare.collection import Collection, FolderReport
from jaxprune.data.prepare.images import Look, examine, stored
from jaxprune.data.prepare.split import draw_test_split
from jaxprune.data.sources.split_column import SPLIT_CODES
from jaxprune.data.sources.tfds import find_prepared
from jaxprune.data.splitting import crossing
from jaxprune.errors import UserError
from jaxprune.files import write_atomically
from jaxprune.progress import Progress

# To be raised whenever the same images would be split otherwise: 1.0.0 drew test splits by digest alone.
BUILD_VERSION = "2.0.0"
LEFT_OUT = "left_out.txt"  # beside a built set: the images that are not in it
_NOTHING = ""  # the split of an image that is left out


def build(
    collection: Collection, destination: Path, *, test_share: float = 0.2, progress: Progress | None = None
) -> FolderReport:
    """Build a data set once.

    A build that fails or is interrupted leaves nothing that could be taken for the set. Without a split of its own, the
    test split is drawn evenly from every label and attribute by the digests of the images' bytes, so that copies of one
    image are on one side. A split that the collection brings is kept; training images that are copies of test images
    are left out.

    Args:
      collection: The images.
      destination: The folder of prepared data sets.
      test_share: The share of distinct images in a test split that is drawn.
      progress: Display of the work.

    Returns:
      The report.

    Raises:
      UserError: The set is built already, an image cannot be read, or the images are too few to be split.
    """
    refuse_prepared(collection.name, destination)
    with _work(progress, f"{collection.name}: checking the images", len(collection.paths)) as advance:
        looks = examine(collection.paths, advance)
    digests = [look.digest for look in looks]
    if collection.split is None:
        split, copies = draw_test_split(collection, digests, test_share), {}
    else:
        codes = np.array([SPLIT_CODES[side] for side in collection.split])
        first = crossing(codes, np.unique(digests, return_inverse=True)[1])
        copies = {i: int(first[i]) for i in np.flatnonzero(first >= 0).tolist()}
        split = [_NOTHING if i in copies else side for i, side in enumerate(collection.split)]
        if "train" not in split:
            raise UserError(
                f"{collection.name}: every training image is a copy of one in another split; correct the splits"
            )
    grey = all(look.grey for look in looks)
    kept = [i for i, side in enumerate(split) if side != _NOTHING]
    left_out = _left_out(collection, copies)
    with _work(progress, f"{collection.name}: writing", len(kept)) as advance:
        folder = _write(collection, looks, split, grey, left_out, str(destination), advance)
    return FolderReport(
        used=len(kept),
        malformed=[path.name for path in collection.malformed],
        repeats=len(kept) - len({digests[i] for i in kept}),
        contradictory=_contradictory(collection, digests),
        crossing=[collection.paths[i].name for i in copies],
        converted=sum(not (looks[i].plain and looks[i].grey == grey) for i in kept),
        left_out=list(collection.left_out),
        listed=folder / LEFT_OUT if left_out else None,
        warnings=list(collection.warnings),
    )


def refuse_prepared(name: str, destination: Path) -> None:
    """Raise if a set is built already."""
    there = find_prepared(name, str(destination))
    if there is not None:
        other = "" if there.name == BUILD_VERSION else f" with other splits than version {BUILD_VERSION} has"
        raise UserError(f"{name} is prepared already{other}, in {there}; delete that folder to build it anew")


@contextlib.contextmanager
def _work(progress: Progress | None, description: str, total: int) -> Iterator[Callable[[], None]]:
    """Report a piece of work to the progress display."""
    if progress is None:
        yield lambda: None
        return
    progress.start(description, total)
    yield progress.advance
    progress.finish()


def _left_out(collection: Collection, copies: Mapping[int, int]) -> list[str]:
    """Describe each image that is left out: its path, and why."""
    paths, split = collection.paths, collection.split or ()

    def place(path: Path) -> str:
        return " ".join(path.relative_to(collection.directory).as_posix().splitlines())

    return [f"{place(path)}: {reason}" for path, reason in collection.malformed.items()] + [
        f"{place(paths[i])}: a copy of {place(paths[first])} in the {split[first]} split" for i, first in copies.items()
    ]


def _contradictory(collection: Collection, digests: list[str]) -> list[str]:
    """Name the images whose copies have other labels."""
    labels: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    rows = zip(*(attribute.values.tolist() for attribute in collection.attributes.values()), strict=True)
    for digest, row in zip(digests, rows, strict=True):
        labels[digest].add(row)
    return [path.name for path, digest in zip(collection.paths, digests, strict=True) if len(labels[digest]) > 1]


def _features(collection: Collection, grey: bool) -> Any:
    """Describe the features that tensorflow-datasets stores of each image."""
    from tensorflow_datasets import features

    stored_features = {
        name: features.ClassLabel(names=list(attribute.names))
        if attribute.names
        else features.Scalar(dtype=attribute.values.dtype.type)
        for name, attribute in collection.attributes.items()
    }
    image = features.Image(shape=(None, None, 1 if grey else 3))
    return features.FeaturesDict({"image": image, **stored_features, "copy_of": features.Scalar(dtype=np.int64)})


def _write(
    collection: Collection,
    looks: list[Look],
    split: list[str],
    grey: bool,
    left_out: list[str],
    destination: str,
    advance: Callable[[], None],
) -> Path:
    """Write the set and the list of images left out.

    Both are there in the end, or neither. Returns the folder.
    """
    import tensorflow_datasets as tfds

    first: dict[str, int] = {}
    copy_of = [first.setdefault(look.digest, i) for i, look in enumerate(looks)]

    class Folder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Images of a folder."""

        name = collection.name
        VERSION = tfds.core.Version(BUILD_VERSION)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                features=_features(collection, grey),
                supervised_keys=("image", collection.usual_label),
                description=collection.description,
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            if left_out:  # its folder is one aside still, which is renamed as a whole
                text = "".join(f"{line}\n" for line in left_out)
                write_atomically(Path(self.data_dir) / LEFT_OUT, text.encode("utf-8", "backslashreplace"))
            return {side: self._generate_examples(side) for side in ("train", "validation", "test") if side in split}

        def _generate_examples(self, side: str) -> Iterator[tuple[int, dict[str, Any]]]:
            for i, path in enumerate(collection.paths):
                if split[i] == side:
                    values = {name: attribute.values[i].item() for name, attribute in collection.attributes.items()}
                    yield i, {"image": stored(path, looks[i], grey), **values, "copy_of": copy_of[i]}
                    advance()

    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # its own announcements
            builder = Folder(data_dir=destination, file_format="array_record")
            builder.download_and_prepare()
            return Path(builder.data_dir)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise UserError(
            f"{collection.name} cannot be built in {destination} ({reason}); give another --data.directory"
        ) from None
