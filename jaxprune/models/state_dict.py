"""State dicts, read from PyTorch files and safetensors, and written.

Nothing in a file is executed.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.errors import UserError
from jaxprune.files import write_atomically
from jaxprune.models.packed_states import unpack_entries
from jaxprune.models.pickles import Object
from jaxprune.models.torch_files import calls_in, read_torch_file
from jaxprune.text import printable, shortened

StateDict = dict[str, np.ndarray]

_OF_MODULES = {"_parameters", "_buffers", "_modules"}  # where a torch.nn.Module keeps what its state dict has
_DEPTH = 64
_LONGEST_NAME = 500
_MOST_TENSORS = 100_000
MAX_HEADER = 16 * 2**20  # bytes of the list of tensors in a safetensors file
_Way = tuple["_Way", str, int] | None  # the way before, a key, and how many they are: tensors alone get a name


def read_state_dict(path: str | Path) -> StateDict:
    """Read every tensor of a `.safetensors`, `.pt` or `.pth` file.

    The latter two as `torch.save` writes them.

    A file of PyTorch is a pickle, which can run anything. Here it runs nothing: of what is beside the tensors, such as
    settings, an optimiser or the classes of modules, inert stand-ins are made and passed over.

    Args:
      path: The file.

    Returns:
      Name -> array. The name of a tensor inside of other values has their keys before it, with dots between, but for
      those that every tensor has: `{"state_dict": {"fc.bias": ...}}` is `fc.bias`, unless there are others beside it.
      Arrays that `export.save_packed` packed are whole again.

    Raises:
      UserError: The file is missing, is neither of the two, is damaged or unsafe to read, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"model.weights: there is no file {printable(str(path))}; give the path of a .pt or .safetensors file"
        )
    try:
        if path.suffix == ".safetensors":
            return unpack_entries(*read_safetensors(path))
        content = read_torch_file(path)
        entries = _tensors(content)
    except UserError:
        raise
    except Exception as error:
        kind = printable(shortened(f"{type(error).__name__}: {error}".removesuffix(": "), 200))
        raise UserError(
            f"model.weights: {printable(str(path))} cannot be read as a state dict ({kind}); give another file"
        ) from None
    if not entries:
        calls = calls_in(content)
        also = f" and would run {calls}, which is refused" if calls else ""
        raise UserError(
            f"model.weights: {printable(str(path))} holds something else than a state dict{also}; save "
            "model.state_dict() in its place"
        )
    return entries


def write_state_dict(
    path: str | Path, arrays: Mapping[str, np.ndarray], header: Mapping[str, str] | None = None
) -> None:
    """Write `.safetensors`, whole or not at all.

    Args:
      path: The file.
      arrays: Name -> array.
      header: Texts by name for the header of the file, which readers of the arrays pass over.

    Raises:
      UserError: The file is not called `.safetensors`.
    """
    if Path(path).suffix != ".safetensors":
        name = printable(Path(path).stem)
        raise UserError(
            f"{printable(str(path))}: the name of a weights file ends in .safetensors; call the file {name}.safetensors"
        )
    write_atomically(Path(path), to_safetensors(arrays, header))


def to_safetensors(arrays: Mapping[str, np.ndarray], header: Mapping[str, str] | None = None) -> bytes:
    """The content of the file that `write_state_dict` writes."""
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(whole, dict(header) if header else None)


def digest(entries: Mapping[str, np.ndarray]) -> str:
    """A digest of every name and array."""
    content = hashlib.sha256()
    for name, array in sorted(entries.items()):
        content.update(repr((name, array.shape, array.dtype.str)).encode())
        content.update(array.tobytes())
    return content.hexdigest()


def read_safetensors(path: Path) -> tuple[StateDict, dict[str, str]]:
    """Read the arrays and the header of a `.safetensors` file.

    Raises:
      Exception: Of any kind: the file is damaged.
    """
    from safetensors.numpy import load_file

    header = read_header(path)
    entries = load_file(path)
    if longest := [name for name in entries if len(name) > _LONGEST_NAME]:
        raise ValueError(f"the name of a tensor has {len(longest[0]):,} characters")
    return entries, header


def read_header(path: Path) -> dict[str, str]:
    """Read the texts in the header of a `.safetensors` file.

    Raises:
      Exception: Of any kind: the file is damaged.
    """
    from safetensors import safe_open

    with path.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > MAX_HEADER:
            raise ValueError(f"its header is no header, or has more than {MAX_HEADER:,} bytes")
    with safe_open(path, framework="numpy") as file:
        return file.metadata() or {}


def _tensors(content: Any) -> StateDict:
    """Every array in a value by its keys, outermost arrays first."""
    tensors: dict[tuple[str, ...], np.ndarray] = {}
    seen = set[int]()
    waiting: deque[tuple[Any, _Way]] = deque([(content, None)])
    while waiting:
        value, way = waiting.popleft()
        if id(value) in seen:  # also where a value is inside of itself
            continue
        seen.add(id(value))
        for key, inner in _parts(value):
            beyond = way if key in _OF_MODULES else (way, key, way[2] + 1 if way else 1)
            if isinstance(inner, np.ndarray):
                keys = _keys(beyond)
                if sum(map(len, keys)) <= _LONGEST_NAME:
                    tensors.setdefault(keys, inner)
            elif isinstance(inner, list | tuple | Object) and (beyond is None or beyond[2] < _DEPTH):
                waiting.append((inner, beyond))
        if len(tensors) > _MOST_TENSORS:
            raise ValueError(f"it has more than {_MOST_TENSORS:,} tensors")
    return _named(tensors)


def _keys(way: _Way) -> tuple[str, ...]:
    keys = []
    while way is not None:
        keys.append(way[1])
        way = way[0]
    return tuple(reversed(keys))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The keyed parts of a value: items, attributes and members."""
    if isinstance(value, list | tuple):
        yield from ((str(place), inner) for place, inner in enumerate(value))
    if not isinstance(value, Object):
        return
    # The last value of a key counts, as in a dict.
    pairs = {key: inner for name, inner in value.pairs if (key := _key(name)) is not None}
    yield from pairs.items()
    yield from ((str(place), inner) for place, inner in enumerate(value.members))
    states = value.state if isinstance(value.state, tuple) else (value.state,)
    for state in states:
        if isinstance(state, Object):
            yield from ((key, inner) for name, inner in state.pairs if (key := _key(name)) is not None)


def _key(name: Any) -> str | None:
    if type(name) is int and name.bit_length() < 64:
        return str(name)
    return name if isinstance(name, str) and len(name) <= _LONGEST_NAME else None


def _named(tensors: Mapping[tuple[str, ...], np.ndarray]) -> StateDict:
    """Name -> array, without common outer keys and DataParallel's prefix."""
    around = 0
    while tensors and len({keys[around] for keys in tensors if len(keys) > around + 1}) == 1:
        if any(len(keys) == around + 1 for keys in tensors):
            break
        around += 1
    entries: StateDict = {}
    for keys, value in tensors.items():
        entries.setdefault(".".join(keys[around:]), value)
    if all(name.startswith("module.") for name in entries):
        entries = {name.removeprefix("module."): value for name, value in entries.items()}
    return entries
