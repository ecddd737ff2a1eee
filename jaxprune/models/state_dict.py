"""State dicts, name -> array, read from files of PyTorch without running what is in them, and from safetensors."""

import hashlib
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxprune.errors import UserError
from jaxprune.files import write_atomically

StateDict = dict[str, np.ndarray]

_DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which training scripts store a state dict
# What every file of the form before PyTorch 1.6 begins with, pickled: a long integer.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_state_dict(path: str | Path) -> StateDict:
    """Reads `.safetensors`, or `.pt`/`.pth` as `torch.save` writes a state dict, in both of its forms.

    A file of PyTorch is a pickle, which can run anything. Only what builds tensors and plain containers is let through,
    so that nothing in the file is run.

    Args:
      path: The file.

    Returns:
      Name -> array.

    Raises:
      UserError: The file is missing, is neither of the two, or holds something else than a state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"model.weights: there is no file {path}; give the path of a .pt or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(path)
        content = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except UserError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise UserError(f"model.weights: {path} cannot be read as a state dict ({kind}: {error})") from None
    return _state_dict(content, path)


def write_state_dict(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes `.safetensors`, whole or not at all.

    Args:
      path: The file.
      arrays: Name -> array.

    Raises:
      UserError: The file is not called `.safetensors`.
    """
    if Path(path).suffix != ".safetensors":
        raise UserError(f"{path}: weights are written as safetensors; call the file {Path(path).stem}.safetensors")
    from safetensors.numpy import save

    write_atomically(Path(path), save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def digest(entries: Mapping[str, np.ndarray]) -> str:
    """A digest of every name and array."""
    found = hashlib.sha256()
    for name, array in sorted(entries.items()):
        found.update(repr((name, array.shape, array.dtype.str)).encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _state_dict(content: Any, path: Path) -> StateDict:
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, np.ndarray) for value in content.values()):
        raise UserError(
            f"model.weights: {path} holds something else than a state dict; save model.state_dict() in its place"
        )
    # DataParallel puts a name before every other
    return {str(name).removeprefix("module."): value for name, value in content.items()}


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows tensors, their storages and ordered dicts, and refuses everything else."""

    def __init__(self, file: BinaryIO, storages: Any):
        super().__init__(file, encoding="utf-8")
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("torch", "Size"): tuple,
        }
        if (module, name) in known:
            return known[module, name]
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise UserError(
            f"model.weights: the file would run {module}.{name}, which is refused; save model.state_dict() in its place"
        )

    def persistent_load(self, pid: Any) -> Any:
        return self.storages(pid)


def _tensor(storage: "np.ndarray | _Later", offset: int, size: tuple, stride: tuple, *_: Any) -> np.ndarray:
    """The view of a storage that a tensor is."""
    flat = storage.array if isinstance(storage, _Later) else storage
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if all(size) else offset - 1
    if offset < 0 or last >= len(flat) or min(stride, default=0) < 0:
        raise ValueError("a tensor reaches beyond its storage")
    steps = tuple(step * flat.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(flat[offset:], size, steps)


class _Later:
    """A storage of the older form, whose bytes come after the pickle: filled in place."""

    def __init__(self, dtype: Any, length: int):
        self.array = np.zeros(length, dtype)


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise UserError(f"model.weights: {path} is a zip file but not one of torch.save; give a state dict")
        root = pickles[0].removesuffix("data.pkl")

        def storage(pid: tuple) -> np.ndarray:
            _, dtype, key, _, length = pid
            return np.frombuffer(archive.read(f"{root}data/{key}"), dtype, count=length)

        return _Unpickler(io.BytesIO(archive.read(pickles[0])), storage).load()


def _read_legacy(path: Path) -> Any:
    storages: dict[str, _Later] = {}

    def storage(pid: tuple) -> _Later:
        _, dtype, key, _, length, *_ = pid
        return storages.setdefault(key, _Later(dtype, length))

    with path.open("rb") as file:
        if _Unpickler(file, storage).load() != _LEGACY_MAGIC:
            raise UserError(f"model.weights: {path} is not a file of torch.save; give a .pt or .safetensors file")
        _Unpickler(file, storage).load()  # the version of the form
        _Unpickler(file, storage).load()  # the machine that wrote it
        content = _Unpickler(file, storage).load()
        for key in _Unpickler(file, storage).load():
            array = storages[key].array
            length = int.from_bytes(file.read(8), "little")
            filled = np.frombuffer(file.read(length * array.itemsize), array.dtype)
            if len(filled) != len(array):
                raise ValueError("the file ends early")
            array[:] = filled
    return content
