"""The registry of data sets: which function reads a data set of a name."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxprune.data.arrays import read_npz
from jaxprune.data.bundled import adult, digits
from jaxprune.data.catalogue import not_known, not_prepared, prepared_sets
from jaxprune.data.known import FROM_ARRAYS, KNOWN_SETS, PLACEHOLDERS, fit_name
from jaxprune.data.people_table import is_table_file, read_people
from jaxprune.data.prepared import find_prepared, read_prepared
from jaxprune.data.synthetic import synthetic
from jaxprune.data.table import Table
from jaxprune.errors import UserError
from jaxprune.registry import fill


@dataclass(frozen=True)
class Source:
    """A data set that can be loaded by name wherever jaxprune is installed.

    Attributes:
      read: Yields the raw examples, given the options.
      options: What can be chosen, with the defaults.
    """

    read: Callable[..., Table]
    options: Mapping[str, Any] = field(default_factory=dict)


SOURCES = {
    "adult": Source(adult),
    "synthetic": Source(synthetic, {"sizes": (8000, 800), "margins": (2.0, 1.0), "noise": (0.0,)}),
    "digits": Source(digits),
}


NPZ_OPTIONS: Mapping[str, Any] = {"bins": ()}
TABLE_OPTIONS: Mapping[str, Any] = {
    "bins": (), "missing": "category", "split_column": "", "leave_out": (), "groupings": ()
}  # fmt: skip
PREPARED_OPTIONS: Mapping[str, Any] = {"directory": "", "bins": (), "image_size": 0, "stream": False}


def read_table(name: str, options: Mapping[str, Any], *, label: str | None = None, group: str | None = None) -> Table:
    """The raw examples of a data set by name, with the options of its source.

    Args:
      name: As for `load`.
      options: Options of the source by name; None means its default.
      label: What is predicted; only tables of people have to know.
      group: What forms the groups; likewise.

    Raises:
      UserError: The name is not known, the set is not prepared, or its source has no such option.
    """
    if name in SOURCES:
        return SOURCES[name].read(**fill("data", name, SOURCES[name].options, options))
    if Path(name).suffix.lower() == ".npz":
        _refuse_what_prepared_sets_can(name, options)
        return read_npz(Path(name), **fill("data", name, NPZ_OPTIONS, options))
    if is_table_file(name):
        chosen = fill("data", name, TABLE_OPTIONS, options)
        return read_people(Path(name), label=label or "", group=group or "", **chosen)
    _refuse_other_files(name)
    chosen = fill("data", name, PREPARED_OPTIONS, options)
    folder = find_prepared(name, chosen["directory"])
    if folder is not None:
        return read_prepared(folder, **{option: chosen[option] for option in ("bins", "image_size", "stream")})
    if name in KNOWN_SETS and name not in PLACEHOLDERS:
        raise not_prepared(name, chosen["directory"])
    known = {*SOURCES, *KNOWN_SETS, *prepared_sets(chosen["directory"])} - set(PLACEHOLDERS)
    raise not_known(name, known, chosen["directory"])


def _refuse_other_files(name: str) -> None:
    """Raises for the path of a file of another kind than those that are read."""
    if Path(name).suffix.lower() == ".npy":
        raise UserError(
            f"data.name: {name} is one array; save x, y and attributes in one file, with numpy.savez('FILE.npz', x=x, "
            "y=y, race=race)"
        )
    if Path(name).is_file():
        raise UserError(f"data.name: {name} is a file of another kind; .npz, .csv, .tsv and .parquet are read")


def _refuse_what_prepared_sets_can(path: str, options: Mapping[str, Any]) -> None:
    """Raises where the images of an npz file are to stay on disk or to be resized: it is to be prepared for that."""
    for option in ("stream", "image_size"):
        if options.get(option):
            stem = fit_name(Path(path).stem)
            command = FROM_ARRAYS.replace("NAME", stem).replace("FILE.npz", shlex.quote(path))
            raise UserError(
                f"data.{option}: {path} is read as it is, as a whole; prepare its images once, with: {command}, and "
                f"give data.name {stem}; or leave it out"
            )
