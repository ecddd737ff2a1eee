"""Sparse networks as masks of bits and the kept values."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import models
from jaxprune.errors import UserError
from jaxprune.export.descriptions import Description, header_of, read_arrays, write_sparse
from jaxprune.models.packed_states import pack_entries, unpack_entries, unpack_masks_of
from jaxprune.models.state_dict import StateDict
from jaxprune.text import printable
from jaxprune.types import Masks, Params, Stats


def save_packed(
    path: str | Path,
    params: Params,
    stats: Stats,
    masks: Masks | None = None,
    description: Description | None = None,
    *,
    warn: Callable[[str], None] = warnings.warn,
) -> None:
    """Write a sparse network as `.safetensors` without its zeros.

    The names and layouts are those of `models.save_weights`, and `models.load_weights` reads the file as well.
    `save_compact` with `form="packed"` does so for a compact network.

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
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxprune import export, models, pruning
      >>> _, params, stats = models.create("mlp", jax.random.key(0), jnp.zeros(16), num_classes=2)
      >>> params, masks = pruning.prune(params, 0.9, criterion=pruning.magnitude())
      >>> export.save_packed("sparse.safetensors", params, stats, masks)
      >>> restored, _, _ = export.load_packed("sparse.safetensors", params, stats)
      >>> bool((restored["dense_0"]["kernel"] == params["dense_0"]["kernel"]).all())
      True
    """
    entries = models.to_state_dict(params, stats)
    arrays, layout = pack_entries(entries, None if masks is None else masks_by_name(masks))
    described = header_of(description)
    write_sparse(path, arrays, layout | described, plain=entries, plain_header=described, warn=warn)


def load_packed(path: str | Path, params: Params, stats: Stats) -> tuple[Params, Stats, Masks]:
    """Read a network that `save_packed` wrote.

    Args:
      path: The file.
      params: Parameters of the network, of which only structure, shapes and types matter.
      stats: Its statistics, likewise.

    Returns:
      The parameters, exactly as they were, the statistics and the masks, which are True in all of an array that was
      left with its zeros since these are few.

    Raises:
      UserError: The file is missing, damaged, of another network, or of a compact one, which `load_compact` reads.
    """
    arrays, header = read_arrays(path)
    where = str(path)
    try:
        entries, masks = unpack_entries(arrays, header), unpack_masks_of(arrays, header)
    except Exception as error:  # numpy's too, of a header that somebody wrote by hand
        raise UserError(f"{printable(where)} is damaged ({printable(str(error)[:200])}); export it anew") from None
    with models.naming_layouts(path):
        restored = models.from_state_dict(entries, params, stats, where=where)
    whole = jax.tree.map(jnp.ones_like, params)
    bools = {name: masks.get(name, np.ones(one.shape, bool)) for name, one in models.to_state_dict(whole, ()).items()}
    floats: StateDict = {name: mask.astype(np.float32) for name, mask in bools.items()}
    kept = models.from_state_dict(floats, whole, (), where=where)[0]
    return *restored, jax.tree.map(lambda leaf: leaf != 0, kept)


def masks_by_name(masks: Masks) -> dict[str, Any]:
    """The masks as a state dict."""
    floats = jax.tree.map(lambda mask: np.asarray(mask, np.float32), masks)
    return {name: array != 0 for name, array in models.to_state_dict(floats, ()).items()}
