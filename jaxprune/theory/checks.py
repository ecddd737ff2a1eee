"""Checks of the arguments of the theory's public functions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxprune import batches
from jaxprune.batches import check_batch, logits_shape
from jaxprune.compat import evaluate_now
from jaxprune.errors import UserError
from jaxprune.networks import as_pytree
from jaxprune.trees import named_leaves
from jaxprune.types import Apply, Array, Batch, Params, PyTree

_NOTHING = "theory: there are no examples; give one or more"
_FEW = 4  # examples that tell whether a network mixes them


def check_params(params: Params) -> None:
    """Raise if a known parameter is NaN or infinite.

    Raises:
      UserError: The message names the parameter. Traced values are not checked.
    """
    for name, leaf in named_leaves(params):
        if not isinstance(leaf, Tracer) and not bool(np.isfinite(np.asarray(leaf)).all()):
            raise UserError(
                f"theory: parameter {name} holds NaN or infinite values, so it has no curvature; "
                "the training may have diverged: use a lower learning rate"
            )


def check_width(params: Params) -> None:
    """Raise if a parameter is narrower than float32.

    Curvature in such types is mostly rounding.

    Raises:
      UserError: The message names the parameter and its type.
    """
    for name, leaf in named_leaves(params):
        dtype = jnp.result_type(leaf)
        if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
            raise UserError(
                f"theory: parameter {name} is {dtype.name}, too narrow for curvature; give float32 or float64"
            )


def check_frozen(apply: Apply, params: Params, x: Array) -> None:
    """Raise if an example's outputs depend on the rest of the batch.

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
        few = jnp.asarray(x)[:_FEW]
    apart, scale = evaluate_now(_mixing, as_pytree(apply), params, few)
    if float(apart) > 1e-3 * max(1.0, float(scale)):
        raise UserError(
            "theory: the outputs for one example depend on the others in its batch; freeze the batch statistics "
            "(network.freeze(stats)), or evaluate the network in evaluation mode"
        )


@jax.jit
def _mixing(apply: Apply, params: Params, few: Array) -> tuple[Array, Array]:
    """Largest difference between outputs together and one by one, and largest output."""
    with jax.default_matmul_precision("highest"):
        together = apply(params, few)
        apart = jax.lax.map(lambda one: apply(params, one[None])[0], few)
    return jnp.max(jnp.abs(together - apart)), jnp.max(jnp.abs(together))


def check_network(apply: Apply, params: Params, chunks: Any) -> None:
    """Raise if chunks are empty, examples are mixed, or labels are wrong.

    The first examples that count are taken for `check_frozen`, where there are two. Inside of compiled functions only
    the number of examples is checked.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      chunks: `Chunks` of inputs `x` [K, B, ...], labels `y` [K, B] and weights [K, B].

    Raises:
      UserError: There are no examples, the outputs depend on the batch, or a label is out of range.
    """
    x, weight = chunks.x, chunks.weight
    if not np.size(weight):
        raise UserError(_NOTHING)
    if _traced((as_pytree(apply), params, chunks)):
        return
    labels = np.reshape(chunks.y, (-1, *np.shape(chunks.y)[2:]))
    check_labels(apply, params, x[0], labels, np.reshape(weight, -1), where="chunks.")
    index = np.flatnonzero(np.asarray(weight).ravel() != 0)[:_FEW]
    if len(index) > 1:
        few = np.stack([np.asarray(x[np.unravel_index(i, np.shape(weight))]) for i in index])
        check_frozen(apply, params, few)


def check_examples(batch: Batch, *, num_groups: int | None = None) -> Batch:
    """Raise if there are no examples or `batches.check_batch` raises.

    Args:
      batch: [N] examples; weights of None are 1.
      num_groups: G, or None where groups do not matter.

    Returns:
      The batch with weights [N].

    Raises:
      UserError: There are no examples, lengths differ, or a known group or weight is out of range.
    """
    batch = check_batch(batch, num_groups=num_groups)
    if not len(batch.y):
        raise UserError(_NOTHING)
    return batch


def check_labels(apply: Apply, params: Params, x: Array, y: Array, weight: Array, *, where: str = "batch.") -> None:
    """Raise if a known label is not a class of the network.

    Labels that are not integers belong to a custom loss and are accepted. A network of one output has no classes.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      x: [B, ...] inputs of some examples or of all.
      y: [N] labels.
      weight: [N].
      where: What the labels belong to.

    Raises:
      UserError: A label is out of range.
    """
    if jnp.issubdtype(jnp.result_type(y), jnp.integer) and len(np.shape(y)) == 1:
        shape = logits_shape(apply, params, x, _FEW)
        if len(shape) == 2 and shape[1] > 1:
            batches.check_labels(y, shape[1], weight, where=where)


def check_classes(apply: Apply, params: Params, batch: Batch) -> None:
    """Raise unless the outputs are [B, C] with two or more classes.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      batch: [N] examples.

    Raises:
      UserError: As `batches.check_logits` says.
    """
    batches.check_logits(logits_shape(apply, params, batch.x, _FEW), batch)


def check_products(max_iterations: int) -> None:
    """Raise a `UserError` if a search is allowed no products."""
    if max_iterations < 1:
        raise UserError(f"theory: max_iterations is {max_iterations}; give 1 or more products")


def _traced(tree: PyTree) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree))
