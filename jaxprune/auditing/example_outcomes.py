"""Per-example losses and errors, from which every audit metric is computed."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.batches import check_classification
from jaxprune.errors import UserError
from jaxprune.examples import chunk_size_for, chunked, map_examples
from jaxprune.groups import group_sum
from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params

_SUMMED = 4096  # people added up at a time in float32, so that little is lost to rounding


class Outcomes(NamedTuple):
    """Each [N], in the order of the examples.

    Attributes:
      loss: In nats.
      wrong: 1 where the prediction is not the label, 0 where it is.
      label: The predicted label, int32: the first of the largest logits.
    """

    loss: Array
    wrong: Array
    label: Array


def outcomes(
    apply: Apply,
    params: Params,
    batch: Batch,
    *,
    loss: ExampleLoss = cross_entropy,
    chunk_size: int | None = None,
) -> Outcomes:
    """Compute the loss and the error of every example.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      batch: [N] examples.
      loss: Per-example loss.
      chunk_size: Examples evaluated at a time, which bounds the memory; None for as many as a byte budget allows.

    Returns:
      The outcomes.

    Raises:
      UserError: As `batches.check_classification`, where values are known.
    """
    batch = check_classification(apply, params, batch, size=chunk_size_for(batch.x, chunk_size))
    return outcomes_of_checked(apply, params, batch, loss=loss, chunk_size=chunk_size)


def outcomes_of_checked(
    apply: Apply, params: Params, batch: Batch, *, loss: ExampleLoss, chunk_size: int | None
) -> Outcomes:
    """Compute `outcomes` of examples that are checked already."""
    size = chunk_size_for(batch.x, chunk_size)
    return _outcomes(as_pytree(apply), params, batch, loss=loss, chunk_size=size)


def check_length(results: Outcomes, batch: Batch) -> None:
    """Raise unless there is one outcome for each example of a batch."""
    if results.loss.shape != batch.y.shape:
        raise UserError(
            f"batch: {batch.y.shape[0]} examples for outcomes of shape {results.loss.shape}; give those examples"
        )


def sums_by_group(values: Array, group: Array, num_groups: int, weight: Array) -> Array:
    """Weighted sums over the people of each group, [N, K] -> [G, K]."""
    people = chunked((values, group, weight), _SUMMED)
    return jnp.sum(jax.lax.map(lambda part: group_sum(part[0], part[1], num_groups, part[2]), people), 0)


@partial(jax.jit, static_argnames=("loss", "chunk_size"))
def _outcomes(apply: Apply, params: Params, batch: Batch, *, loss: ExampleLoss, chunk_size: int) -> Outcomes:
    def of_chunk(chunk: Batch) -> Outcomes:
        logits = apply(params, chunk.x)
        label = jnp.argmax(logits, -1).astype(jnp.int32)
        wrong = (label != chunk.y).astype(jnp.float32)
        return Outcomes(loss=loss(logits, chunk.y).astype(jnp.result_type(float)), wrong=wrong, label=label)

    with jax.default_matmul_precision("highest"):  # as the theory: on a TPU, R(a) would differ by its own size
        return map_examples(of_chunk, batch, chunk_size)
