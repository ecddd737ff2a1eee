"""The `Dataset` type, and checks of its arrays."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxprune.data.attributes import MINIMUM_COUNT, Attributes, Grouping
from jaxprune.data.normalisation import Normalise, as_they_are
from jaxprune.data.record_images import RecordImages
from jaxprune.errors import UserError
from jaxprune.groups import same_grouping
from jaxprune.types import Array, Batch

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, repr=False)
class Dataset:
    """Train, validation and test examples with groups.

    Attributes:
      name: The name of the data set.
      train: Examples for training, as numpy arrays. Inputs are as the network takes them, or are
        images of bytes, which may be on disk (`RecordImages`).
      validation: Examples for choosing networks and hyperparameters.
      test: Examples for reports alone.
      label_names: The C names of the labels.
      group_names: The G names of the groups.
      label_by: The name of the label, such as "income".
      group_by: The name of the grouping, such as "race" or "race*sex".
      provenance: Where it comes from and under which licence.
      normalise: The function that turns inputs into those that the network takes, inside the compiled program:
        `network.after(normalise)`. Images of bytes have their channels brought to mean 0 and deviation 1 in the
        training split; other inputs stay as they are.
      notes: Sentences about what was left out of the splits that it came with.
      attributes: Attributes that may form other groups of the same people; None if only the groups are known.
    """

    name: str
    train: Batch
    validation: Batch
    test: Batch
    label_names: tuple[str, ...]
    group_names: tuple[str, ...]
    label_by: str
    group_by: str
    provenance: str
    normalise: Callable[[Array], Array] = as_they_are
    notes: tuple[str, ...] = ()
    attributes: Attributes | None = None

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(self.split(split).y):,} {split}" for split in SPLITS)
        return (
            f"Dataset({self.name}: {sizes}; inputs {list(self.train.x.shape[1:])}; {self.label_by}: "
            f"{_some(self.label_names)}; {self.group_by}: {_some(self.group_names)})"
        )

    @property
    def streamed(self) -> bool:
        """True if the images stay on disk until they are used."""
        return isinstance(self.train.x, RecordImages)

    @property
    def num_groups(self) -> int:
        """G."""
        return len(self.group_names)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.label_names)

    def split(self, name: str) -> Batch:
        """Return one of the three splits by its name."""
        return getattr(self, name)

    def group_sizes(self, split: str) -> np.ndarray:
        """Count the examples of each group in a split, [G]."""
        return np.bincount(self.split(split).group, minlength=self.num_groups)

    @property
    def primary(self) -> Grouping:
        """The groups that the splits hold."""
        codes = {split: np.asarray(self.split(split).group) for split in SPLITS}
        return Grouping(name=self.group_by, group_names=self.group_names, codes=codes)

    def grouping(self, spec: str, where: str = "data.group") -> Grouping:
        """Divide the same people by an attribute, or by several crossed.

        Args:
          spec: Attribute names joined by `*`, such as "race*sex".
          where: The setting or argument to name in the messages.

        Raises:
          UserError: The data has no such attribute.
        """
        if same_grouping(spec, self.group_by):
            return self.primary
        if self.attributes is None:
            raise UserError(f"{where}: {self.name} has the groups {self.group_by!r} alone, not {spec!r}; leave it out")
        return self.attributes.grouping(spec, where)

    def fingerprint(self) -> str:
        """Return a digest of every array and name.

        Equal data have equal digests, whatever file they came from.
        """
        return hashlib.sha256((self.examples_fingerprint() + self.primary.fingerprint()).encode()).hexdigest()

    def examples_fingerprint(self) -> str:
        """Return a digest of inputs, labels and weights.

        They are all that a training without groups depends on.
        """
        names = (self.label_names, self.normalise if isinstance(self.normalise, Normalise) else None)
        digest = hashlib.sha256(repr(names).encode())
        for split in SPLITS:
            batch = self.split(split)
            for array in (batch.x, batch.y, batch.weight):
                if isinstance(array, RecordImages):
                    digest.update(array.fingerprint())
                    continue
                digest.update(repr((array.shape, array.dtype.str)).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def warnings(self, minimum: int = MINIMUM_COUNT) -> list[str]:
        """Return the notes, and a warning about small groups per split."""
        return [*self.notes, *self.primary.warnings(minimum)]


def check_split(
    split: str,
    x: Any,  # arrays or RecordImages
    y: Array,
    group: Array,
    *,
    num_classes: int,
    num_groups: int,
    where: str = "data",
) -> None:
    """Check the arrays of one split.

    Args:
      split: Its name, for the messages.
      x: [N, ...] inputs.
      y: [N] labels.
      group: [N] groups.
      num_classes: C.
      num_groups: G.
      where: The setting or argument to name in the messages.

    Raises:
      UserError: Lengths differ, a label or group is out of range or not whole, or an input is NaN or infinite.
    """
    x, y, group = _array(x), np.asarray(y), np.asarray(group)
    if num_classes < 2:
        raise UserError(f"{where}: the label has the names of {num_classes} class; give those of two or more")
    if not len(x) == len(y) == len(group):
        raise UserError(
            f"{where}: the {split} split has {len(x)} inputs, {len(y)} labels and {len(group)} groups; "
            "give one label and one group for each input"
        )
    if len(x) == 0:
        raise UserError(f"{where}: the {split} split is empty; give it examples")
    if not all(x.shape):
        raise UserError(f"{where}: the inputs of the {split} split have shape {tuple(x.shape)}; give them features")
    for what, codes, size in (("label", y, num_classes), ("group", group, num_groups)):
        if codes.ndim != 1:
            raise UserError(f"{where}: the {what}s of the {split} split have shape {codes.shape}; give one number each")
        if codes.dtype.kind not in "iub":
            raise UserError(f"{where}: the {what}s of the {split} split are {codes.dtype}; give whole numbers")
        wrong = np.flatnonzero((codes < 0) | (codes >= size))
        if len(wrong):
            raise UserError(
                f"{where}: {what} {codes[wrong[0]]} of {split} example {wrong[0]} is out of range; "
                f"{what}s run from 0 to {size - 1}"
            )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        row = int(np.argwhere(~np.isfinite(x))[0][0])
        bad = int((~np.isfinite(x)).sum())
        raise UserError(
            f"{where}: the inputs of the {split} split hold {bad} value{'s' * (bad != 1)} that are NaN or infinite, "
            f"the first in example {row}; clean or impute them first"
        )


def from_arrays(
    train: Sequence[Array],
    validation: Sequence[Array],
    test: Sequence[Array],
    *,
    label_names: Sequence[str],
    group_names: Sequence[str],
    name: str = "arrays",
    label_by: str = "label",
    group_by: str = "group",
    provenance: str = "arrays given by the caller",
    normalise: Callable[[Array], Array] = as_they_are,
    notes: Sequence[str] = (),
    attributes: Attributes | None = None,
) -> Dataset:
    """Build a checked data set from arrays that are split already.

    Args:
      train: `(x [N, ...], y [N], group [N])`, with as many examples as you like.
      validation: Likewise.
      test: Likewise.
      label_names: The C names of the labels.
      group_names: The G names of the groups.
      name: The name of the data set.
      label_by: The name of the label, such as "income".
      group_by: The name of the grouping, such as "race".
      provenance: The origin of the data.
      normalise: A function applied before the network, such as `data.Normalise(shift, scale)`.
      notes: Sentences about examples left out, for the warnings.
      attributes: Attributes that may form other groups of the same people.

    Returns:
      The data set; every weight is 1.

    Raises:
      UserError: As `check_split`, a name is repeated, the inputs differ in shape, or a group is missing in a split.

    Example:
      >>> split = (np.eye(4), [0, 1, 0, 1], [0, 0, 1, 1])
      >>> from_arrays(split, split, split, label_names=("no", "yes"), group_names=("a", "b"))
      Dataset(arrays: 4 train, 4 validation, 4 test; inputs [4]; label: no, yes; group: a, b)
    """
    _refuse_repeated(name, ("label", label_by, label_names), ("group", group_by, group_names))
    batches = {}
    for split, (x, y, group) in zip(SPLITS, (train, validation, test), strict=True):
        check_split(split, x, y, group, num_classes=len(label_names), num_groups=len(group_names), where=f"data {name}")
        batches[split] = Batch(
            _array(x), np.asarray(y, np.int32), np.asarray(group, np.int32), np.ones(len(y), np.float32)
        )
    dataset = Dataset(
        name=name, label_names=tuple(label_names), group_names=tuple(group_names), label_by=label_by,
        group_by=group_by, provenance=provenance, normalise=normalise, notes=tuple(notes), attributes=attributes,
        **batches,
    )  # fmt: skip
    _check_shapes(name, {split: batches[split].x.shape[1:] for split in SPLITS})
    sizes = {split: dataset.group_sizes(split) for split in SPLITS}
    remedy = "merge it with another group, leave it out, or group by something else"
    refuse_empty_groups(sizes, dataset.group_names, dataset.group_by, remedy)
    return dataset


def _check_shapes(name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise if the inputs of the splits differ in shape."""
    for split, shape in shapes.items():
        if shape != shapes["train"]:
            raise UserError(
                f"data {name}: an input of the {split} split has shape {shape}, one of train {shapes['train']}; "
                "give all splits the same inputs"
            )


def _refuse_repeated(where: str, *columns: tuple[str, str, Sequence[str]]) -> None:
    """Raise if two labels or two groups have one name."""
    for what, by, names in columns:
        repeated = [name for name in names if list(names).count(name) > 1] if len(set(names)) < len(names) else []
        if repeated:
            raise UserError(f"data {where}: two {what}s of {by} are called {repeated[0]!r}; rename one, or merge them")


def _some(names: Sequence[str], most: int = 6) -> str:
    """Join the first few names, with the number of the others."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _array(x: Array | RecordImages) -> Any:
    return x if isinstance(x, RecordImages) else np.asarray(x)


def refuse_empty_groups(
    sizes: Mapping[str, np.ndarray], group_names: Sequence[str], group_by: str, remedy: str
) -> None:
    """Raise if a group has no examples in a split.

    Args:
      sizes: Split -> [G] numbers of examples.
      group_names: The G names.
      group_by: The attribute that forms the groups.
      remedy: The last part of the message, what to do.
    """
    for split, counts in sizes.items():
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            each = ", ".join(f"{sizes[s][empty[0]]:,} in {s}" for s in sizes)
            more = f", and {len(empty) - 1:,} more" if len(empty) > 1 else ""
            raise UserError(
                f"data.group: {group_by!r} leaves group {group_names[empty[0]]!r} without examples in the {split} "
                f"split ({each}){more}; {remedy}"
            )
