"""Descriptions of exported networks, within or beside their files."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxprune import models
from jaxprune.errors import UserError
from jaxprune.models.layouts import KEPT
from jaxprune.models.state_dict import StateDict, read_header, read_safetensors
from jaxprune.text import printable

T = TypeVar("T")
Description = Mapping[str, Any]  # plain values, as of JSON
KEY = "jaxprune.description"  # in the header of a safetensors file


def beside(path: str | Path) -> Path:
    """The file of the description of a file that has no header."""
    path = Path(path)
    return path.with_name(f"{path.name}.json")


def header_of(description: Description | None) -> dict[str, str]:
    """The description as an entry of a safetensors header."""
    return {} if description is None else {KEY: json.dumps(description)}


def read_description(path: str | Path) -> dict[str, Any]:
    """Read what an exported network is and takes.

    Args:
      path: A file that this package wrote.

    Returns:
      Plain values: with `jaxprune export`, the network, its seed, the inputs and the labels. Of a compact network also
      "compact": coupling -> "of", the channels of the dense network, "kept", how many are left, and "channels", which.
      Empty where the file was written without a description.

    Raises:
      UserError: The file or its description is missing or damaged.
    """
    path = Path(path)
    channels = "{}"
    if path.suffix == ".safetensors":
        header = _read(path, read_header)
        text, channels = header.get(KEY, "{}"), header.get(KEPT, "{}")
    else:
        try:
            text = beside(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{printable(str(beside(path)))} cannot be read ({error}); export the network anew"
            ) from None
    try:
        description, of_channels = json.loads(text), json.loads(channels)
        compact = {"compact": of_channels["couplings"]} if of_channels else {}
        return {**description, **compact}
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{printable(str(path))} has a damaged description; export the network anew") from None


def read_arrays(path: str | Path) -> tuple[StateDict, dict[str, str]]:
    """The arrays and the header of a safetensors file.

    Raises:
      UserError: It is missing or damaged.
    """
    return _read(path, read_safetensors)


def write_sparse(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    header: Mapping[str, str],
    *,
    plain: Mapping[str, np.ndarray],
    plain_header: Mapping[str, str],
    warn: Callable[[str], None],
) -> None:
    """Write arrays without their zeros, and say where that saves nothing.

    Args:
      path: The file.
      arrays: Those without zeros.
      header: Texts for the header of the file.
      plain: The same arrays with zeros, as `models.save_weights` has them.
      plain_header: The header that they would have.
      warn: Told where the plain file would be smaller.
    """
    models.write_state_dict(path, arrays, header)
    size, with_zeros = Path(path).stat().st_size, len(models.to_safetensors(plain, plain_header))
    if size > with_zeros:
        warn(
            f"{path} has {size:,} bytes, and would have {with_zeros:,} as plain safetensors: there are too few zeros "
            "to leave out"
        )


def _read(path: str | Path, read: Callable[[Path], T]) -> T:
    try:
        return read(Path(path))
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{printable(str(path))} cannot be read ({printable(reason)}); export the network anew"
        ) from None
