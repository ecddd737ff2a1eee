"""Reads files of torch.save in both formats, within bounds.

The newer form is a zip file of a pickle and of one member for each storage, not compressed; the form before PyTorch 1.6
is a sequence of pickles, after which the storages follow. A tensor is a view of a storage. A file may come from a
stranger: every number in it is checked, as an integer of Python, before it is used.
"""

import io
import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxprune.errors import UserError
from jaxprune.models.pickles import Named, Object, Rebuild, read_pickle
from jaxprune.text import printable, shortened

_TYPES: dict[str, Any] = {
    "Float": np.float32, "Double": np.float64, "Half": np.float16, "BFloat16": ml_dtypes.bfloat16,
    "Long": np.int64, "Int": np.int32, "Short": np.int16, "Char": np.int8, "Byte": np.uint8, "Bool": np.bool_,
    "ComplexFloat": np.complex64, "ComplexDouble": np.complex128,
    "QInt8": np.int8, "QUInt8": np.uint8, "QInt32": np.int32, "Untyped": np.uint8,
}  # fmt: skip
_STORAGES = {f"{name}Storage": np.dtype(kind) for name, kind in _TYPES.items()}
# The tensors of these types are views of untyped storages.
_DTYPES = {name: np.dtype(name) for name in ("uint16", "uint32", "uint64")} | {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
}
# What every file of the form before PyTorch 1.6 begins with, pickled: a long integer.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
MAX_DIRECTORY = 4 * 2**20  # bytes of the list of members, that of some 40,000 tensors
_PICKLE = 256 * 2**20  # bytes of the pickle of a zip file
_VIEWS = 8  # by how often tensors may repeat what the file holds, as tied and expanded ones do
_SPARE = 16 * 2**20
_DIMENSIONS = 32
_SMALL = 4096
_BIG_ENDIAN = "it was written on a big-endian machine; save it again on another"


def read_torch_file(path: Path) -> Any:
    """Read a file of torch.save: arrays for tensors, inert stand-ins otherwise.

    Args:
      path: The file.

    Returns:
      A value as of `read_pickle`; tensors are arrays.

    Raises:
      UserError: It is no file of torch.save.
      Exception: It is damaged, or made to harm; the kind of the error tells nothing more.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return (_read_zip if zipfile.is_zipfile(file) else _read_legacy)(_Bounded(file, size), size, path)


def calls_in(content: Any) -> str:
    """Names of what unpickling would have called, for an error message."""
    outermost = [content]
    if isinstance(content, Object):
        outermost += [value for _, value in content.pairs]
    elif isinstance(content, list | tuple):
        outermost += content
    makers = [value.maker for value in outermost if isinstance(value, Object)]
    named = {f"{maker.module}.{maker.name}": None for maker in makers if isinstance(maker, Named)}
    return ", ".join(
        printable(shortened(name, 100)) for name in list(named)[:3] if name not in ("builtins.dict", "builtins.set")
    )


class _Bounded(io.RawIOBase):
    """A file that limits how much is read at a time."""

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.size, self.most = file, size, MAX_DIRECTORY
        file.seek(0)

    def read(self, size: int = -1, /) -> bytes:
        if size is not None and 0 <= size <= _SMALL:  # nearly always, and it is read from often
            return self.file.read(size)
        rest = max(self.size - self.file.tell(), 0)
        size = rest if size is None or size < 0 else min(size, rest)
        if size > self.most:
            raise ValueError("it lists too many members")
        return self.file.read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self.file.readline(-1 if size is None else size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


@dataclass(eq=False)
class _Storage:
    """The numbers of a storage; the older format fills them in later."""

    array: np.ndarray


class _Tensors:
    """Makes arrays from the tensors that a pickle describes."""

    def __init__(self, size: int):
        self.left = _VIEWS * size + _SPARE
        self.rebuild: Rebuild = {
            ("collections", "OrderedDict"): _ordered_dict,
            ("torch", "Size"): lambda numbers=(): tuple(numbers),
            ("torch._utils", "_rebuild_tensor"): self.view,
            ("torch._utils", "_rebuild_tensor_v2"): self.view,
            ("torch._utils", "_rebuild_tensor_v3"): self.typed_view,
            ("torch._utils", "_rebuild_qtensor"): self.view,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
            ("torch._tensor", "_rebuild_from_type_v2"): self.of_subclass,
        }

    def view(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
        """The view of a storage that a tensor is."""
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor is a view of something else than a storage")
        return self._view(storage.array, offset, shape, strides)

    def typed_view(self, storage: Any, offset: Any, shape: Any, strides: Any, _: Any, __: Any, kind: Any, *___: Any):
        """The view of an untyped storage, or a stand-in without numpy type."""
        if not isinstance(storage, _Storage) or not isinstance(kind, Named):
            raise ValueError("a tensor is a view of something else than a storage")
        if kind.module != "torch" or kind.name not in _DTYPES:
            return Object(kind)
        dtype = _DTYPES[kind.name]
        # The bytes are those of this very storage, also where they are filled in later.
        whole = len(storage.array) // dtype.itemsize * dtype.itemsize
        return self._view(storage.array[:whole].view(dtype), offset, shape, strides)

    def of_subclass(self, function: Any, _: Any, arguments: Any, *__: Any) -> Any:
        """The tensor inside one of a class of its own."""
        known = self.rebuild.get((function.module, function.name)) if isinstance(function, Named) else None
        return known(*arguments) if known and isinstance(arguments, tuple) else Object(function)

    def _view(self, flat: np.ndarray, offset: Any, shape: Any, strides: Any) -> np.ndarray:
        shape, strides = _sizes(shape), _sizes(strides)
        offset = _sizes((offset,))[0]
        if len(shape) != len(strides):
            raise ValueError("a tensor has other strides than sizes")
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) if all(shape) else -1
        if last >= len(flat):
            raise ValueError("a tensor reaches beyond its storage")
        self.left -= math.prod(shape) * flat.itemsize
        if self.left < 0:
            raise ValueError("its tensors hold more than the file")
        if not all(shape):
            return np.zeros(shape, flat.dtype)
        steps = tuple(step * flat.itemsize for step in strides)
        return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps)


def _sizes(numbers: Any) -> tuple[int, ...]:
    if not isinstance(numbers, tuple) or not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
        raise ValueError("a tensor has sizes or strides that are no whole numbers from 0 on")
    if len(numbers) > _DIMENSIONS:
        raise ValueError("a tensor has too many dimensions")
    return numbers


def _ordered_dict(items: Any = ()) -> Object:
    """An OrderedDict; its items follow, or are pairs as in Python 2."""
    if not all(isinstance(item, list | tuple) and len(item) == 2 for item in items):
        raise ValueError("an OrderedDict has something else than pairs")
    return Object(Named("collections", "OrderedDict"), pairs=[(key, value) for key, value in items])


def _storage_id(pid: Any) -> tuple[np.dtype, str, int, Any]:
    """Type, key and length of a storage, and the part viewed."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        raise ValueError("a persistent id is none of a storage")
    _, kind, key, _, length, *view = pid
    if not isinstance(kind, Named) or kind.module not in ("torch", "torch.storage") or kind.name not in _STORAGES:
        raise ValueError("a storage is of a type that is not known")
    if not isinstance(key, str) or len(key) > 100:
        raise ValueError("a storage has something else than a text for a key")
    return _STORAGES[kind.name], key, _sizes((length,))[0], view[0] if view else None


def _read_zip(file: _Bounded, size: int, path: Path) -> Any:
    with zipfile.ZipFile(file) as archive:  # pyright: ignore[reportArgumentType]
        file.most = size
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise UserError(
                f"model.weights: {printable(str(path))} is a zip file but not one of torch.save; give a state dict"
            )
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in names and _member(archive, f"{root}byteorder", 16) != b"little":
            raise ValueError(_BIG_ENDIAN)
        tensors, left, members = _Tensors(size), [size], dict[str, bytes]()

        def storage(pid: Any) -> Any:
            dtype, key, length, _ = _storage_id(pid)
            if key not in members:
                members[key] = _member(archive, f"{root}data/{key}", left[0])
                left[0] -= len(members[key])
            if length * dtype.itemsize > len(members[key]):
                raise ValueError("a storage is longer than its member")
            return _Storage(np.frombuffer(members[key], dtype, length))

        code = _member(archive, pickles[0], min(size, _PICKLE))
        return read_pickle(io.BytesIO(code), rebuild=tensors.rebuild, persistent=storage)


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise ValueError("a member is compressed, which torch.save never does")
    if info.file_size > most:
        raise ValueError("its members hold more than the file")
    if info.CRC == 0:  # torch.save can be asked not to compute it; one that is not there is not checked
        del info.CRC
    return archive.read(info)


def _read_legacy(file: _Bounded, size: int, path: Path) -> Any:
    file.most = size
    tensors = _Tensors(size)
    roots: dict[str, np.ndarray] = {}
    left = [size]

    def storage(pid: Any) -> Any:
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":  # a class, with its source
            return pid[1]
        dtype, key, length, view = _storage_id(pid)
        if key not in roots:
            left[0] -= length * dtype.itemsize
            if left[0] < 0:
                raise ValueError("its storages hold more than the file")
            roots[key] = np.zeros(length, dtype)
        if roots[key].dtype != dtype or len(roots[key]) != length:
            raise ValueError("a storage has two types or lengths")
        return _Storage(roots[key] if view is None else _part(roots[key], view))

    def read(persistent: Callable[[Any], Any]) -> Any:
        return read_pickle(file, rebuild=tensors.rebuild, persistent=persistent)

    first = read(storage)
    if type(first) is not int or first != _LEGACY_MAGIC:
        calls = calls_in(first)
        also = f" (it would run {calls}, which is refused)" if calls else ""
        raise UserError(
            f"model.weights: {printable(str(path))} is not a file of torch.save{also}; give a .pt or .safetensors file"
        )
    read(storage)  # the version of the form
    machine = read(storage)
    pairs = machine.pairs if isinstance(machine, Object) else []
    if any(isinstance(key, str) and key == "little_endian" and value is False for key, value in pairs):
        raise ValueError(_BIG_ENDIAN)
    content = read(storage)
    keys = read(storage)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(roots):
        raise ValueError("it lists other storages than its tensors have")
    for key in keys:
        _fill(roots[key], file)
    return content


def _part(root: np.ndarray, view: Any) -> np.ndarray:
    """The part of a storage that is another storage."""
    if not isinstance(view, tuple) or len(view) != 3:
        raise ValueError("a storage is a part of another one, not told which")
    offset, length = _sizes(view[1:])
    if offset + length > len(root):
        raise ValueError("a storage reaches beyond the one that it is a part of")
    return root[offset : offset + length]


def _fill(array: np.ndarray, file: _Bounded) -> None:
    if int.from_bytes(file.read(8), "little") != len(array):
        raise ValueError("a storage has two lengths")
    content = file.read(array.nbytes)
    if len(content) != array.nbytes:
        raise ValueError("the file ends early")
    array[:] = np.frombuffer(content, array.dtype)
