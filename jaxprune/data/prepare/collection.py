"""Images with labels and attributes, before a set is built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxprune.data.columns import FEW

RESERVED = ("image", "copy_of")  # features of every built set


@dataclass(frozen=True)
class Attribute:
    """A label or an attribute of N images.

    Attributes:
      values: [N] int, codes of `names`; or [N] int or float, numbers without names.
      names: The names of the codes; empty for numbers.
    """

    values: np.ndarray
    names: tuple[str, ...] = ()

    @property
    def needs_bins(self) -> bool:
        """True for many distinct numbers, which must be binned first."""
        return not self.names and len(np.unique(self.values)) > FEW


@dataclass(frozen=True)
class Collection:
    """N images of a folder with their labels and attributes.

    Attributes:
      name: The name of the built set.
      directory: The folder.
      paths: [N] the files.
      attributes: Name -> attribute; the first that needs no bins is the usual label.
      split: [N] "train", "validation" or "test"; None to draw the test split.
      description: The origin and licence.
      malformed: Files that were left out because they do not say what the image shows, each with the reason.
      left_out: Columns of the table that were left out, each with the reason.
      warnings: Sentences about what a user should look at.
    """

    name: str
    directory: Path
    paths: Sequence[Path]
    attributes: Mapping[str, Attribute]
    split: Sequence[str] | None
    description: str
    malformed: Mapping[Path, str] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def usual_label(self) -> str:
        """The default label.

        It is the first attribute that needs no bins, if there is one.
        """
        fit = (name for name, attribute in self.attributes.items() if not attribute.needs_bins)
        return next(fit, next(iter(self.attributes)))


@dataclass(frozen=True)
class FolderReport:
    """Report on the images of a built set.

    Attributes:
      used: Images that were taken.
      malformed: Names that do not hold the labels; those files were left out.
      repeats: Images whose bytes are those of another one; they are on the same side of every split.
      contradictory: Images that occur with different labels.
      crossing: Images of the training or validation part that are copies of one in the test (or validation) part;
        they were left out. Only where the folder comes with a split.
      converted: Images that were turned upright or brought to the colours of the others.
      left_out: Columns of the table that were left out, each with the reason.
      listed: The file that lists all images that were left out, each with the reason; None where there are none.
      warnings: Sentences about what a user should look at.
    """

    used: int = 0
    malformed: list[str] = field(default_factory=list)
    repeats: int = 0
    contradictory: list[str] = field(default_factory=list)
    crossing: list[str] = field(default_factory=list)
    converted: int = 0
    left_out: list[str] = field(default_factory=list)
    listed: Path | None = None
    warnings: list[str] = field(default_factory=list)
