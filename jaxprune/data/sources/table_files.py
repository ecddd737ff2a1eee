"""Tables on disk: CSV, and Parquet if pyarrow is installed."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxprune.data.cells import Cell, read_cells
from jaxprune.errors import UserError

CSV_SUFFIXES, PARQUET_SUFFIXES = (".csv", ".tsv", ".txt"), (".parquet", ".pq")


def read_columns(path: Path, where: str) -> dict[str, list[Cell]]:
    """Read the columns of a table.

    In CSV, a column whose cells are numbers is one of numbers (`cells.read_cells`); the delimiter (comma, semicolon or
    tab) is that of the first line. Columns of images (`image_columns`) are left out.

    Args:
      path: A CSV file in UTF-8 (or UTF-16 with its mark), or a Parquet file.
      where: The name of the table in messages, such as "--table people.csv".

    Raises:
      UserError: The file is missing, empty or not a table, or pyarrow is not installed.
    """
    if not path.is_file():
        raise UserError(f"{where}: this file does not exist; give a CSV or Parquet file")
    suffix = path.suffix.lower()
    if suffix in CSV_SUFFIXES:
        columns = _read_csv(path, where)
    elif suffix in PARQUET_SUFFIXES:
        columns = _read_parquet(path, where)
    else:
        raise UserError(f"{where} is neither CSV nor Parquet; save it as one (.csv, .tsv or .parquet)")
    if not columns or not len(next(iter(columns.values()))):
        raise UserError(f"{where} holds no rows; give one row for each example")
    return columns


def image_columns(path: Path, where: str) -> list[str]:
    """Name the columns of a Parquet file that hold image files.

    These are bytes, or structs of bytes and a path, as Hugging Face's datasets store images.
    """
    if path.suffix.lower() not in PARQUET_SUFFIXES or not path.is_file():
        return []
    with _parquet(path, where) as file:
        return _images_of(file.schema_arrow)


def read_images(path: Path, column: str, where: str) -> Iterator[tuple[bytes | None, str | None]]:
    """Yield the bytes and path of each image in a column.

    Raises:
      UserError: The file is damaged.
    """
    with _parquet(path, where) as file:
        for batch in file.iter_batches(batch_size=64, columns=[column]):
            for cell in batch.column(0).to_pylist():
                yield (cell.get("bytes"), cell.get("path")) if isinstance(cell, Mapping) else (cell, None)


def _read_csv(path: Path, where: str) -> dict[str, list[Cell]]:
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        lines = io.StringIO(content.decode(encoding), newline="")
        head = lines.readline()
        lines.seek(0)
        reader = csv.reader(lines, delimiter=max(",;\t", key=head.count), skipinitialspace=True)
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except UnicodeDecodeError:
        raise UserError(f"{where} is not text in UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{where} cannot be read as CSV ({error}); correct it") from None
    if not rows:
        raise UserError(f"{where} is empty; give a first line of column names, and one row for each example")
    names = [" ".join(cell.split()) for cell in rows[0][1]]
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{where} has two columns named {twice!r}; rename one")
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise UserError(f"{where}: line {line} has {len(row)} cells, the first line {len(names)}; correct it")
    cells = {name: [row[i].strip() for _, row in rows[1:]] for i, name in enumerate(names) if name}
    return {name: read_cells(column) for name, column in cells.items()}


@contextmanager
def _parquet(path: Path, where: str) -> Iterator[Any]:
    """Open a Parquet file; errors inside the block are one line."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f"{where} needs pyarrow; run: python -m pip install 'jaxprune[parquet]', or save the table as CSV"
        ) from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except UserError:
        raise
    except (
        pyarrow.ArrowException,
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:  # those of damaged names as well
        reason = " ".join(str(error)[:200].split()) or type(error).__name__
        raise UserError(f"{where} cannot be read as Parquet ({reason}); correct it") from None


def _read_parquet(path: Path, where: str) -> dict[str, list[Cell]]:
    with _parquet(path, where) as file:
        schema = file.schema_arrow
        images = _images_of(schema)
        names = [n for n in schema.names if n and n not in images and not n.startswith("__index_level_")]  # of pandas
        kinds = _class_names(schema.metadata or {})
        table = file.read(columns=names)
        return {name: _named(table.column(name).to_pylist(), kinds.get(name, ())) for name in names}


def _images_of(schema: Any) -> list[str]:
    import pyarrow

    def is_bytes(kind: Any) -> bool:
        return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)

    def holds_bytes(kind: Any) -> bool:
        return pyarrow.types.is_struct(kind) and any(is_bytes(child.type) for child in kind if child.name == "bytes")

    return [field.name for field in schema if is_bytes(field.type) or holds_bytes(field.type)]


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, Sequence[str]]:
    """Read class names by column, as Hugging Face's datasets store them."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _named(cells: list[Cell], names: Sequence[str]) -> list[Cell]:
    """Replace codes by their names; -1 is missing."""
    if not names:
        return cells
    return [str(names[cell]) if isinstance(cell, int) and 0 <= cell < len(names) else None for cell in cells]
