"""Statistics of normalisation layers, estimated anew after pruning."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from jaxprune.batches import with_weights
from jaxprune.errors import UserError
from jaxprune.networks import Network, as_network
from jaxprune.trees import leaf_names
from jaxprune.types import Apply, Batch, Params, Stats

# Steps on the first batch: from 0, and from two trials of which no two entries are alike.
_FROM_ZERO, _FIRST_TRIAL, _SECOND_TRIAL = range(3)
_IRRATIONAL = {_FIRST_TRIAL: 0.6180339887, _SECOND_TRIAL: 0.4142135624}


class _Sums(NamedTuple):
    """What is carried from batch to batch, for each leaf.

    Attributes:
      sums: The new statistics, from 0, times the examples of their batch.
      examples: [] int, those counted so far.
      at_zero: The new statistics of the first batch, from 0.
      slopes: Their derivatives by the old ones, m.
      fits: [] bool, whether the leaf is an average.
      rest: The statistics that are whole numbers, as training changes them.
    """

    sums: list[Array]
    examples: Array
    at_zero: list[Array]
    slopes: list[Array]
    fits: list[Array]
    rest: list[Array]


def reestimate_statistics(
    network: Network | Apply, params: Params, stats: Stats, data: Batch, *, batch_size: int = 256
) -> Stats:
    """Estimate BatchNorm's statistics anew, for parameters that have changed.

    Pruning changes what every layer receives, while the running moments are still those of the dense network. The
    result is the plain mean of the moments of the batches, each weighted by its examples, and remembers nothing of
    `stats`. The variance is so the mean of the variances within batches, as in training; the variance between the
    batches' means, smaller by about the number of examples in a batch, is left out.

    The layers' momentum need not be known. In training mode a statistic s becomes m s + (1 - m) b, where b is the
    moment of the batch: m is the slope between two values of s, and b is the value at s = 0, divided by 1 - m. The
    relative error is some 1e-7 / (1 - m). Batch t takes the examples t, t + T, t + 2T, ... of T batches, so that
    data in the order of their labels make no difference.

    Args:
      network: A `Network`; a function `apply(params, x)` has no statistics.
      params: The pruned parameters.
      stats: The statistics so far, for their structure. Whole numbers (counters, the keys of dropout) and numbers that
        training leaves alone, or only adds to, are returned as they are.
      data: [N] examples, usually of the training split; those of weight 0 are left out.
      batch_size: The largest number of examples B in a batch. A network that does not take weights counts the few
        repeated examples that fill up a batch, as it does in training.

    Returns:
      The new statistics; `stats` itself where the network has none.

    Raises:
      UserError: A statistic is not an average of moments over batches, or all weights are 0 (both checked outside of
        jit and vmap); there are no examples, or the batch size is less than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> from jaxprune import models, pruning
      >>> from jaxprune.types import Batch
      >>> network, params, stats = models.from_nnx(nnx.BatchNorm(1, rngs=nnx.Rngs(0)))
      >>> data = Batch(x=jnp.array([[1.0], [3.0]]), y=jnp.zeros(2, int), group=jnp.zeros(2, int))
      >>> stats = pruning.reestimate_statistics(network, params, stats, data)
      >>> print(f"{stats['mean'][0]:.3f} {stats['var'][0]:.3f}")
      2.000 1.000
    """
    if batch_size < 1:
        raise UserError(f"batch_size: {batch_size} is less than 1; give the examples in a batch, such as 256")
    if not any(map(_is_float, jax.tree.leaves(stats))):
        return stats
    data = with_weights(data)
    if not data.y.shape[0]:
        raise UserError("data: there are no examples; give those of the training split")
    estimates, count, fits = _estimate(as_network(network), params, stats, data, batch_size)
    if not isinstance(count, Tracer):
        _check(stats, count, fits)
    return estimates


def _check(stats: Stats, count: Array, fits: list[Array]) -> None:
    count, fits = jax.device_get((count, fits))
    if count == 0:
        raise UserError("data: every example has weight 0; give examples of the training split")
    names = [name for name, leaf in zip(leaf_names(stats), jax.tree.leaves(stats), strict=True) if _is_float(leaf)]
    for name, fit in zip(names, fits, strict=True):
        if not fit:
            raise UserError(
                f"stats: {name} is not a finite running average of moments of batches, so it cannot be estimated anew; "
                "train for some steps instead"
            )


@partial(jax.jit, static_argnums=(0, 4))
def _estimate(
    network: Network, params: Params, stats: Stats, data: Batch, batch_size: int
) -> tuple[Stats, Array, list[Array]]:
    """The statistics, the examples counted, and which leaves are averages."""
    averages, rest = _parted(stats)
    n = data.y.shape[0]
    num_batches = -(-n // batch_size)
    length = -(-n // num_batches)

    def visit(carry: _Sums, at: tuple[Array, Array]) -> tuple[_Sums, None]:
        step, t = at
        rows = jnp.arange(length) * num_batches + t
        batch = jax.tree.map(lambda a: jnp.asarray(a)[rows % n], data)
        batch = batch._replace(weight=jnp.where(rows < n, batch.weight, 0))
        starts = _starts(step, carry.at_zero)
        values, following = _parted(network.train(params, _joined(stats, starts, carry.rest), batch)[1])
        is_trial = (step == _FIRST_TRIAL) | (step == _SECOND_TRIAL)
        examples = jnp.where(is_trial, 0, jnp.sum(batch.weight > 0, dtype=jnp.int32))
        sums, at_zero, slopes, fits = [], [], [], []
        for i, (value, start) in enumerate(zip(values, starts, strict=True)):
            value, zero, slope = value.astype(start.dtype), carry.at_zero[i], carry.slopes[i]
            sums.append(jnp.where(examples > 0, carry.sums[i] + examples * value, carry.sums[i]))
            at_zero.append(jnp.where(step == _FROM_ZERO, value, zero))
            slopes.append(jnp.where(step == _FIRST_TRIAL, (value - zero) / start, slope))
            fits.append(jnp.where(step == _SECOND_TRIAL, _is_affine(value, zero, slope, start), carry.fits[i]))
        # The trials see the dropout of the first batch.
        rest = [jnp.where(step < _SECOND_TRIAL, old, new) for old, new in zip(carry.rest, following, strict=True)]
        return _Sums(sums, carry.examples + examples, at_zero, slopes, fits, rest), None

    zeros = [jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32)) for leaf in averages]
    begin = _Sums(zeros, jnp.int32(0), zeros, zeros, [jnp.bool_(True)] * len(zeros), rest)
    steps = jnp.arange(num_batches + 2)
    end = jax.lax.scan(visit, begin, (steps, jnp.maximum(steps - 2, 0)))[0]
    means = [
        jnp.where(_is_kept(slope), leaf, (total / (end.examples * (1 - slope))).astype(leaf.dtype))
        for total, slope, leaf in zip(end.sums, end.slopes, averages, strict=True)
    ]
    return _joined(stats, means, rest), end.examples, end.fits


def _starts(step: Array, at_zero: list[Array]) -> list[Array]:
    """Statistics to begin a batch with: 0, but for the trials.

    The entries of a trial are all different, so that a statistic that depends on another entry than its own shows
    itself; and large beside the moments, so that the slope is exact to the last bits.
    """
    starts, first = [], 0
    for zero in at_zero:
        numbers = jnp.arange(first, first + zero.size).reshape(zero.shape)
        size = jnp.maximum(1, 100 * jnp.abs(zero))
        trials = {at: (1 + numbers * share % 1).astype(zero.dtype) * size for at, share in _IRRATIONAL.items()}
        starts.append(
            jnp.select([step == at for at in trials], list(trials.values()), jnp.zeros_like(zero)),
        )
        first += zero.size
    return starts


def _is_affine(value: Array, at_zero: Array, slope: Array, start: Array) -> Array:
    """Return whether a statistic is a running average, [] bool.

    It is m s + (1 - m) b, of its own entry s.
    """
    error = jnp.abs(value - (at_zero + slope * start))
    limit = float(jnp.finfo(start.dtype).eps) ** 0.5 * (jnp.abs(value) + jnp.abs(at_zero) + start)
    return jnp.all((error <= limit) & (slope >= -1e-6) & ((slope < 1) | _is_kept(slope)))


def _is_kept(slope: Array) -> Array:
    """Return whether the slope is 1, up to rounding.

    Training leaves the statistic alone, or adds to it.
    """
    return jnp.abs(slope - 1) <= 8 * jnp.finfo(slope.dtype).eps


def _is_float(leaf: Array) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.floating)


def _parted(stats: Stats) -> tuple[list[Array], list[Array]]:
    """The floating-point leaves, and the others."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(stats)]
    return [leaf for leaf in leaves if _is_float(leaf)], [leaf for leaf in leaves if not _is_float(leaf)]


def _joined(stats: Stats, averages: list[Array], rest: list[Array]) -> Stats:
    """The inverse of `_parted`."""
    leaves, treedef = jax.tree.flatten(stats)
    first, second = iter(averages), iter(rest)
    return jax.tree.unflatten(treedef, [next(first) if _is_float(leaf) else next(second) for leaf in leaves])
