"""Four measures of the distance to the decision boundary, of every example and of every group."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError
from jaxprune.examples import chunked
from jaxprune.groups import group_mean
from jaxprune.states import check_key
from jaxprune.theory.checks import check_classes, check_examples
from jaxprune.types import Apply, Array, Batch, Params, as_pytree


class BoundaryDistances(NamedTuple):
    """Distances to the decision boundary; [N] for examples, [G] means for groups (NaN for one without examples).

    Tran et al. 2022 do not say which is theirs. The scale of their Figs 7, 12 and 13 fits the margin.

    Attributes:
      margin: p₁ - p₂, the gap of the two largest probabilities: 0 on the boundary, 1 far from it.
      closeness: 1 - ‖p‖², which is 2p(1 - p) for two classes: large near the boundary.
      radius: σ/2 (Φ⁻¹(p_A) - Φ⁻¹(p_B)) of Cohen, Rosenfeld and Kolter (ICML 2019), eq. (3), in units of the inputs:
        p_A and p_B are the shares of the two commonest answers when Gaussian noise is added to the input.
      distance: (z₁ - z₂) / ‖∇_x(z₁ - z₂)‖, to the boundary as linearised at the input, in units of the inputs; infinite
        where the outputs do not move with the input.
    """

    margin: Array
    closeness: Array
    radius: Array
    distance: Array


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
    """Measures the distance of every example to the decision boundary.

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
    """The means of `example_boundary_distances` over each group, [G]; `options` are that function's own."""
    batch = check_examples(batch, num_groups=num_groups)
    found = example_boundary_distances(apply, params, batch, key, **options)  # pyright: ignore[reportArgumentType]
    means = (group_mean(values, batch.group, num_groups, batch.weight, empty=jnp.nan)[0] for values in found)
    return BoundaryDistances(*means)


@partial(jax.jit, static_argnames=("samples", "chunk_size"))
def _distances(
    apply: Apply, params: Params, batch: Batch, key: jax.Array, sigma: float, *, samples: int, chunk_size: int
) -> BoundaryDistances:
    def of_chunk(chunk: tuple[Array, Array]) -> BoundaryDistances:
        x, keys = chunk
        logits = apply(params, x)
        p = jax.nn.softmax(logits)
        first, second = jnp.moveaxis(jax.lax.top_k(p, 2)[0], -1, 0)
        radius = _radius(apply, params, x, keys, sigma, samples)
        return BoundaryDistances(first - second, 1 - jnp.sum(p**2, -1), radius, _linear(apply, params, x, logits))

    chunks = chunked(batch, chunk_size).x
    with jax.default_matmul_precision("highest"):
        # A key for each example: its noise is the same whatever chunk it lies in.
        numbers = jnp.arange(math.prod(chunks.shape[:2])).reshape(chunks.shape[:2])
        found = jax.lax.map(of_chunk, (chunks, jax.vmap(jax.vmap(partial(jax.random.fold_in, key)))(numbers)))
    return jax.tree.map(lambda leaf: leaf.reshape(-1)[: batch.y.shape[0]], found)


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
