"""Safe reading of npz files from strangers.

Files are checked before they are read, and never unpickled.
"""

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.errors import UserError
from jaxprune.memory import available_bytes

_STORED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_LONGEST_HEADER = 10_000  # characters; those of plain arrays have about 100
_AXES = 8
_ENCRYPTED = 0x1  # a flag of a member


def read_npz_file(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an npz file.

    The sizes that the file declares are checked against each other and against the memory that is free, before any
    array is read; no more than was declared is unpacked. Texts of bytes become texts.

    Raises:
      UserError: The file is missing or damaged, or a member is not an array of plain numbers or texts; the message
        names the member.
    """
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            _check_members(path, members)
            return {member.filename.removesuffix(".npy"): _read_member(path, file, member) for member in members}
    except FileNotFoundError:
        raise UserError(f"data.name: file {path} does not exist; give the path of an npz file") from None
    except UserError:
        raise
    except (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"data.name: {path} cannot be read as an npz file of plain arrays ({type(error).__name__}); save it "
            "anew, with numpy.savez"
        ) from None
    except MemoryError:
        raise UserError(
            f"data.name: {path} does not fit in memory; prepare it in parts, or save fewer examples"
        ) from None


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raise if a member is repeated, too large or not an array."""
    names = [member.filename for member in members]
    for member in members:
        name = member.filename
        if not name.endswith(".npy"):
            raise UserError(
                f"data.name: {path} holds {name[:60]!r}, which is not an array; save arrays alone, with numpy.savez"
            )
        if names.count(name) > 1:
            raise UserError(f"data.name: {path} holds two arrays named {name.removesuffix('.npy')!r}; save it anew")
        if member.flag_bits & _ENCRYPTED:
            raise UserError(f"data.name: {path} is encrypted ({name!r}); save it anew, with numpy.savez")
        if member.compress_type not in _STORED:
            raise UserError(
                f"data.name: {path} is compressed in a way that is not known ({name!r}); save it anew, with numpy.savez"
            )
    needed, free = sum(member.file_size for member in members), available_bytes()
    if free is not None and needed > free:
        raise UserError(
            f"data.name: {path} takes {needed / 1e9:,.1f} GB once unpacked, more than the {free / 1e9:,.1f} GB of "
            "memory that are free; save fewer examples, or images as a set to stream"
        )


def _read_member(path: Path, file: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    name = member.filename.removesuffix(".npy")
    where = f"data.name: array {name!r} in {path}"
    with file.open(member) as stream:
        shape, dtype = _read_header(stream, where)
        if dtype.hasobject:
            raise UserError(
                f"{where} holds Python objects, which are not loaded; save texts as {name}.astype(str), or numbers as "
                f"{name}.astype(float)"
            )
        if dtype.fields is not None or dtype.subdtype is not None:
            raise UserError(
                f"{where} is a table of fields ({len(dtype.fields or ())}); save each as an array of its own"
            )
        if len(shape) > _AXES or math.prod(shape) * dtype.itemsize > member.file_size:
            raise UserError(f"{where} is damaged: its header says more than the file holds; save it anew")
    with file.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False, max_header_size=_LONGEST_HEADER)
        if stream.read(1):
            raise UserError(f"{where} is damaged: the file holds more than its header says; save it anew")
    return _decoded(array, where) if dtype.kind == "S" else array


def _read_header(stream: Any, where: str) -> tuple[tuple[int, ...], np.dtype]:
    """Read the shape and type of the array that follows."""
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=_LONGEST_HEADER)
        elif version == (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(stream, max_header_size=_LONGEST_HEADER)
        else:
            raise ValueError("another version")
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise ValueError("a size that is none")
        return shape, dtype
    except Exception as error:  # what the parser raises depends on what is wrong with a header
        raise UserError(
            f"{where} is damaged: its header cannot be read ({type(error).__name__}); save it anew"
        ) from None


def _decoded(texts: np.ndarray, where: str) -> np.ndarray:
    """Decode texts stored as bytes."""
    try:
        return np.char.decode(texts, "utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{where} holds bytes that are not UTF-8 text; save texts as str") from None
