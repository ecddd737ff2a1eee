"""From a flax NNX module to pure functions of parameters and statistics."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from jaxprune.types import Array, Network, Params, Stats


def from_nnx(module: nnx.Module) -> tuple[Network, Params, Stats]:
    """A trained or fresh NNX module as a network, its parameters and its other state, as plain nested dicts.

    The module is left as it is. Training mode is what `module.train()` sets, evaluation mode what `module.eval()`
    sets (BatchNorm, dropout).

    Args:
      module: Called as `module(x) -> logits [B, C]`.

    Returns:
      The network, params (every `nnx.Param`) and stats (all other variables).
    """
    module = nnx.clone(module)
    return network_of(lambda rngs: module), *_pure(module)


def network_of(construct: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """A network from a function that constructs its module; nothing is computed until `init`."""
    module = nnx.eval_shape(lambda: construct(nnx.Rngs(0)))
    graphs = {}
    for train, mode in ((True, module.train), (False, module.eval)):
        mode()
        graphs[train] = nnx.split(module, nnx.Param, ...)[0]

    def init(key: jax.Array) -> tuple[Params, Stats]:
        return _pure(construct(nnx.Rngs(key)))

    def apply(params: Params, stats: Stats, x: Array, train: bool) -> tuple[Array, Stats]:
        called: Any = nnx.merge(graphs[train], params, stats or {})  # () as well: flax takes it for a leaf
        logits = called(x)
        return logits, _pure(called)[1] if train else stats

    return Network(init=init, apply=apply)


def _pure(module: nnx.Module) -> tuple[Params, Stats]:
    """The parameters and the other variables of a module, as nested dicts of arrays."""
    _, params, stats = nnx.split(module, nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)  # pyright: ignore[reportArgumentType]
