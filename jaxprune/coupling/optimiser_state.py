"""The state of an optimiser for a smaller network.

An optax transformation is a program of gradients, state and parameters. Its axes are linked as those of a network are:
gradients and updates have the axes of the parameters, and the state has the same axes before and after an update. So
moments, masks and averages are found in the state of any transformation.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import optax

from jaxprune.coupling.analysis import axis_of, from_axes
from jaxprune.coupling.axes import Axis, taken_along
from jaxprune.coupling.couplings import Couplings
from jaxprune.coupling.dimensions import Dimensions, Leaf, resolve, unify
from jaxprune.coupling.linking import Linker
from jaxprune.coupling.rule import Value
from jaxprune.coupling.tracing import shapes_of
from jaxprune.errors import UserError
from jaxprune.trees import named_leaves
from jaxprune.types import Array, Params, PyTree


def cut_optimiser_state(
    tx: optax.GradientTransformation,
    state: PyTree,
    params: Params,
    couplings: Couplings,
    kept: Mapping[str, Array],
    *,
    smaller: Params,
) -> PyTree:
    """The state of an optimiser without the channels that are cut.

    Where the state cannot be followed, or is of another form for smaller parameters (as that of factored moments), it
    is a fresh one, and a warning says so.

    Args:
      tx: The transformation.
      state: Its state for the dense network.
      params: The dense parameters, or their shapes.
      couplings: Those of the dense network.
      kept: Coupling -> [K] int, the channels kept.
      smaller: The smaller parameters.

    Returns:
      The state for the smaller network.
    """
    try:
        axes = state_axes(tx, state, params, couplings, kept)
    except Exception as error:
        return _fresh(tx, smaller, f"tx.update cannot be traced ({type(error).__name__}: {_first_line(error)})")
    leaves = []
    for (_, leaf), of_leaf in zip(named_leaves(state), axes, strict=True):
        for i, axis in enumerate(of_leaf):
            indices = taken_along(axis, kept)
            if indices.shape[-1] < axis.size:
                leaf = jax.numpy.take(leaf, indices, axis=i)
        leaves.append(leaf)
    result = jax.tree.unflatten(jax.tree.structure(state), leaves)
    try:
        expected = jax.eval_shape(tx.init, smaller)
    except UserError:
        return result  # it holds masks of the dense network, whose state is the smaller masks
    if jax.tree.structure(expected) != jax.tree.structure(result):
        return _fresh(tx, smaller, "the state has another form for the smaller parameters")
    for (path, have), want in zip(named_leaves(result), jax.tree.leaves(expected), strict=True):
        if tuple(have.shape) != tuple(want.shape):
            return _fresh(tx, smaller, f"{path} cannot be followed through tx.update")
    return result


def _fresh(tx: optax.GradientTransformation, smaller: Params, reason: str) -> PyTree:
    warnings.warn(f"opt_state: {reason}; the optimiser starts afresh with tx.init", stacklevel=3)
    return tx.init(smaller)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def state_axes(
    tx: optax.GradientTransformation, state: PyTree, params: Params, couplings: Couplings, kept: Mapping[str, Array]
) -> list[tuple[Axis, ...]]:
    """The axes of every leaf of a state, in terms of couplings."""
    of_params, of_state = jax.tree.structure(params), jax.tree.structure(state)

    def update(grads: list[Array], state: list[Array], params: list[Array]) -> list[Array]:
        updates, new = tx.update(of_params.unflatten(grads), of_state.unflatten(state), of_params.unflatten(params))
        return [*jax.tree.leaves(updates), *jax.tree.leaves(new)]

    shapes = [jax.tree.leaves(shapes_of(tree)) for tree in (params, state, params)]
    closed = jax.make_jaxpr(update)(*shapes)
    by_path, _, leaves = from_axes(couplings)
    dims = list(by_path.values())
    state_dims: list[Dimensions] = [tuple(Leaf(size) for size in leaf.shape) for leaf in shapes[1]]
    program = Linker(derivatives=0).program(
        closed.jaxpr, closed.consts, [Value(each) for each in (*dims, *state_dims, *dims)]
    )
    for new, old in zip(program.outputs, (*dims, *state_dims), strict=True):
        for a, b in zip(new, old, strict=True):
            unify(a, b)
    names: dict[Any, str] = {resolve(leaves[name]): name for name in kept}
    return [tuple(axis_of(dimension, names) for dimension in each) for each in state_dims]
