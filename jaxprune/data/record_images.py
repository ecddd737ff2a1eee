"""Images that stay on disk and are decoded when used."""

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxprune.data.sources.tfds_records import Records


@dataclass(frozen=True, eq=False)
class RecordImages:
    """Images [N, H, W, channels] of bytes that stay on disk.

    Indexing reads and decodes the images asked for. It stands in the place of `Batch.x`, so that a whole split has one
    form whether it is in memory or not.

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
        """Read and decode the images at an index [n] or a number."""
        rows = self.rows[index]
        return self.records.images(rows) if np.ndim(rows) else self.records.images(np.array([rows]))[0]

    def select(self, index: np.ndarray) -> "RecordImages":
        """Select the images at an index [n], still on disk."""
        rows = self.rows[index]
        return replace(self, rows=rows, shape=(len(rows), *self.shape[1:]))

    def copies(self) -> np.ndarray:
        """Find the first copy of each image, [N], by digests."""
        digests = np.ascontiguousarray(self.digests[self.rows]).view(np.uint64)[:, 0]
        _, first, kind = np.unique(digests, return_index=True, return_inverse=True)
        return first[kind.reshape(-1)]

    def channel_sums(self) -> np.ndarray:
        """Sums of all images as of `image_sums`, [N, 2, channels]."""
        return self.sums[self.rows]

    def fingerprint(self) -> bytes:
        """Return a digest of all pixels, from those of each image."""
        return hashlib.sha256(np.ascontiguousarray(self.digests[self.rows]).data).digest()
