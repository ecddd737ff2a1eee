"""Matching of the rows of a table to image files."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from jaxprune.errors import UserError


def match_rows(names: Sequence[str], files: Sequence[Path], directory: Path, table: str) -> list[Path]:
    """Find the file of each row.

    There is one row for each image, and one image for each row. A row may name its image by the path from the folder,
    by the file's name alone, or by that without its suffix, where only one file has it.

    Args:
      names: [N] what the rows say.
      files: The images in the folder.
      directory: The folder.
      table: The name of the table in messages.

    Returns:
      [N] the files, in the order of the rows.

    Raises:
      UserError: There are no images; or a row has none, several or that of another row; or an image has no row.
    """
    if not files:
        raise UserError(f"--directory {directory} holds no images (.jpg, .jpeg, .png, .bmp, .webp); give their folder")
    called = _called(files, directory)
    composed = _called(files, directory, form="NFC")  # macOS names files in another Unicode form than tables do
    matches = [called.get(_plain(name)) or composed.get(_normal(_plain(name), "NFC"), []) for name in names]
    absent = [name for name, paths in zip(names, matches, strict=True) if not paths]
    if absent:
        if len(absent) == len(names):
            raise UserError(
                f"{table}: no row names an image in {directory}; the first says {names[0]!r}, the folder has "
                f"{files[0].relative_to(directory).as_posix()!r}; see --image-column and --directory"
            )
        raise UserError(
            f"{table}: {_count(len(absent), 'row')} without an image in {directory}: {_some(absent)}; "
            "add the images, or remove the rows"
        )
    for name, paths in zip(names, matches, strict=True):
        if len(paths) > 1:
            raise UserError(
                f"{table}: {name!r} may be {_some(p.relative_to(directory).as_posix() for p in paths)}; "
                f"give paths from {directory}"
            )
    chosen = [paths[0] for paths in matches]
    rows = Counter(chosen)
    repeated = [path.relative_to(directory).as_posix() for path, count in rows.items() if count > 1]
    if repeated:
        raise UserError(
            f"{table}: {_count(len(repeated), 'image')} with several rows: {_some(repeated)}; keep one row for each"
        )
    unlisted = [path.relative_to(directory).as_posix() for path in files if path not in rows]
    if unlisted:
        raise UserError(
            f"{table}: {_count(len(unlisted), 'image')} in {directory} without a row: {_some(unlisted)}; "
            "add their rows, or move them elsewhere"
        )
    return chosen


def _called(files: Iterable[Path], directory: Path, form: str = "") -> dict[str, list[Path]]:
    """Index files by every way to name them.

    A path from the folder goes before a name, and a name before a stem. Names are in a Unicode form, or as they are.
    """
    ways: tuple[dict[str, list[Path]], ...] = (defaultdict(list), defaultdict(list), defaultdict(list))
    for path in files:
        relative = path.relative_to(directory)
        for way, name in zip(ways, (relative.as_posix(), relative.name, relative.stem), strict=True):
            way[_normal(name, form)].append(path)
    by_path, by_name, by_stem = ways
    return {**by_stem, **by_name, **by_path}


def _plain(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _normal(name: str, form: str) -> str:
    return unicodedata.normalize(form, name) if form else name  # pyright: ignore[reportArgumentType]


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _some(names: Iterable[str]) -> str:
    """Join the first three names, with the number of the others."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
