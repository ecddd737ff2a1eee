"""Conversion between our networks and PyTorch's state dicts.

A name is the path with dots: `layer1/0/conv1/kernel` is `layer1.0.conv1.weight`. Convolutions change from
[height, width, D, E] to [E, D, height, width], dense layers from [D, E] to [E, D].
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.errors import UserError
from jaxprune.models.layouts import Misfit, naming_layouts
from jaxprune.models.matching import IGNORED, network_entries, parts_of
from jaxprune.models.state_dict import StateDict, read_state_dict, write_state_dict
from jaxprune.text import name_some, printable, shortened
from jaxprune.trees import leaf_path, named_leaves
from jaxprune.types import Params, Stats

_THEIRS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_COMPARED = 1_000  # names that a missing one is compared with


def load_weights(path: str | Path, params: Params, stats: Stats, *, new_head: bool = False) -> tuple[Params, Stats]:
    """Load parameters and statistics for a network from a file.

    Args:
      path: A state dict, `.pt`, `.pth` or `.safetensors`, or a checkpoint with one inside: docs/networks.md says
        which entries are taken.
      params: The parameters of the network, without a replica axis; only their structure, shapes and types matter,
        but for a new head, which is taken from them.
      stats: The statistics, likewise.
      new_head: Whether the last layer of the file may be for another number of classes; that of `params` then stays.

    Returns:
      The parameters and the statistics.

    Raises:
      UserError: The file cannot be read, has missing, surplus or misshapen entries (which are named), or holds a
        compact network or coordinates, which functions of `jaxprune.export` read.
    """
    entries = read_state_dict(path)
    with naming_layouts(path):
        return from_state_dict(entries, params, stats, new_head=new_head, where=str(path))


def save_weights(path: str | Path, params: Params, stats: Stats) -> None:
    """Write parameters and statistics as `.safetensors` for PyTorch's networks.

    Args:
      path: The file.
      params: The parameters, without a replica axis.
      stats: The statistics.

    Raises:
      UserError: The file is not called `.safetensors`.
    """
    write_state_dict(path, to_state_dict(params, stats))


def to_state_dict(params: Params, stats: Stats) -> StateDict:
    """Name -> array, [E, D, height, width] for convolutions and [E, D] for dense layers.

    Args:
      params: The parameters, without a replica axis.
      stats: The statistics.
    """
    entries = {}
    for tree in (params, stats):
        for path, leaf in _leaves(tree):
            entries[_name(path)] = _to_theirs(path[-1], np.asarray(leaf))
    return entries


def from_state_dict(
    entries: StateDict, params: Params, stats: Stats, *, new_head: bool = False, where: str = "the state dict"
) -> tuple[Params, Stats]:
    """Parameters and statistics from a state dict.

    Args:
      entries: Name -> array, as `to_state_dict` gives them, or with a prefix before every name, and others beside.
      params: Parameters of the network that they are for, without a replica axis.
      stats: Its statistics.
      new_head: Whether the last layer may differ in shape or be missing, and then stays as it is in `params`.
      where: What the entries are called in messages.

    Returns:
      Parameters and statistics.

    Raises:
      UserError: Entries are missing, surplus, of another shape or no floating-point numbers, or several networks fit.
    """
    expected, where = _expected(params, stats), printable(str(where))
    prefix, entries = network_entries(entries, expected, new_head=new_head, where=where)
    where = f"{where}, under {printable(shortened(prefix.removesuffix('.'), 120))}," if prefix else where
    entries = {name: value for name, value in entries.items() if not name.endswith(IGNORED)}
    wrong = {name for name in expected if name in entries and entries[name].shape != expected[name]}
    missing = _missing_head(entries, expected) if new_head else set()
    stays = _new_head(wrong | missing, where) if new_head else set()
    _check(entries, {name: shape for name, shape in expected.items() if name not in missing}, wrong - stays, where)

    def take(path: tuple[str, ...], leaf: Any) -> Any:
        name = _name(path)
        if name in stays:
            return leaf
        with np.errstate(over="ignore"):
            value = entries[name].astype(leaf.dtype)
        if not np.isfinite(value).all():
            raise UserError(f"model.weights: {where} has NaN or infinite values in {name}; take another file")
        return jnp.asarray(_to_ours(path[-1], value))

    return _map(take, params), _map(take, stats)


def select_entries(
    entries: StateDict, params: Params, stats: Stats, *, new_head: bool = False, where: str = "the state dict"
) -> StateDict:
    """Select a network's entries of a file, under the network's names.

    Args:
      entries: Name -> array, as `read_state_dict` gives them.
      params: The parameters of the network, without a replica axis.
      stats: Its statistics.
      new_head: Whether the last layer may differ in shape or be missing.
      where: What the entries are called in messages.

    Returns:
      The entries under the prefix that fits best, without it, and with masks multiplied in. Entries there that the
      network lacks are left in; `from_state_dict` says what is wrong with them.

    Raises:
      UserError: Several prefixes fit equally well, with different values.
    """
    return network_entries(entries, _expected(params, stats), new_head=new_head, where=printable(str(where)))[1]


def _expected(params: Params, stats: Stats) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every entry of a network."""
    return {
        _name(path): _to_theirs(path[-1], np.empty(leaf.shape, bool)).shape
        for tree in (params, stats)
        for path, leaf in _leaves(tree)
    }


def _missing_head(entries: StateDict, expected: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Return the entries of the only missing layer, if dense.

    A network for features alone lacks its last layer.
    """
    missing = {name for name in expected if name not in entries}
    layers = {name.rpartition(".")[0] for name in missing}
    is_dense = any(len(expected[name]) == 2 for name in missing)
    whole = {name for name in expected if name.rpartition(".")[0] in layers}
    return missing if len(layers) == 1 and is_dense and missing == whole else set()


def _new_head(wrong: set[str], where: str) -> set[str]:
    """The entries of the one layer of another shape, or missing."""
    layers = sorted({name.rpartition(".")[0] for name in wrong})
    if len(layers) > 1:
        raise Misfit(
            f"model.new_head: the layers {_some(layers)} of {where} differ in shape; one may, the last: choose the "
            "width and stem of its network"
        )
    if not layers:
        raise UserError(f"model.new_head: the last layer of {where} fits as it is; leave the setting out to use it")
    return wrong


def _check(entries: StateDict, expected: Mapping[str, tuple[int, ...]], wrong: set[str], where: str) -> None:
    missing = [name for name in expected if name not in entries]
    surplus = [name for name in entries if name not in expected]
    if missing:
        if parts := parts_of(missing[0], surplus):
            raise Misfit(
                f"model.weights: {where} holds {missing[0]} in parts ({_some(parts)}); make it whole in PyTorch with "
                "torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm or remove_spectral_norm, and "
                "save it again"
            )
        close = get_close_matches(missing[0], surplus[:_COMPARED], 1)
        hint = f" (it has {printable(shortened(close[0], 120))})" if close else ""
        raise Misfit(f"model.weights: {where} lacks {_some(missing)}{hint}; is it of another network?")
    if surplus:
        raise Misfit(
            f"model.weights: {where} has {_some(surplus)}, which the network lacks; is it of another one? Leave "
            "further heads out of the file"
        )
    if wrong:
        shown = [f"{name} {list(entries[name].shape)} for {list(expected[name])}" for name in sorted(wrong)]
        raise Misfit(
            f"model.weights: {where} has other shapes: {_some(shown)}; choose the width and stem of its network, or, "
            "where only the number of classes differs, set model.new_head"
        )
    for name in expected:
        if not _is_weight(entries[name]):
            raise UserError(
                f"model.weights: {where} has {entries[name].dtype.name} values in {name}; save floating-point weights "
                "(dequantize a quantized network first)"
            )


def _leaves(tree: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, leaf in named_leaves(tree):
        if _is_weight(leaf):
            yield tuple(name.split("/")), leaf


def _is_weight(leaf: Any) -> bool:
    """Return whether an entry belongs to the network.

    The states of random generators, whole numbers or keys, belong to the run.
    """
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _map(take: Any, tree: Any) -> Any:
    def one(path: tuple, leaf: Any) -> Any:
        return take(tuple(leaf_path(path).split("/")), leaf) if _is_weight(leaf) else leaf

    return jax.tree_util.tree_map_with_path(one, tree)


def _name(path: tuple[str, ...]) -> str:
    return ".".join((*path[:-1], _THEIRS.get(path[-1], path[-1])))


def _to_theirs(kind: str, array: np.ndarray) -> np.ndarray:
    if kind == "kernel" and array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    return array.T if kind == "kernel" and array.ndim == 2 else array


def _to_ours(kind: str, array: np.ndarray) -> np.ndarray:
    if kind == "kernel" and array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    return array.T if kind == "kernel" and array.ndim == 2 else array


def _some(names: Sequence[str]) -> str:
    return printable(name_some(names, 5))
