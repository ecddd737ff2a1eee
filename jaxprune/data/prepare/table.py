"""Images described by a table, in a folder or in the table."""

import numbers
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

import numpy as np

from jaxprune.data.cells import MANY, Cell, is_missing, is_number, natural, none_notes, to_categories, twin_notes
from jaxprune.data.prepare.collection import RESERVED, Attribute, Collection
from jaxprune.data.prepare.images import SUFFIXES, find_images
from jaxprune.data.prepare.match import match_rows
from jaxprune.data.sources import table_files
from jaxprune.data.sources.split_column import SPLIT_NAMES, read_split
from jaxprune.errors import UserError, unknown
from jaxprune.files import digest_of

_USUAL = ("file", "image", "filename", "file_name", "path", "image_id")  # names of the column that names the images


def collect_table(
    name: str,
    directory: Path | None,
    table: Path,
    *,
    scratch: Path,
    image_column: str | None = None,
    columns: Sequence[str] = (),
    split_column: str | None = None,
) -> Collection:
    """Collect the images of a folder or table with its columns.

    Args:
      name: The name of the built set.
      directory: The folder; None where the images are in the table.
      table: A CSV or Parquet file with one row for each image.
      scratch: An empty folder, for images that are in the table; these are called by the numbers of their rows.
      image_column: The column that names the images; None for the first there is of file, image, filename, file_name,
        path, image_id.
      columns: The columns to take; empty for all that are fit.
      split_column: The column that says train, validation or test; None for one named split, where there is one.

    Raises:
      UserError: The folder, the table or a column is missing or not fit, or rows and images do not fit each other.
    """
    files = [] if directory is None else find_images(directory)
    where = f"--table {table}"
    cells, inside = table_files.read_columns(table, where), table_files.image_columns(table, where)
    images = _image_column([*inside, *cells], inside, image_column, where)
    splits = split_column or ("split" if "split" in cells and "split" not in columns else None)
    if splits is not None and splits not in cells:
        raise unknown("column", splits, cells, where=f"--split-column: {table}")
    if images in inside:
        directory, paths = scratch, _unpacked(table, images, directory, scratch)
    elif directory is None:
        raise UserError("datasets prepare: --directory is missing; give the folder of the images that the table names")
    else:
        paths = match_rows(_names(cells[images], images, where), files, directory, str(table))
    attributes, left_out = _attributes(cells, columns, {images, splits}, where)
    source = f"the folder {directory.resolve().name} with the table" if images not in inside else "the table"
    return Collection(
        name=name,
        directory=directory,
        paths=paths,
        attributes=attributes,
        split=None if splits is None else _split(cells[splits], splits, where),
        description=f"Images of {source} {table.name} (SHA-256 {digest_of(table)}).",
        left_out=left_out,
        warnings=none_notes((column, cells[column]) for column, attribute in attributes.items() if attribute.names)
        + twin_notes((column, attribute.names) for column, attribute in attributes.items()),
    )


def _unpacked(table: Path, column: str, directory: Path | None, scratch: Path) -> list[Path]:
    """Write the images of a table as files, in row order."""
    if directory is not None:
        raise UserError(f"--directory: the images are in {table}, in column {column!r}; leave the folder out")
    paths = []
    for row, (content, path) in enumerate(table_files.read_images(table, column, f"--table {table}")):
        if not content:
            called = f" (it names {path[:60]!r})" if path else ""
            raise UserError(
                f"--table {table}: row {row + 1} holds no image in column {column!r}{called}; leave such rows out"
            )
        suffix = Path(path or "").suffix.lower()
        paths.append(scratch / f"{row:07}{suffix if suffix in SUFFIXES else ''}")
        paths[-1].write_bytes(content)
    return paths


def _image_column(cells: Sequence[str], inside: Sequence[str], chosen: str | None, where: str) -> str:
    """Choose the column that names the images, or holds them."""
    if chosen is not None:
        if chosen not in cells:
            raise unknown("column", chosen, cells, where=f"--image-column: {where.removeprefix('--table ')}")
        return chosen
    for usual in (*_USUAL, *inside[:1]):
        if usual in cells:
            return usual
    raise UserError(
        f"{where} has no column named {', '.join(_USUAL[:-1])} or {_USUAL[-1]}; say with --image-column which of "
        f"{', '.join(cells)} names the images"
    )


def _names(cells: Sequence[Cell], column: str, where: str) -> list[str]:
    empty = [i for i, cell in enumerate(cells) if cell is None or not str(cell).strip()]
    if empty:
        raise UserError(f"{where}: row {empty[0] + 1} names no image in column {column!r}; fill it in or remove it")
    return [str(cell).strip() for cell in cells]


def _attributes(
    cells: dict[str, list[Cell]], columns: Sequence[str], reserved: set[str | None], where: str
) -> tuple[dict[str, Attribute], list[str]]:
    """Convert the columns to store, and describe those left out."""
    for column in columns:
        if column not in cells:
            raise unknown("column", column, cells, where=f"--columns: {where.removeprefix('--table ')}")
        if column in reserved:
            raise UserError(f"--columns: {column!r} names the images or their splits; leave it out")
    stored, left_out = {}, []
    for column in columns or [column for column in cells if column not in reserved]:
        attribute = to_attribute(cells[column], chosen=bool(columns))
        if isinstance(attribute, Attribute) and (column in RESERVED or set(column) & set("*/")):
            attribute = "it has the name of a stored feature, or a * or / in its name: rename it"
        if isinstance(attribute, Attribute):
            stored[column] = attribute
        elif columns:
            raise UserError(f"{where}: column {column!r} cannot be used: {attribute}; correct it or leave it out")
        else:
            left_out.append(f"{column} ({attribute})")
    if not stored:
        reasons = f": {', '.join(left_out)}" if left_out else ""
        raise UserError(f"{where} has no column of labels or attributes{reasons}; add one")
    return stored, left_out


def to_attribute(cells: Sequence[Cell], *, chosen: bool) -> Attribute | str:
    """Convert a column to an attribute, or return the reason against it.

    Text becomes codes of its sorted categories ("2-9" before "10-19"), an empty cell of it the category "missing";
    numbers stay numbers.

    Args:
      cells: [N] the column.
      chosen: True if the user chose it: then it may have any number of categories.
    """
    there = [cell for cell in cells if not is_missing(cell)]
    if not there:
        return "it is empty"
    if all(is_number(cell) for cell in there):
        if len(there) < len(cells):
            return f"{len(cells) - len(there):,} of {len(cells):,} rows have no number in it"
        whole = all(isinstance(cell, numbers.Integral) for cell in there)
        if max(map(abs, there)) >= (2**63 if whole else float(np.finfo(np.float32).max)):
            return "its numbers are too large"
        return Attribute(
            np.array(list(map(int, there)), np.int64) if whole else np.array(list(map(float, there)), np.float32)
        )
    if not all(isinstance(cell, str | bool | date | datetime) or is_number(cell) for cell in there):
        return f"its cells are of type {type(there[0]).__name__}"
    texts = to_categories(cells)
    kinds = sorted(set(texts), key=natural)
    if len(kinds) > MANY and not chosen:
        return f"{len(kinds):,} categories"
    code = {kind: i for i, kind in enumerate(kinds)}
    return Attribute(np.array([code[text] for text in texts], np.int64), tuple(kinds))


def _split(cells: Sequence[Cell], column: str, where: str) -> list[str]:
    split = [SPLIT_NAMES[code] for code in read_split(cells, column, where)]
    if "test" not in split:
        raise UserError(f"{where}: column {column!r} says test in no row; a set has a train and a test split")
    return split
