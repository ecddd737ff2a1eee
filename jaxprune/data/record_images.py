"""Images of a split that stay on disk and are decoded when they are used."""

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxprune.data.sources.tfds_records import Records


@dataclass(frozen=True, eq=False)
class RecordImages:
    """Images [N, H, W, channels] of bytes that stay on disk; indexing reads and decodes those asked for.

    It stands in the place of `Batch.x`, so that a whole split has one form whether it is in memory or not.

    Attributes:
      records: Where they are.
      rows: [N] the number of the record of each, with repeats where the split is reshaped to have them.
      shape: (N, H, W, channels).
      sums: [all records, 2, channels] int64, of `image_sums`.
      digests: [all records, 8] bytes, of the pixels.
    """

    records: "Records"
    rows: np.ndarray
    shape: tuple[int, ...]
    sums: np.ndarray
    digests: np.ndarray

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        """The images at an index [n], or the one at a whole number, decoded."""
        rows = self.rows[index]
        return self.records.images(rows) if np.ndim(rows) else self.records.images(np.array([rows]))[0]

    def select(self, index: np.ndarray) -> "RecordImages":
        """The images at an index [n], still on disk."""
        rows = self.rows[index]
        return replace(self, rows=rows, shape=(len(rows), *self.shape[1:]))

    def copies(self) -> np.ndarray:
        """[N] for each image the first one of equal pixels, by the digests."""
        digests = np.ascontiguousarray(self.digests[self.rows]).view(np.uint64)[:, 0]
        _, first, kind = np.unique(digests, return_index=True, return_inverse=True)
        return first[kind.reshape(-1)]

    def channel_sums(self) -> np.ndarray:
        """[N, 2, channels], as `image_sums` of all of them."""
        return self.sums[self.rows]

    def fingerprint(self) -> bytes:
        """A digest of the pixels of all of them, in order, from those of each image."""
        return hashlib.sha256(np.ascontiguousarray(self.digests[self.rows]).data).digest()
