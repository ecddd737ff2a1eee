"""What the public functions of the theory refuse: each says on one line what is wrong and how to mend it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.types import Apply, Array, Params, PyTree, as_pytree

_NOTHING = "theory: there are no examples; give one or more"
_FEW = 4  # examples that tell whether a network mixes them


def check_params(params: Params) -> None:
    """Raises a `UserError` where a parameter is NaN or infinite; inside a compiled function nothing can be checked."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not isinstance(leaf, Tracer) and not bool(np.isfinite(np.asarray(leaf)).all()):
            raise UserError(
                f"theory: parameter {jax.tree_util.keystr(path)} holds NaN or infinite values, so it has no curvature; "
                "the training diverged: lower train.learning_rate"
            )


def check_width(params: Params) -> None:
    """Raises a `UserError` where a parameter is narrower than float32, in which curvature is mostly rounding."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
            raise UserError(
                f"theory: parameter {jax.tree_util.keystr(path)} is {dtype.name}, too narrow for curvature; give "
                "float32 or float64"
            )


def check_frozen(apply: Apply, params: Params, x: Array) -> None:
    """Raises a `UserError` where the outputs of one example depend on the others, as with live batch statistics.

    The loss of a batch is then not a sum over its examples, so that a group has neither a gradient nor a Hessian of its
    own. The first four examples are evaluated together and one by one.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      x: [N, ...] inputs.

    Raises:
      UserError: The outputs depend on the batch, or there are no inputs.
    """
    if not len(x):
        raise UserError(_NOTHING)
    with jax.ensure_compile_time_eval():  # known values are checked inside of compiled functions as well
        apart, scale = _mixing(as_pytree(apply), params, jnp.asarray(x)[:_FEW])
    if float(apart) > 1e-3 * max(1.0, float(scale)):
        raise UserError(
            "theory: the outputs for one example depend on the others in its batch; freeze the batch statistics "
            "(network.freeze(stats)), or evaluate the network in evaluation mode"
        )


@jax.jit
def _mixing(apply: Apply, params: Params, few: Array) -> tuple[Array, Array]:
    """How far outputs of a batch are from those of its examples alone, at most, and how large they are."""
    with jax.default_matmul_precision("highest"):
        together = apply(params, few)
        apart = jax.lax.map(lambda one: apply(params, one[None])[0], few)
    return jnp.max(jnp.abs(together - apart)), jnp.max(jnp.abs(together))


def check_network(apply: Apply, params: Params, x: Array, weight: Array) -> None:
    """Refuses no examples, and by `check_frozen`, outside of compiled functions, a network that mixes them.

    The first examples that count are taken, where there are two.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      x: [N, ...] inputs, or [K, B, ...] those of chunks.
      weight: [N] or [K, B].

    Raises:
      UserError: There are no examples, or the outputs depend on the batch.
    """
    if not np.size(weight):
        raise UserError(_NOTHING)
    if _traced((as_pytree(apply), params, x, weight)):
        return
    index = np.flatnonzero(np.asarray(weight).ravel() != 0)[:_FEW]
    if len(index) > 1:
        few = np.stack([np.asarray(x[np.unravel_index(i, np.shape(weight))]) for i in index])
        check_frozen(apply, params, few)


def check_examples(batch: Any, *, num_groups: int | None = None) -> None:
    """Raises a `UserError` where there are no examples, or one is of a group that there is not.

    Args:
      batch: A `Batch` of [N] examples.
      num_groups: G, or None where groups do not matter.
    """
    if not len(batch.y):
        raise UserError(_NOTHING)
    if num_groups is not None and not _traced(batch.group):
        check_groups(np.asarray(batch.group), num_groups)


def check_products(max_iterations: int) -> None:
    """Raises a `UserError` where a search may take no products."""
    if max_iterations < 1:
        raise UserError(f"theory: max_iterations is {max_iterations}; give 1 or more products")


def check_groups(group: np.ndarray, num_groups: int) -> None:
    """Raises a `UserError` where a group [N] is out of range."""
    if len(group) and not 0 <= group.min() <= group.max() < num_groups:
        raise UserError(f"groups run from {group.min()} to {group.max()}; num_groups is {num_groups}")


def _traced(tree: PyTree) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))
