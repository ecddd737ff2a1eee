"""Compact networks: their smaller arrays, and the channels that were kept."""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax.experimental.sparse import BCOO

from jaxprune import models, pruning
from jaxprune.errors import UserError, unknown
from jaxprune.export.bcoo import load_bcoo, to_coordinates
from jaxprune.export.descriptions import Description, header_of, read_arrays, write_sparse
from jaxprune.export.packed import masks_by_name
from jaxprune.models.layouts import COORDINATES, KEPT
from jaxprune.models.packed_states import pack_entries, unpack_entries
from jaxprune.models.state_dict import StateDict
from jaxprune.networks import Network
from jaxprune.text import printable
from jaxprune.types import Apply, Masks, Params, Stats

FORMS = ("safetensors", "packed", "bcoo")


def save_compact(
    path: str | Path,
    network: pruning.Compact,
    description: Description | None = None,
    *,
    form: str = "safetensors",
    masks: Masks | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> None:
    """Write a compact network as `.safetensors`.

    The arrays have the names and layouts of `models.save_weights`, so that a network of those widths reads them in
    PyTorch; the channels that were kept are in the header.

    Args:
      path: The file.
      network: The network, without a replica axis.
      description: Further plain values for the header.
      form: "safetensors"; or "packed" or "bcoo", as `save_packed` or `save_bcoo` write it, where further weights are 0.
      masks: Bools in the structure of `network.params`, True = kept, for the latter two; None where every 0 is pruned.
      warn: Told where "safetensors" would take fewer bytes than "packed" or "bcoo".

    Raises:
      UserError: The file is not called `.safetensors`, the form is unknown, or a pruned weight is not 0.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from jaxprune import export, models, pruning
      >>> sample = jnp.zeros((1, 8))
      >>> network, params, stats = models.create("mlp", jax.random.key(0), sample[0], num_classes=2, hidden=(16,))
      >>> found = pruning.couplings(network, params, stats, sample=sample)
      >>> masks = found.masks({found[0].name: jnp.arange(16) < 5}, params)
      >>> smaller = pruning.compact(network, params, stats, masks, sample=sample)
      >>> export.save_compact("compact.safetensors", smaller)
      >>> export.read_description("compact.safetensors")["compact"]
      {'dense_0/kernel[1]': {'of': 16, 'kept': 5, 'channels': [0, 1, 2, 3, 4]}}
      >>> restored = export.load_compact("compact.safetensors", network, params, stats, sample=sample)
      >>> restored.params["dense_0"]["kernel"].shape
      (8, 5)
    """
    if form not in FORMS:
        raise unknown("form", form, FORMS, listed=True)
    plain = models.to_state_dict(network.params, network.stats)
    header = {KEPT: json.dumps({"version": 1, "couplings": kept_channels(network)})} | header_of(description)
    if form == "safetensors":
        models.write_state_dict(path, plain, header)
        return
    if form == "packed":
        arrays, layout = pack_entries(plain, None if masks is None else masks_by_name(masks))
    else:
        arrays, layout = to_coordinates(network.params, network.stats, masks)
    write_sparse(path, arrays, layout | header, plain=plain, plain_header=header, warn=warn)


def kept_channels(network: pruning.Compact) -> dict[str, dict[str, Any]]:
    """The channels of a compact network as plain values.

    Returns:
      Coupling -> "of", the channels of the dense network, "kept", how many are left, and "channels", which, in order;
      couplings that are kept whole are left out.
    """
    sizes, kept = network.couplings.sizes, network.kept
    return {
        name: {"of": sizes[name], "kept": len(channels), "channels": np.asarray(channels).tolist()}
        for name, channels in kept.items()
    }


def load_compact(
    path: str | Path, network: Network | Apply, params: Params, stats: Stats = (), *, sample: Any
) -> pruning.Compact:
    """Read a compact network that `save_compact` wrote, in any of its forms.

    Args:
      path: The file.
      network: The dense network that it was made of.
      params: The dense network's parameters, of which only structure, shapes and types matter.
      stats: Its statistics, likewise.
      sample: [B, ...] inputs, or their shape and type.

    Returns:
      The compact network, with the parameters and statistics of the file.

    Raises:
      UserError: The file is missing, damaged, or of another network.
    """
    arrays, header = read_arrays(path)
    where = printable(str(path))
    try:
        kept = {name: _indices(each) for name, each in json.loads(header[KEPT])["couplings"].items()}
        whole = _state_dict_of(path, arrays, header)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{where} is no compact network, or is damaged; export it anew") from None
    couplings = pruning.couplings(network, params, stats, sample=sample)
    keep = {}
    for name, (size, indices) in kept.items():
        if couplings.sizes.get(name) != size:
            raise UserError(
                f"{where} was made of a network with {size} channels {printable(name)}, which this one has not; "
                "build the dense network with the settings that it had"
            )
        keep[name] = np.isin(np.arange(size), indices)
    smaller = pruning.compact(network, params, stats, couplings.masks(keep, params), sample=sample, couplings=couplings)
    values = models.from_state_dict(whole, smaller.params, smaller.stats, where=str(path))
    return pruning.Compact(smaller.network, *values, kept=smaller.kept, couplings=couplings)


def _state_dict_of(path: str | Path, arrays: StateDict, header: Mapping[str, str]) -> StateDict:
    """The arrays of any form with their zeros, as a state dict."""
    if COORDINATES not in header:
        return unpack_entries(arrays, header)
    leaves = {
        name: matrix.todense() if isinstance(matrix, BCOO) else matrix for name, matrix in load_bcoo(path).items()
    }
    # A tree of one level has the names of the leaves, whose last part alone decides the layout.
    return models.to_state_dict({name.partition("/")[2]: leaf for name, leaf in leaves.items()}, {})


def _indices(plain: Any) -> tuple[int, np.ndarray]:
    """The size of a coupling and the channels kept, checked."""
    size, channels = plain["of"], plain["channels"]
    indices = np.array(channels, int)
    rising = indices.ndim == 1 and len(indices) and (np.diff(indices) > 0).all()
    if not isinstance(size, int) or not rising or indices[0] < 0 or indices[-1] >= size:
        raise ValueError("the channels are not rising places in a coupling")
    return size, indices
