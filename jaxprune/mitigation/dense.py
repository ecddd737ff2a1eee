"""The dense network as constraints and distillation see it."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.batches import check_classification
from jaxprune.data.training_rows import IndexedBatch
from jaxprune.errors import UserError
from jaxprune.examples import map_examples
from jaxprune.groups import group_mean
from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.types import Apply, Array, Batch, Params


class DenseReference(NamedTuple):
    """Outputs and group means of the dense network; arrays, of one replica.

    Attributes:
      loss: [G] its mean loss on each group of the training split.
      accuracy: [G] its accuracy.
      logits: [N, C] its outputs for every training example, or None: constraints then compare with its group means.
      held_out: [M, C] its outputs for every held-out example, or None.
    """

    loss: Array
    accuracy: Array
    logits: Array | None = None
    held_out: Array | None = None


def dense_reference(
    apply: Apply,
    params: Params,
    data: Batch,
    *,
    num_groups: int,
    held_out: Batch | None = None,
    chunk_size: int = 4096,
) -> DenseReference:
    """Evaluate the dense network once on every example that training will see.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The dense network's parameters.
      data: [N] training examples.
      num_groups: G.
      held_out: [M] examples that violations are measured on, if any.
      chunk_size: Examples at a time; a smaller one takes less memory.

    Returns:
      The reference; 0 for a group without examples.

    Raises:
      UserError: As `auditing.evaluate` does, of the data or of the held-out examples.
    """
    data = check_classification(apply, params, data, num_groups=num_groups, size=chunk_size)
    if held_out is not None:
        held_out = check_classification(apply, params, held_out, num_groups=num_groups, size=chunk_size)
    reference = reference_of_logits(logits_of(apply, params, data, chunk_size), data, num_groups=num_groups)
    outputs = None if held_out is None else logits_of(apply, params, held_out, chunk_size)
    return reference._replace(held_out=outputs)


def reference_of_logits(logits: Array, data: Batch, *, num_groups: int) -> DenseReference:
    """The reference from outputs that are known.

    Args:
      logits: [N, C] the dense network's outputs for the training examples.
      data: [N] training examples, whose inputs are not read.
      num_groups: G.

    Returns:
      The reference; 0 for a group without examples.
    """
    values = (jax.jit(cross_entropy)(logits, data.y), (jnp.argmax(logits, -1) == data.y).astype(logits.dtype))
    loss, accuracy = (group_mean(value, data.group, num_groups, data.weight)[0] for value in values)
    return DenseReference(loss, accuracy, logits)


def logits_of(apply: Apply, params: Params, data: Batch, chunk_size: int) -> Array:
    """[N, C] outputs for every example, computed in chunks."""
    return _logits_of(as_pytree(apply), params, data.x, chunk_size)


@partial(jax.jit, static_argnums=3)
def _logits_of(apply: Apply, params: Params, x: Array, chunk_size: int) -> Array:
    return map_examples(lambda part: apply(params, part), x, chunk_size)


def dense_logits_of(batch: Any, dense: DenseReference | None) -> tuple[Array | None, Array | None]:
    """The dense network's outputs for a batch and its held-out examples.

    None where they are unknown.

    Raises:
      UserError: They are known, but the batch does not say which examples it has.
    """
    if dense is None:
        return None, None
    held_out = batch.held_out if isinstance(batch, IndexedBatch) else None
    logits = None
    if dense.logits is not None:
        if not isinstance(batch, IndexedBatch):
            raise UserError(
                "the dense network's outputs are stored by example, but the batch does not say which examples it has; "
                "train on data.indexed_batch(examples)"
            )
        logits = dense.logits[batch.row]
    unseen = dense.held_out[held_out.row] if held_out is not None and dense.held_out is not None else None
    return logits, unseen
