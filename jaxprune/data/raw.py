"""Raw examples of a source, before grouping, splitting and normalisation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from jaxprune.data.record_images import RecordImages

Column = tuple[np.ndarray, tuple[str, ...]]  # codes [N], the names of the codes


@dataclass(frozen=True)
class RawData:
    """Raw examples of a source.

    Attributes:
      x: [N, F] rows, float32, or [N, H, W, channels] images, uint8 or float32; not normalised. Images of bytes may
        be on disk.
      labels: Name -> column, those that may be predicted; the first is the default.
      attributes: Name -> column, those that may form groups; the first is the default.
      stratify: Codes [N] of the columns that cut the validation split evenly, beside the label; the same ones whatever
        the groups and bins asked for, so that results for different groups rest on the same split.
      split: [N] 0 train, 1 test; or with 2 for a validation split that the source has of its own.
      standardise: [F] bool, the columns that are scaled to mean 0 and deviation 1; None scales all values alike, as
        for images; images of bytes are normalised on the device.
      provenance: Where it comes from and under which licence.
      unit: [N] int, equal for copies of one example, which must stay on one side of a split; None where there are
        no copies.
      unused: Name -> why it can be neither label nor attribute, with the remedy; for those that a user may ask for.
      imputed: True if NaN among the inputs is a missing number, which becomes the mean of the training split.
      notes: Sentences about what was left out or read in a way that a user should know.
    """

    x: np.ndarray | RecordImages
    labels: Mapping[str, Column]
    attributes: Mapping[str, Column]
    stratify: tuple[np.ndarray, ...]
    split: np.ndarray
    standardise: np.ndarray | None
    provenance: str
    unit: np.ndarray | None = None
    unused: Mapping[str, str] = field(default_factory=dict)
    imputed: bool = False
    notes: tuple[str, ...] = ()
