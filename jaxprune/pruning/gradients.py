"""Gradients of mean losses for criteria, in chunks that bound the memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.batches import check_batch, check_labels, logits_shape, with_weights
from jaxprune.errors import UserError
from jaxprune.examples import chunk_size_for, chunked
from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params, PyTree

_BYTES = 2 << 20  # of float32 inputs in a chunk: a derivative holds many times what a forward pass does
_MOST = 256  # examples in a chunk: with more, what is held between the passes leaves the cache of a CPU


def mean_gradient(
    apply: Apply, params: Params, batch: Batch, *, loss: ExampleLoss = cross_entropy, chunk_size: int | None = None
) -> Params:
    """The gradient of the mean loss, weighted by `batch.weight`.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples.
      loss: Per-example loss.
      chunk_size: Examples at a time; None for as many as a byte budget allows.

    Returns:
      The structure of `params`, float32 or wider; 0 where every weight is 0.

    Raises:
      UserError: There are no examples, or a label or a weight is out of range.

    Example:
      One weight θ, loss log(1 + exp(-θx)) for label 1: at θ = 0 an example's gradient is -x / 2.

      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> from jaxprune.types import Batch
      >>> def apply(theta, x):
      ...     return jnp.concatenate([jnp.zeros_like(x), theta * x], axis=-1)
      >>> batch = Batch(x=jnp.array([[1.0], [3.0]]), y=jnp.array([1, 1]), group=jnp.array([0, 1]))
      >>> float(pruning.mean_gradient(apply, jnp.zeros(()), batch))
      -1.0
    """
    batch = check_examples(apply, params, batch)
    return _mean_gradient(as_pytree(apply), params, batch, loss=loss, size=derivative_chunk(batch.x, chunk_size))


def group_gradients(
    apply: Apply,
    params: Params,
    batch: Batch,
    *,
    num_groups: int,
    loss: ExampleLoss = cross_entropy,
    chunk_size: int | None = None,
) -> Params:
    """The gradients of all groups' mean losses, in one pass.

    The examples are cut into chunks of one group each, so that the gradients of all groups cost little more than one
    gradient of everybody. Works where the groups are traced.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples.
      num_groups: G.
      loss: Per-example loss.
      chunk_size: Examples at a time; None for as many as waste little on chunks that are not full.

    Returns:
      The structure of `params` with a leading axis G, float32 or wider; 0 for a group without examples.

    Raises:
      UserError: There are no examples, or a label, a group or a weight is out of range.
    """
    batch = check_examples(apply, params, batch, num_groups=num_groups)
    n = len(batch.y)
    # There are N / B + G chunks: with B = N / (8 G) the chunks that are not full cost an eighth of a pass at most.
    size = chunk_size or min(derivative_chunk(batch.x, None), max(1, -(-n // (8 * num_groups))))
    return _group_gradients(as_pytree(apply), params, batch, num_groups=num_groups, loss=loss, size=size)


def derivative_chunk(x: Array, chunk_size: int | None) -> int:
    """The number of examples to differentiate at a time."""
    return chunk_size or min(_MOST, chunk_size_for(x, None, budget=_BYTES))


def check_examples(apply: Apply, params: Params, batch: Batch, *, num_groups: int | None = None) -> Batch:
    """Raise if examples cannot be differentiated on.

    Labels that are not whole numbers belong to a loss of the caller's own, and pass.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      batch: [N] examples; weights of None are 1.
      num_groups: G; None where groups do not matter, which are then 0.

    Returns:
      The batch with weights [N].

    Raises:
      UserError: There are no examples, lengths differ, or a label, group or weight is out of range.
    """
    batch = with_weights(batch)
    if num_groups is None:
        batch = batch._replace(group=np.zeros(np.shape(batch.y)[:1], np.int32))
    batch = check_batch(batch, num_groups=num_groups)
    if not len(batch.y):
        raise UserError("batch: there are no examples; give one or more")
    if jnp.issubdtype(batch.y.dtype, jnp.integer) and batch.y.ndim == 1:
        shape = logits_shape(apply, params, batch.x, 1)
        if len(shape) == 2 and shape[1] > 1:
            check_labels(batch.y, shape[1], batch.weight, where="batch.")
    return batch


def loss_sum(apply: Apply, loss: ExampleLoss, params: Params, chunk: Batch) -> Array:
    """The weighted sum of one chunk's losses, []; padding contributes 0."""
    losses = loss(apply(params, chunk.x), chunk.y)
    return jnp.sum(jnp.where(chunk.weight != 0, losses * chunk.weight, 0))


def total_weight(batch: Batch) -> Array:
    """Sum of the weights, [], or 1 where every one is 0."""
    total = jnp.sum(jnp.asarray(batch.weight))
    return jnp.where(total > 0, total, 1)


def sum_over_chunks(function: Callable[[Batch], PyTree], batch: Batch, size: int) -> PyTree:
    """Sum what a function gives for each chunk, in float32 or wider."""
    chunks = chunked(batch, size)
    shapes = jax.eval_shape(function, jax.tree.map(lambda a: a[0], chunks))

    def add(sums: PyTree, chunk: Batch) -> tuple[PyTree, None]:
        return jax.tree.map(lambda s, v: s + v.astype(s.dtype), sums, function(chunk)), None

    return jax.lax.scan(add, jax.tree.map(wide_zeros, shapes), chunks)[0]


def wide_zeros(like: Any) -> Array:
    """Zeros of a shape, float32 or wider, to add up in."""
    return jnp.zeros(like.shape, jnp.promote_types(like.dtype, jnp.float32))


def gradient_of_mean(apply: Apply, loss: ExampleLoss, params: Params, batch: Batch, size: int) -> Params:
    """`mean_gradient` of checked examples, within a compiled function."""
    total = total_weight(batch)
    sums = sum_over_chunks(lambda chunk: jax.grad(partial(loss_sum, apply, loss))(params, chunk), batch, size)
    return jax.tree.map(lambda s: s / total.astype(s.dtype), sums)


@partial(jax.jit, static_argnames=("loss", "size"))
def _mean_gradient(apply: Apply, params: Params, batch: Batch, *, loss: ExampleLoss, size: int) -> Params:
    with jax.default_matmul_precision("highest"):
        return gradient_of_mean(apply, loss, params, batch, size)


@partial(jax.jit, static_argnames=("num_groups", "loss", "size"))
def _group_gradients(
    apply: Apply, params: Params, batch: Batch, *, num_groups: int, loss: ExampleLoss, size: int
) -> Params:
    batch = jax.tree.map(jnp.asarray, batch)
    rows, present, group = _rows_by_group(batch, num_groups, size)

    def add(sums: Params, chunk: tuple[Array, Array, Array]) -> tuple[Params, None]:
        rows, present, group = chunk
        examples = jax.tree.map(lambda a: a[rows], batch)
        examples = examples._replace(weight=jnp.where(present, examples.weight, 0))
        gradient = jax.grad(partial(loss_sum, apply, loss))(params, examples)
        return jax.tree.map(lambda s, g: s.at[group].add(g.astype(s.dtype)), sums, gradient), None

    zeros = jax.tree.map(lambda p: jnp.broadcast_to(wide_zeros(p), (num_groups, *p.shape)), params)
    with jax.default_matmul_precision("highest"):
        sums = jax.lax.scan(add, zeros, (rows, present, group))[0]
    members = batch.group == jnp.arange(num_groups)[:, None]
    total = jnp.sum(jnp.where(members, batch.weight, 0), 1)
    safe = jnp.where(total > 0, total, 1)
    return jax.tree.map(lambda s: s / safe.reshape(-1, *(1,) * (s.ndim - 1)).astype(s.dtype), sums)


def _rows_by_group(batch: Batch, num_groups: int, size: int) -> tuple[Array, Array, Array]:
    """Rows [K, B] of chunks of one group each, which count, and groups [K].

    N // B + G chunks are enough for any sizes of the groups. A place that is left over repeats a row that counts, since
    an example of weight 0 need not be finite.
    """
    n = batch.y.shape[0]
    code = jnp.where(batch.weight != 0, batch.group, num_groups)  # what counts nowhere goes last
    order = jnp.argsort(code, stable=True)
    counts = jnp.sum(code == jnp.arange(num_groups)[:, None], 1)
    ends = jnp.cumsum(-(-counts // size))  # the chunks of a group end here
    chunk = jnp.arange(n // size + num_groups)
    group = jnp.minimum(jnp.sum(chunk[:, None] >= ends, 1), num_groups - 1)
    first = chunk - (ends[group] - -(-counts[group] // size))
    place = first[:, None] * size + jnp.arange(size)  # within the group
    present = (place < counts[group][:, None]) & (place >= 0)
    start = jnp.cumsum(counts) - counts
    return order[jnp.where(present, start[group][:, None] + place, 0)], present, group
