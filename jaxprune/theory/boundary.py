"""Distances to the decision boundary, of every example and of every group."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError
from jaxprune.examples import chunk_size_for, chunked, map_examples
from jaxprune.groups import group_mean, group_sum
from jaxprune.networks import as_pytree
from jaxprune.states import check_key
from jaxprune.theory.checks import check_classes, check_examples
from jaxprune.types import Apply, Array, Batch, Params


class Boundary(NamedTuple):
    """Two mean distances to the decision boundary, each [G]; NaN for empty groups.

    Attributes:
      margin: Mean of p₁ - p₂, the gap between the two largest probabilities: 0 on the boundary, 1 far from it.
      closeness: Mean of 1 - ‖p‖², which is 2p(1 - p) for two classes: the factor of Theorem 2, large near it.
    """

    margin: Array
    closeness: Array


class BoundaryDistances(NamedTuple):
    """Four distances to the decision boundary, [N] or [G] means.

    NaN for a group without examples. Tran et al. 2022 do not say which distance is theirs; the scale of their Figs 7,
    12 and 13 fits the margin.

    Attributes:
      margin: p₁ - p₂, the gap of the two largest probabilities: 0 on the boundary, 1 far from it.
      closeness: 1 - ‖p‖², which is 2p(1 - p) for two classes: large near the boundary.
      radius: σ/2 (Φ⁻¹(p_A) - Φ⁻¹(p_B)) of Cohen, Rosenfeld and Kolter (ICML 2019), eq. (3), in units of the inputs:
        p_A and p_B are the shares of the two most frequent predictions when Gaussian noise is added to the input.
      distance: (z₁ - z₂) / ‖∇_x(z₁ - z₂)‖, to the boundary linearised at the input, in units of the inputs; infinite
        where the outputs do not depend on the input.
    """

    margin: Array
    closeness: Array
    radius: Array
    distance: Array


def boundary_distance(
    apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int | None = None
) -> Boundary:
    """Measure the mean distance of each group to the decision boundary.

    Tran et al. 2022 do not say how theirs is measured; the mean margin fits their Figs 7, 12 and 13.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      batch: [N] examples.
      num_groups: G.
      chunk_size: Examples evaluated at a time, which bounds the memory; None for as many as a byte budget allows.

    Returns:
      The measures.

    Raises:
      UserError: There are no examples, a group is out of range, or the logits are not [B, C], C >= 2.
    """
    batch = check_examples(batch, num_groups=num_groups)
    check_classes(apply, params, batch)
    size = chunk_size_for(batch.x, chunk_size)
    return _boundary_distance(as_pytree(apply), params, batch, num_groups=num_groups, chunk_size=size)


def example_boundary_distances(
    apply: Apply,
    params: Params,
    batch: Batch,
    key: jax.Array,
    *,
    sigma: float = 0.25,
    samples: int = 100,
    chunk_size: int = 512,
) -> BoundaryDistances:
    """Measure the distance of every example to the decision boundary.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples of floating-point inputs.
      key: Decides the noise.
      sigma: σ, the standard deviation of the noise, in units of the inputs.
      samples: How often noise is drawn for each example. No vote, and every vote, count as half a vote less extreme,
        which bounds the radius at σ Φ⁻¹(1 - 1 / (2 samples)).
      chunk_size: Examples at a time.

    Returns:
      The measures, each [N].

    Raises:
      UserError: There are no examples, the inputs are integers, such as the bytes of images, or the logits are not
        [B, C], C >= 2.
    """
    batch = check_examples(batch)
    check_key(key)
    if not jnp.issubdtype(jnp.result_type(batch.x), jnp.floating):
        raise UserError(
            f"theory: distances to the boundary are in units of the inputs, which are {jnp.result_type(batch.x).name}; "
            "give floating-point inputs, normalised"
        )
    check_classes(apply, params, batch)
    return _distances(as_pytree(apply), params, batch, key, sigma, samples=samples, chunk_size=chunk_size)


def group_boundary_distances(
    apply: Apply, params: Params, batch: Batch, key: jax.Array, *, num_groups: int, **options: float
) -> BoundaryDistances:
    """Means of `example_boundary_distances` over each group, [G].

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples of floating-point inputs.
      key: Decides the noise.
      num_groups: G.
      **options: `sigma`, `samples` and `chunk_size` of `example_boundary_distances`.

    Returns:
      The means, each [G]; NaN for a group without examples.

    Raises:
      UserError: As `example_boundary_distances`, or a group is out of range.
    """
    batch = check_examples(batch, num_groups=num_groups)
    distances = example_boundary_distances(apply, params, batch, key, **options)  # pyright: ignore[reportArgumentType]
    means = (group_mean(values, batch.group, num_groups, batch.weight, empty=jnp.nan)[0] for values in distances)
    return BoundaryDistances(*means)


@partial(jax.jit, static_argnames=("num_groups", "chunk_size"))
def _boundary_distance(apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int) -> Boundary:
    def add(sums: Array, chunk: Batch) -> tuple[Array, None]:
        margin, closeness = _margin_and_closeness(apply(params, chunk.x))
        values = jnp.stack([jnp.ones_like(margin), margin, closeness], axis=-1)
        return sums + group_sum(values, chunk.group, num_groups, chunk.weight), None

    with jax.default_matmul_precision("highest"):
        sums, _ = jax.lax.scan(add, jnp.zeros((num_groups, 3)), chunked(batch, chunk_size))
    size, margin, closeness = jnp.moveaxis(sums, -1, 0)
    safe = jnp.where(size > 0, size, jnp.nan)
    return Boundary(margin=margin / safe, closeness=closeness / safe)


@partial(jax.jit, static_argnames=("samples", "chunk_size"))
def _distances(
    apply: Apply, params: Params, batch: Batch, key: jax.Array, sigma: float, *, samples: int, chunk_size: int
) -> BoundaryDistances:
    def of_chunk(chunk: tuple[Array, Array]) -> BoundaryDistances:
        x, numbers = chunk
        logits = apply(params, x)
        margin, closeness = _margin_and_closeness(logits)
        # A key for each example: its noise is the same whatever chunk it lies in.
        keys = jax.vmap(partial(jax.random.fold_in, key))(numbers)
        return BoundaryDistances(
            margin=margin,
            closeness=closeness,
            radius=_radius(apply, params, x, keys, sigma, samples),
            distance=_linear(apply, params, x, logits),
        )

    with jax.default_matmul_precision("highest"):
        return map_examples(of_chunk, (batch.x, jnp.arange(batch.y.shape[0])), chunk_size)


def _margin_and_closeness(logits: Array) -> tuple[Array, Array]:
    """p₁ - p₂ and 1 - ‖p‖² of every example, [B] each."""
    p = jax.nn.softmax(logits)
    first, second = jnp.moveaxis(jax.lax.top_k(p, 2)[0], -1, 0)
    return first - second, 1 - jnp.sum(p**2, -1)


def _radius(apply: Apply, params: Params, x: Array, keys: jax.Array, sigma: float, samples: int) -> Array:
    def vote(counts: Array, number: Array) -> tuple[Array, None]:
        now = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
        noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(now)
        logits = apply(params, x + sigma * noise)
        return counts + jax.nn.one_hot(jnp.argmax(logits, -1), logits.shape[-1], dtype=counts.dtype), None

    classes = jax.eval_shape(apply, params, x).shape[-1]
    counts, _ = jax.lax.scan(vote, jnp.zeros((len(x), classes), jnp.result_type(float)), jnp.arange(samples))
    shares = jnp.clip(jax.lax.top_k(counts, 2)[0] / samples, 0.5 / samples, 1 - 0.5 / samples)
    quantiles = jax.scipy.stats.norm.ppf(shares)
    return sigma / 2 * (quantiles[:, 0] - quantiles[:, 1])


def _linear(apply: Apply, params: Params, x: Array, logits: Array) -> Array:
    best = jax.lax.top_k(logits, 2)[1]

    def gaps(x: Array) -> Array:
        top = jnp.take_along_axis(apply(params, x), best, -1)
        return top[:, 0] - top[:, 1]

    gap, back = jax.vjp(gaps, x)
    slope = back(jnp.ones_like(gap))[0]  # rows do not mix, so the slope of the sum is that of each
    length = jnp.sqrt(jnp.sum(slope.reshape(len(x), -1) ** 2, -1))
    return jnp.where(length > 0, gap / jnp.where(length > 0, length, 1), jnp.inf)
