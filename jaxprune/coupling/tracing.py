"""Programs of networks, traced from shapes alone."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from jaxprune.errors import UserError
from jaxprune.networks import Network
from jaxprune.types import Array, PyTree


class Mode(NamedTuple):
    """How a network is traced.

    Attributes:
      train: Whether in training mode.
      weight: The type of the weights [B] of the examples; None where the network is not given them.
    """

    train: bool
    weight: str | None = None


def shapes_of(tree: PyTree) -> PyTree:
    """The shapes and types of the leaves of a tree."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def trace(network: Network, params: PyTree, stats: PyTree, x: Any, mode: Mode) -> Any:
    """Trace a network, as a program of leaves.

    Args:
      network: The network.
      params: The parameters, or their shapes.
      stats: The statistics, or their shapes.
      x: [B, ...] inputs, or their shape.
      mode: The mode.

    Returns:
      The closed jaxpr of (leaves of params, leaves of stats, x [, weight [B]]) -> (logits, and in training mode the
      leaves of stats).

    Raises:
      UserError: The network cannot be traced, since a shape depends on values or its arguments do not belong together,
        or it returns something else.
    """
    if not hasattr(x, "shape") or not hasattr(x, "dtype") or not x.shape:
        raise UserError(f"sample: {type(x).__name__} is no array; give inputs [B, ...], or their shape and type")
    of_params, of_stats = jax.tree.structure(params), jax.tree.structure(stats)
    weight = [jax.ShapeDtypeStruct((x.shape[0],), mode.weight)] if mode.weight else []

    def of_leaves(params: Sequence[Array], stats: Sequence[Array], x: Array, *weight: Array) -> list[Array]:
        trees = of_params.unflatten(params), of_stats.unflatten(stats)
        logits, new = network.apply(*trees, x, mode.train, *weight)
        _check_returned(logits, new, stats=trees[1], train=mode.train)
        return [logits, *(jax.tree.leaves(new) if mode.train else [])]

    return _traced(of_leaves, *map(jax.tree.leaves, map(shapes_of, (params, stats))), shapes_of(x), *weight)


def _check_returned(logits: Any, new: Any, *, stats: PyTree, train: bool) -> None:
    if not hasattr(logits, "shape"):
        raise UserError(f"network: it returns a {type(logits).__name__}; it must return one array, logits [B, C]")
    if not train:
        return
    same = jax.tree.structure(new) == jax.tree.structure(stats)
    if not same or any(a.shape != b.shape for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(stats), strict=True)):
        raise UserError(
            "network: in training mode it returns statistics of another structure or other shapes than it is given; "
            "give stats as its init makes them"
        )


def _traced(function: Callable[..., Any], *shapes: Any) -> Any:
    try:
        return jax.make_jaxpr(function)(*shapes)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        raise UserError(
            f"network: it cannot be traced without values ({_named(error)}); "
            "its shapes and branches must not depend on them"
        ) from None
    except UserError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise UserError(
            f"network: it fails for these parameters and the sample of shape {list(shapes[2].shape)} "
            f"({_named(error)}); give the parameters that it has and a batch [B, ...], and flax or Equinox modules "
            "through models.from_nnx, from_linen or from_callable"
        ) from error


def _named(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first.rstrip('.')}"


def check_batch(closed: Any, x: Any) -> None:
    """Raise unless the outputs are of a batch."""
    shape = closed.jaxpr.outvars[0].aval.shape
    if not x.shape or len(shape) < 2 or shape[0] != x.shape[0]:
        raise UserError(
            f"sample: for inputs of shape {list(x.shape)} the network gives outputs of shape {list(shape)}, which are "
            "not of a batch; give a batch [B, ...] and a network with logits [B, C]"
        )
