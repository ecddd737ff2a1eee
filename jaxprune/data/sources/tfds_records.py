"""Records of prepared sets, decoded into memory or on demand."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.data.normalisation import image_sums
from jaxprune.data.record_images import RecordImages
from jaxprune.data.sources.tfds_integrity import damaged
from jaxprune.errors import UserError

_THREADS = 8  # decoding leaves the interpreter free, and waiting for a disk even more so
_AT_ONCE = 64  # records read by a thread at a time


class Records:
    """Records of several splits of a prepared set, numbered in order.

    Attributes:
      count: Records of each split.
    """

    def __init__(self, builder: Any, splits: Sequence[str], image: str, image_size: int):
        import tensorflow_datasets as tfds

        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        self._sources = [builder.as_data_source(split=split, deserialize_method=raw) for split in splits]
        self._infos = [builder.info.splits[split] for split in splits]
        self.count = [len(source) for source in self._sources]
        self._starts = np.cumsum([0, *self.count])
        self._path, self._size = image.split("/"), image_size
        self._image, self._others = (
            tfds.features.FeaturesDict(_part(builder.info.features, image, inside)) for inside in (True, False)
        )
        self._where = builder.info.full_name

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _raw(self, rows: np.ndarray) -> list[bytes]:
        of = np.searchsorted(self._starts, rows, "right") - 1
        raw: list[bytes] = [b""] * len(rows)
        for s in np.unique(of):
            at = np.flatnonzero(of == s)
            inside = (rows[at] - self._starts[s]).tolist()
            try:
                records = self._sources[s].__getitems__(inside)
            except RuntimeError:  # a record's own digest does not fit it
                raise damaged(self._file(int(rows[at[0]])), "is altered: a digest in it does not fit") from None
            for i, record in zip(at, records, strict=True):
                raw[i] = record
        return raw

    def _file(self, row: int) -> Path:
        """Return the shard that holds a record."""
        s = int(np.searchsorted(self._starts, row, "right")) - 1
        ends = np.cumsum(self._infos[s].shard_lengths)
        return Path(self._infos[s].filepaths[int(np.searchsorted(ends, row - self._starts[s], "right"))])

    def _decoded(self, row: int, record: bytes) -> np.ndarray:
        try:
            value = _at(self._image.deserialize_example_np(record), self._path)
        except (OSError, ValueError, SyntaxError, EOFError):  # what Pillow raises, whatever is wrong
            raise damaged(self._file(row), "holds an image that cannot be decoded") from None
        return _sized(np.asarray(value), self._size)

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Read the images with these record numbers, [n, H, W, channels]."""
        rows = np.asarray(rows)
        return np.stack([self._decoded(*pair) for pair in zip(rows.tolist(), self._raw(rows), strict=True)])

    def first(self) -> np.ndarray:
        """Read the first image, [H, W, channels]."""
        return self.images(np.array([0]))[0]

    def values(self, paths: Sequence[str], on_images: Callable[[int, np.ndarray], None]) -> dict[str, np.ndarray]:
        """Read every record once, on several threads.

        Args:
          paths: Features of one value each, to be kept: as arrays from the start, for objects of a million records are
            a gigabyte.
          on_images: Called with the first number and the images of a stretch of records.

        Returns:
          Path -> [N] values; of text, empty texts.

        Raises:
          UserError: The images differ in size, or a record is damaged.
        """
        shape = self.first().shape

        def stretch(start: int) -> list[np.ndarray]:
            rows = range(start, min(start + _AT_ONCE, len(self)))
            records = self._raw(np.asarray(rows))
            images = [self._decoded(*pair) for pair in zip(rows, records, strict=True)]
            if any(image.shape != shape for image in images):
                raise UserError(
                    f"data.image_size: the images of {self._where} differ in size; give the pixels a side to resize to"
                )
            on_images(start, np.stack(images))
            others = [self._others.deserialize_example_np(record) for record in records]
            return [_kept([_at(other, path.split("/")) for other in others]) for path in paths]

        with ThreadPoolExecutor(_THREADS) as pool:
            starts = range(0, len(self), _AT_ONCE)
            try:
                columns = zip(*pool.map(stretch, starts), strict=True)
                return {path: np.concatenate(column) for path, column in zip(paths, columns, strict=True)}
            except BaseException:
                pool.shutdown(cancel_futures=True)  # else an error is raised only after all the rest was read
                raise


def read_all(
    records: Records, paths: Sequence[str], *, stream: bool
) -> tuple[np.ndarray | RecordImages, dict[str, np.ndarray]]:
    """Read all images and values.

    Images end in memory, or stay on disk once their sums and digests are known; values are [N] for each path.

    Raises:
      UserError: The images differ in size, or those to be streamed are not of bytes.
    """
    n, first = len(records), records.first()
    shape, small = first.shape, first.dtype == np.uint8
    if not stream:
        memory = np.empty((n, *shape), np.uint8 if small else np.float32)

        def keep(start: int, images: np.ndarray) -> None:
            memory[start : start + len(images)] = images

        return memory, records.values(paths, keep)
    if not small:
        raise UserError(f"data.stream: the images are {first.dtype}; only images of bytes stream; leave it out")
    sums, digests = np.empty((n, 2, shape[-1]), np.int64), np.empty((n, 8), np.uint8)

    def look(start: int, images: np.ndarray) -> None:
        sums[start : start + len(images)] = image_sums(images)
        for i, image in enumerate(images, start):
            digests[i] = np.frombuffer(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), np.uint8)

    values = records.values(paths, look)
    return RecordImages(records, np.arange(n), (n, *shape), sums, digests), values


def _at(example: Any, path: Sequence[str]) -> Any:
    for name in path:
        example = example[name]
    return example


def _kept(values: Sequence[Any]) -> np.ndarray:
    """Convert values to an array, with texts emptied.

    Texts cannot be labels.
    """
    array = np.array(values)
    return array if array.dtype.kind in "biuf" else np.full(len(values), "")


def _part(features: Mapping[str, Any], path: str, inside: bool) -> dict[str, Any]:
    """Select the feature at a path, or all others."""
    name, _, rest = path.partition("/")
    if not rest:
        return {name: features[name]} if inside else {n: f for n, f in features.items() if n != name}
    nested = _part(features[name], rest, inside)
    return {name: nested} if inside else {n: nested if n == name else f for n, f in features.items()}


def _sized(image: np.ndarray, size: int) -> np.ndarray:
    if not size or image.shape[:2] == (size, size):
        return image
    from PIL import Image

    squeezed = image[..., 0] if image.shape[-1] == 1 else image
    resized = np.asarray(Image.fromarray(squeezed).resize((size, size), Image.Resampling.LANCZOS))
    return resized.reshape(size, size, image.shape[-1])
