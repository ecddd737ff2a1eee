"""Sparse networks as coordinates and values, for `jax.experimental.sparse`.

An array of which most entries are pruned is kept as two arrays:

    NAME:positions  [kept] the row-major positions of its kept entries, in rising order, of the smallest unsigned type
    NAME:values     [kept]

All other arrays stay as they are. The header of the file has the shapes.
"""

import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO

from jaxprune import models
from jaxprune.errors import UserError
from jaxprune.export.descriptions import Description, header_of, read_arrays, write_sparse
from jaxprune.models.layouts import COORDINATES
from jaxprune.models.state_dict import StateDict
from jaxprune.text import printable
from jaxprune.trees import named_leaves
from jaxprune.types import Masks, Params, Stats

_POSITIONS, _VALUES = ":positions", ":values"


def save_bcoo(
    path: str | Path,
    params: Params,
    stats: Stats,
    masks: Masks | None = None,
    description: Description | None = None,
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> None:
    """Write a sparse network as coordinates, in `.safetensors`.

    `save_compact` with `form="bcoo"` does so for a compact network.

    Args:
      path: The file.
      params: The parameters, without a replica axis, 0 where they are pruned.
      stats: The statistics.
      masks: Bools in the structure of `params`, True = kept; None where every 0 is pruned.
      description: Plain values for the header.
      warn: Told where `models.save_weights` would take fewer bytes.

    Raises:
      UserError: The file is not called `.safetensors`, or a pruned weight is not 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import export
      >>> export.save_bcoo("coordinates.safetensors", {"w": jnp.eye(64)}, {})
      >>> export.load_bcoo("coordinates.safetensors")["params/w"].nse
      64
    """
    arrays, layout = to_coordinates(params, stats, masks)
    described = header_of(description)
    plain = models.to_state_dict(params, stats)
    write_sparse(path, arrays, layout | described, plain=plain, plain_header=described, warn=warn)


def to_coordinates(params: Params, stats: Stats, masks: Masks | None) -> tuple[StateDict, dict[str, str]]:
    """The arrays of `save_bcoo`, and the header that `load_bcoo` needs.

    Raises:
      UserError: A pruned weight is not 0.
    """
    arrays: StateDict = {}
    shapes: dict[str, list[int]] = {}
    kept_of = {} if masks is None else {f"params/{name}": np.asarray(mask) for name, mask in named_leaves(masks)}
    for name, leaf in named_leaves({"params": params, "stats": stats}):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            continue  # the state of a random generator, which belongs to the run
        array = np.asarray(leaf)
        kept = kept_of.get(name, array != 0 if name.startswith("params/") else np.ones(array.shape, bool))
        if (array[~kept] != 0).any():
            raise UserError(f"masks: {name} has values other than 0 where it is pruned; apply the masks first")
        positions = np.flatnonzero(kept).astype(np.min_scalar_type(max(array.size - 1, 0)))
        if positions.nbytes + len(positions) * array.itemsize < array.nbytes:
            arrays[f"{name}{_POSITIONS}"], arrays[f"{name}{_VALUES}"] = positions, array[kept]
            shapes[name] = list(array.shape)
        else:
            arrays[name] = array
    return arrays, {COORDINATES: json.dumps({"version": 1, "shapes": shapes})}


def load_bcoo(path: str | Path) -> dict[str, BCOO | jax.Array]:
    """Read a network that `save_bcoo` wrote; its own code is not needed.

    Args:
      path: The file.

    Returns:
      Path, such as "params/dense_0/kernel" -> `BCOO` matrix, all of whose axes are sparse, or an array. Kernels are
      [D, E] and [height, width, D, E]; `.todense()` is exactly what was written.

    Raises:
      UserError: The file is missing or damaged.
    """
    arrays, header = read_arrays(path)
    try:
        shapes = json.loads(header[COORDINATES])["shapes"]
        return _matrices(arrays, {name: tuple(shape) for name, shape in shapes.items()})
    except KeyError as error:
        fault = f"it has no {error.args[0]}"
    except Exception as error:
        fault = str(error)[:200]
    raise UserError(f"{printable(str(path))} is not one of save_bcoo ({printable(fault)}); export the network anew")


def _matrices(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    left = dict(arrays)
    matrices: dict[str, Any] = {}
    for name, shape in shapes.items():
        positions, values = left.pop(f"{name}{_POSITIONS}").astype(np.int64), left.pop(f"{name}{_VALUES}")
        if positions.shape != values.shape or positions.ndim != 1 or (np.diff(positions) <= 0).any():
            raise ValueError(f"{name} has positions that are not one for each value, in rising order")
        if len(positions) and positions[-1] >= math.prod(shape):
            raise ValueError(f"{name} has positions outside of {list(shape)}")
        indices = np.stack(np.unravel_index(positions, shape), -1).astype(np.int32)
        matrices[name] = BCOO(
            (jnp.asarray(values), jnp.asarray(indices)), shape=shape, indices_sorted=True, unique_indices=True
        )
    return matrices | {name: jnp.asarray(array) for name, array in left.items()}
