"""Conditions that stay conditions where replicas are mapped over."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxprune.types import Array, PyTree


def where_due(improve: Callable[[PyTree, Any], PyTree]) -> Callable[[Array, PyTree, Any], PyTree]:
    """Make a condition that stays one under `vmap` over replicas.

    The result is `(due, start, at) -> improve(start, at) if due else start`, where `improve` runs only if it is due for
    some replica. A plain `lax.cond` becomes a selection under `vmap`, so that both branches run every time.

    Args:
      improve: Gives the structure of `start`, shapes and types included. It must close over no traced value: what
        changes goes through `at`, of which nothing is copied for the replicas that is the same for all of them.

    Returns:
      The function; `due` is [] bool. It has a forward derivative and none in reverse.
    """

    @jax.custom_batching.custom_vmap
    def improved(due: Array, start: PyTree, at: Any) -> PyTree:
        return jax.lax.cond(due, improve, lambda start, _: start, start, at)

    @improved.def_vmap
    def over_replicas(size: int, mapped: Any, due: Array, start: PyTree, at: Any) -> tuple[PyTree, PyTree]:
        def spread(value: Any, is_mapped: Any) -> Any:
            return jax.tree.map(lambda v, m: v if m else jnp.broadcast_to(v, (size, *jnp.shape(v))), value, is_mapped)

        due, start = spread((due, start), tuple(mapped[:2]))
        axes = jax.tree.map(lambda m: 0 if m else None, mapped[2])

        def some(start: PyTree, at: Any) -> PyTree:
            due, at = at

            def pick(new: Array, old: Array) -> Array:
                return jnp.where(due.reshape(-1, *[1] * (new.ndim - 1)), new, old)

            return jax.tree.map(pick, jax.vmap(improve, (0, axes))(start, at), start)

        # Again with this rule, so that the condition outlives a second vmap around the first.
        return where_due(some)(jnp.any(due), start, (due, at)), jax.tree.map(lambda _: True, start)

    return improved


def only_when(due: Array, compute: Callable[[], PyTree], otherwise: PyTree) -> PyTree:
    """Compute a value only if it is due for some replica.

    `compute() if due else otherwise`, by `where_due` for a function that closes over traced values.

    Args:
      due: [] bool.
      compute: Gives the structure of `otherwise`, shapes and types included.
      otherwise: Arrays.

    Returns:
      The structure of `otherwise`.
    """
    program = jax.make_jaxpr(compute)()  # what was closed over is now among its constants, and can be mapped

    def improve(start: PyTree, constants: list[Array]) -> PyTree:
        leaves = jaxpr_as_fun(ClosedJaxpr(program.jaxpr, constants))()
        return jax.tree.unflatten(jax.tree.structure(start), leaves)

    return where_due(improve)(due, otherwise, list(program.consts))
