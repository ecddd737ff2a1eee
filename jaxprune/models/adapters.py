"""Adapters from networks of any library to pure functions."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxprune.errors import UserError
from jaxprune.networks import Network
from jaxprune.states import check_has_stats, check_key, typed_key
from jaxprune.trees import named_leaves
from jaxprune.types import Array, Params, Stats


def from_nnx(module: nnx.Module) -> tuple[Network, Params, Stats]:
    """A trained or fresh NNX module as a network.

    Its parameters and its other state are plain nested dicts.

    The module is left as it is. Training mode is what `module.train()` sets, evaluation mode what `module.eval()`
    sets (BatchNorm, dropout).

    Args:
      module: Called as `module(x) -> logits [B, C]`; or, where it has a parameter `weight`, as
        `module(x, weight=weight)` with the weights [B] of the examples in training mode.

    Returns:
      The network, params (every `nnx.Param`) and stats (all other variables).
    """
    module = nnx.clone(module)
    return network_of(lambda rngs: module), *_pure(module)


def network_of(construct: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """A network from a function that constructs its module.

    Nothing is computed until `init`.
    """
    module = nnx.eval_shape(lambda: construct(nnx.Rngs(0)))
    takes_weight = "weight" in inspect.signature(module).parameters
    expected = _pure(module)[1]
    graphs = {}
    for train, mode in ((True, module.train), (False, module.eval)):
        mode()
        graphs[train] = nnx.split(module, nnx.Param, ...)[0]

    def init(key: jax.Array) -> tuple[Params, Stats]:
        return _pure(construct(nnx.Rngs(key)))

    def apply(params: Params, stats: Stats, x: Array, train: bool, weight: Array | None = None) -> tuple[Array, Stats]:
        check_has_stats(stats, expected)
        called: Any = nnx.merge(graphs[train], params, stats or {})  # () as well: flax takes it for a leaf
        logits = called(x, weight=weight) if takes_weight else called(x)
        return logits, _pure(called)[1] if train and expected else stats

    return Network(init=init, apply=apply, takes_weight=takes_weight)


def _pure(module: nnx.Module) -> tuple[Params, Stats]:
    """The parameters and the other variables of a module, as dicts."""
    _, params, stats = nnx.split(module, nnx.Param, ...)
    return nnx.to_pure_dict(params), nnx.to_pure_dict(stats)  # pyright: ignore[reportArgumentType]


# Argument names by which Linen modules, by convention, learn of training; False for those that mean the opposite.
_TRAINING = {"train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False}
_KEYS = "_keys"  # the name in the statistics of the keys of random layers, which no collection has


def from_linen(
    module: Any, variables: Mapping[str, Any], *, rngs: Mapping[str, jax.Array] | None = None
) -> tuple[Network, Params, Stats]:
    """A flax Linen module and its variables as a network.

    Args:
      module: Called as `module.apply(variables, x)`. Training mode is passed as the argument named train,
        training, is_training, deterministic or use_running_average, where it has one of them.
      variables: The collections: "params" and any others, which become the statistics.
      rngs: A key for each kind of randomness that the module draws from in training, such as `{"dropout": key}`; drawn
        anew at each step, and carried in the statistics.

    Returns:
      The network, params and stats, as nested dicts.

    Raises:
      UserError: There is no collection "params".
    """
    if "params" not in variables:
        raise UserError(
            f"from_linen: the variables have no 'params', only {sorted(variables)}; give the result of module.init"
        )
    variables = _plain_dicts(variables)
    params = variables["params"]
    stats = {name: collection for name, collection in variables.items() if name != "params"}
    mutable = list(stats)
    for key in (rngs or {}).values():
        check_key(key)
    if rngs:
        stats = stats | {_KEYS: {name: jax.random.key_data(typed_key(key)) for name, key in rngs.items()}}
    expected = stats
    taken = inspect.signature(type(module).__call__).parameters
    argument = next((name for name in _TRAINING if name in taken), None)

    def apply(params: Params, stats: Stats, x: Array, train: bool) -> tuple[Array, Stats]:
        check_has_stats(stats, expected)
        collections = {name: collection for name, collection in (stats or {}).items() if name != _KEYS}
        mode = {} if argument is None else {argument: train == _TRAINING[argument]}
        if not train or not expected:
            return module.apply({"params": params, **collections}, x, **mode), stats
        keys = stats[_KEYS] if rngs else {}
        pairs = {name: jax.random.split(jax.random.wrap_key_data(data)) for name, data in keys.items()}
        drawn = {name: pair[0] for name, pair in pairs.items()}
        logits, changed = module.apply({"params": params, **collections}, x, **mode, rngs=drawn, mutable=mutable)
        following = {_KEYS: {name: jax.random.key_data(pair[1]) for name, pair in pairs.items()}} if rngs else {}
        return logits, collections | _plain_dicts(changed) | following

    return Network(init=lambda key: (params, stats), apply=apply), params, stats


def _plain_dicts(tree: Any) -> Any:
    """Nested mappings, such as FrozenDict, as nested dicts.

    A state must keep its structure from step to step.
    """
    return {name: _plain_dicts(inner) for name, inner in tree.items()} if isinstance(tree, Mapping) else tree


def from_callable(pytree: Callable[..., Any], *, batched: bool = False) -> tuple[Network, Params, Stats]:
    """A callable pytree, such as an Equinox module, as a network.

    Its parameters are its floating-point arrays.

    Args:
      pytree: Called as `pytree(x [...]) -> logits [C]` on one example. Layers without state only: put dropout into
        inference mode first, and use a normalisation that needs no batch.
      batched: True if it takes a batch in place of one example, `pytree(x [B, ...]) -> logits [B, C]`.

    Returns:
      The network, params (path -> array) and stats, which are empty.

    Raises:
      UserError: It holds no floating-point array.
    """
    leaves, treedef = named_leaves(pytree), jax.tree.structure(pytree)
    trained = {name: jnp.asarray(leaf) for name, leaf in leaves if _is_float_array(leaf)}
    if not trained:
        raise UserError("from_callable: the pytree holds no floating-point array; give the module itself")

    def apply(params: Params, stats: Stats, x: Array, train: bool) -> tuple[Array, Stats]:
        now = [params.get(name, leaf) for name, leaf in leaves]
        called = jax.tree_util.tree_unflatten(treedef, now)
        return called(x) if batched else jax.vmap(called)(x), stats

    return Network(init=lambda key: (trained, {}), apply=apply), trained, {}


def _is_float_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray) and jnp.issubdtype(leaf.dtype, jnp.floating)
