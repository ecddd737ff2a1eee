"""Attributes of people, and the groups that they form."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from jaxprune.data.raw import Column
from jaxprune.errors import UserError, unknown
from jaxprune.groups import attributes_of, intersect
from jaxprune.text import name_some, shortened

MINIMUM_COUNT = 30  # below this a group's mean is reported with a warning


@dataclass(frozen=True, eq=False)
class Grouping:
    """A division of the people of a data set into groups.

    Attributes:
      name: An attribute, or several crossed, such as "race*sex".
      group_names: The G names.
      codes: Split -> [N] int in [0, G), the group of each example, in the order of the split.
      notes: Sentences about combinations that are left out.
    """

    name: str
    group_names: tuple[str, ...]
    codes: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()

    @property
    def num_groups(self) -> int:
        """G."""
        return len(self.group_names)

    def sizes(self, split: str) -> np.ndarray:
        """Count the examples of each group in a split, [G]."""
        return np.bincount(self.codes[split], minlength=self.num_groups)

    def fingerprint(self) -> str:
        """Return a digest of group names and of everybody's group."""
        digest = hashlib.sha256(repr(self.group_names).encode())
        for split, codes in self.codes.items():
            digest.update(repr((split, codes.shape)).encode())
            digest.update(np.ascontiguousarray(codes, np.int32).data)
        return digest.hexdigest()

    def warnings(self, minimum: int = MINIMUM_COUNT) -> list[str]:
        """Return the notes, and a warning about small groups per split."""
        sentences = [*self.notes]
        for split in self.codes:
            sizes = self.sizes(split)
            few = np.flatnonzero(sizes < minimum)
            small = [f"{shortened(self.group_names[g], 60)} ({sizes[g]})" for g in few]
            if small:
                sentences.append(
                    f"the {split} split has fewer than {minimum} examples of {name_some(small)}; "
                    "figures of such groups are uncertain"
                )
        return sentences


@dataclass(frozen=True, eq=False)
class Attributes:
    """Columns that may form groups, and the rows of each split.

    Attributes:
      columns: Name -> codes of every row of the source, and their names.
      rows: Split -> [N] rows, in the order of the split; a row that is repeated in the split is repeated here.
      unused: Name -> why it cannot form groups, with the remedy.
    """

    columns: Mapping[str, Column]
    rows: Mapping[str, np.ndarray]
    unused: Mapping[str, str] = field(default_factory=dict)

    def grouping(self, spec: str, where: str) -> Grouping:
        """Form the groups by an attribute, or by several crossed.

        Groups without examples in a split stay, with a size of 0. Crossed groups without examples in any split are
        dropped.

        Args:
          spec: Attribute names joined by `*`.
          where: The setting to name in the messages.

        Raises:
          UserError: An attribute is not known, cannot be used, or is named twice.
        """
        check_attributes(attributes_of(spec), "group attribute", self.columns, self.unused, where)
        codes, names = intersect(self.columns, spec, where=where)
        of_split = {split: codes[rows] for split, rows in self.rows.items()}
        name, notes = "*".join(attributes_of(spec)), ()
        if "*" in name:
            people = sum(np.bincount(some, minlength=len(names)) for some in of_split.values())
            kept = np.flatnonzero(people)
            if len(kept) < len(names):
                lost = len(names) - len(kept)
                verb = "is" if lost == 1 else "are"
                notes = (f"{lost:,} of the {len(names):,} groups of {name} {verb} left out: nobody is in them",)
            code = np.zeros(len(names), np.int32)
            code[kept] = np.arange(len(kept))
            of_split, names = {split: code[some] for split, some in of_split.items()}, [names[g] for g in kept]
        return Grouping(name=name, group_names=tuple(names), codes=of_split, notes=notes)


def check_attributes(
    names: Sequence[str], kind: str, columns: Mapping[str, Column], unused: Mapping[str, str], where: str
) -> None:
    """Raise if an attribute is unknown or unusable, with the reason.

    Raises:
      UserError: One is not known or cannot be used.
    """
    for name in filter(None, names):
        if name in unused:
            raise UserError(f"{where}: {name} {unused[name]}")
        if name not in columns:
            raise unknown(kind, name, [*columns, *unused], where=where, listed=True)
