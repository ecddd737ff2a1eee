"""Results as plain values for JSON, and back."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Plain values for `json.dump`; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value


def to_arrays(value: Any) -> np.ndarray:
    """An array from what `to_plain` gave."""
    array = np.array(value, dtype=object)
    if array.size and all(isinstance(v, bool) for v in array.ravel()):
        return array.astype(bool)
    return np.array(np.where(array == None, np.nan, array), dtype=float)  # noqa: E711 (elementwise)


def fields_of(kind: type[T], values: Mapping[str, Any], read: Callable[[Any], Any] | None = None) -> T:
    """A NamedTuple from plain values by the names of its fields."""
    read = read or to_arrays
    names: tuple[str, ...] = kind._fields  # pyright: ignore[reportAttributeAccessIssue]
    return kind(**{name: np.nan if values[name] is None else read(values[name]) for name in names})
