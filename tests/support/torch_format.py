"""Files as torch.save writes them, byte by byte, without PyTorch."""

import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
}


@dataclass
class Name:
    """A global name."""

    module: str
    name: str


@dataclass
class Raw:
    """Instructions as they are."""

    code: bytes


@dataclass
class Call:
    """A call of a global name, with a state."""

    name: Name | Raw
    arguments: tuple = ()
    state: Any = None


@dataclass
class Persistent:
    """A persistent id."""

    parts: tuple


def code(value: Any) -> bytes:
    """The instructions that put a value on the stack."""
    if isinstance(value, Raw):
        return value.code
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(content)]) + content
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        content = value.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(content)) + content
    if isinstance(value, tuple):
        return b"(" + b"".join(map(code, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(code, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(code(key) + code(inner) for key, inner in value.items()) + b"u"
    if isinstance(value, Name):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        state = b"" if value.state is None else code(value.state) + b"b"
        return code(value.name) + code(value.arguments) + b"R" + state
    assert isinstance(value, Persistent)
    return code(value.parts) + b"Q"


def dump(value: Any) -> bytes:
    """A pickle of protocol 2."""
    return b"\x80\x02" + code(value) + b"."


def storage(key: str, array: np.ndarray, *, legacy: bool = False, **changed: Any) -> Persistent:
    """The persistent id of a storage."""
    kind = changed.get("kind", Name("torch", STORAGES[array.dtype.name]))
    pid = ("storage", kind, key, "cpu", changed.get("length", array.size))
    return Persistent((*pid, None) if legacy else pid)


def tensor(store: Any, offset: Any, shape: Any, strides: Any) -> Call:
    """A tensor as a view of a storage."""
    return Call(
        Name("torch._utils", "_rebuild_tensor_v2"),
        (store, offset, shape, strides, False, Call(Name("collections", "OrderedDict"))),
    )


def _placed(value: Any, arrays: dict[str, np.ndarray], legacy: bool) -> Any:
    """The value with tensors in the place of arrays, which are gathered by their keys."""
    if isinstance(value, np.ndarray):
        key = str(len(arrays))
        arrays[key] = np.array(value, order="C")
        strides = tuple(step // value.itemsize for step in arrays[key].strides)
        return tensor(storage(key, value, legacy=legacy), 0, value.shape, strides)
    if isinstance(value, dict):
        return {key: _placed(inner, arrays, legacy) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_placed(inner, arrays, legacy) for inner in value)
    if isinstance(value, Call):
        return Call(value.name, _placed(value.arguments, arrays, legacy), _placed(value.state, arrays, legacy))
    return value


def write_torch(path: Path, value: Any, *, legacy: bool = False) -> Path:
    """Writes a value, whose arrays become tensors, as torch.save does."""
    arrays: dict[str, np.ndarray] = {}
    content = dump(_placed(value, arrays, legacy))
    path.write_bytes(older_form(content, arrays) if legacy else zip_form(content, arrays))
    return path


def zip_form(content: bytes, arrays: dict[str, np.ndarray], **options: Any) -> bytes:
    """The zip file of a pickle and its storages."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", b"little")
        for key, array in arrays.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
    return file.getvalue()


def older_form(content: bytes, arrays: dict[str, np.ndarray]) -> bytes:
    """The pickles and storages of the form before PyTorch 1.6."""
    machine = {"protocol_version": 1001, "little_endian": True}
    stored = [struct.pack("<q", array.size) + array.tobytes() for array in arrays.values()]
    return b"".join([dump(MAGIC), dump(1001), dump(machine), content, dump(list(arrays)), *stored])
