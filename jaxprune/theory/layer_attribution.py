"""Attribution of each group's excessive loss to the pruned layers."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy, excessive_loss
from jaxprune.networks import as_pytree
from jaxprune.theory.chunks import Chunks, checked_chunks
from jaxprune.theory.derivatives.gradients import chunk_loss
from jaxprune.theory.quadrature import Points, path_points, refined
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params


class Attribution(NamedTuple):
    """R(a) split over the L leaves of the parameters, in nats.

    NaN for a group without examples.

    Attributes:
      path: [G, L] ∫₀¹ Δ_lᵀ ∇_l J(θ + tΔ; D_a) dt: the parts sum to R(a) but for the error of the quadrature.
      first_order: [G, L] Δ_lᵀ g_a,l, which sums to g_aᵀΔ.
      second_order: [G, L] ½ Δ_lᵀ (H_a Δ)_l, which sums to ½ ΔᵀH_aΔ.
      observed: [G] R(a) = J(θ + Δ; D_a) - J(θ; D_a).
    """

    path: Array
    first_order: Array
    second_order: Array
    observed: Array

    @property
    def quadrature_error(self) -> Array:
        """The error of the quadrature: R(a) minus the sum of the parts, [G]."""
        return self.observed - self.path.sum(-1)


def attribution(
    apply: Apply,
    dense: Params,
    pruned: Params,
    batch: Batch | Chunks,
    *,
    num_groups: int,
    nodes: int = 2,
    segments: int = 16,
    tolerance: float | None = 0.01,
    loss: ExampleLoss = cross_entropy,
) -> Attribution:
    """Split every group's excessive loss over the layers.

    Along the straight line from the dense to the pruned parameters.

    The derivative of the loss along the line is a sum over layers at every point of it, and so is its integral (the
    integrated gradients of Sundararajan, Taly and Yan, ICML 2017, over parameters in place of inputs). Gauss-Legendre
    quadrature, exact for polynomials of degree 2 `nodes` - 1 on each segment; networks with kinks (ReLU) converge as
    segments are added. They are doubled until every group's error is below the tolerance, up to 16 times as many; the
    compiled program stays the same. `quadrature_error` tells how far the parts are then.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      dense: θ.
      pruned: θ̄ = θ + Δ, of the same structure.
      batch: [N] examples, or chunks of them made by `by_group` (for use under vmap).
      num_groups: G.
      nodes: Points in each segment; each costs a gradient of all examples.
      segments: Equal parts of the line, to begin with.
      tolerance: Of each group's error, relative to its R(a), or 1e-5 nats where that is more; None takes `segments` as
        they are, as is always done inside of compiled functions.
      loss: Per-example loss.

    Returns:
      The parts.

    Raises:
      UserError: `nodes` or `segments` is below 1, the tolerance is not above 0, a group is out of range, or the
        outputs for one example depend on the others (checked outside of compiled functions).
    """
    if nodes < 1 or segments < 1:
        raise UserError(f"theory: a path integral of {segments} segments with {nodes} nodes is empty; take 1 or more")
    if tolerance is not None and not tolerance > 0:
        raise UserError(
            f"theory: a tolerance of {tolerance} is not above 0; give a share of R(a) such as 0.01, or None"
        )
    chunks = checked_chunks(apply, dense, batch, num_groups)
    dtype = jnp.result_type(*jax.tree.leaves(dense))
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((dense, pruned, chunks)))

    def integrate(points: Points) -> Attribution:
        return attribution_at(apply, dense, pruned, chunks, points, num_groups=num_groups, loss=loss)

    if tolerance is None or traced:
        return integrate(path_points(nodes, segments, dtype))
    return refined(integrate, nodes=nodes, segments=segments, dtype=dtype, tolerance=tolerance)


def attribution_at(
    apply: Apply,
    dense: Params,
    pruned: Params,
    chunks: Chunks,
    points: Points,
    *,
    num_groups: int,
    loss: ExampleLoss = cross_entropy,
) -> Attribution:
    """Compute `attribution` by a quadrature at these points, for use under vmap.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      dense: θ.
      pruned: θ̄, of the same structure.
      chunks: The examples, made by `by_group`.
      points: Of the quadrature; `path` is the integral over them.
      num_groups: G.
      loss: Per-example loss.

    Returns:
      The parts.
    """
    return _attribution(as_pytree(apply), dense, pruned, chunks, *points, num_groups=num_groups, loss=loss)


@partial(jax.jit, static_argnames=("num_groups", "loss"))
def _attribution(
    apply: Apply,
    dense: Params,
    pruned: Params,
    chunks: Chunks,
    times: Array,
    weights: Array,
    *,
    num_groups: int,
    loss: ExampleLoss,
) -> Attribution:
    delta = jax.tree.map(jnp.subtract, pruned, dense)

    def along(gradient: Params) -> Array:
        products = jax.tree.map(lambda d, g: jnp.sum(d * g), delta, gradient)
        return jnp.stack(jax.tree.leaves(products))

    def add(sums: jax.Array, chunk: tuple[Array, ...]) -> tuple[jax.Array, None]:
        x, y, weight, group = chunk
        value = partial(chunk_loss, apply, loss)

        def slope(params: Params) -> Params:
            return jax.grad(value)(params, x, y, weight)

        def at(total: Array, point: tuple[Array, Array]) -> tuple[Array, None]:
            moved = jax.tree.map(lambda p, d: p + point[0] * d, dense, delta)
            return total + point[1] * along(slope(moved)), None

        first, second = jax.jvp(slope, (dense,), (delta,))
        rows = jnp.stack([jnp.zeros_like(along(delta)), along(first), along(second) / 2])
        path, _ = jax.lax.scan(at, rows[0], (times, weights))
        change = excessive_loss(value(dense, x, y, weight), value(pruned, x, y, weight))
        rows = jnp.concatenate([path[None], rows[1:], jnp.full_like(rows[:1], change)])
        return sums.at[group].add(rows), None

    leaves = jax.tree.leaves(dense)
    begun = jnp.zeros((num_groups, 4, len(leaves)), jnp.result_type(*leaves))
    with jax.default_matmul_precision("highest"):
        sums, _ = jax.lax.scan(add, begun, (chunks.x, chunks.y, chunks.weight, chunks.group))
    size = jnp.where(chunks.size > 0, chunks.size, jnp.nan).astype(begun.dtype)
    path, first, second, change = jnp.moveaxis(sums / size[:, None, None], 1, 0)
    return Attribution(path=path, first_order=first, second_order=second, observed=change[:, 0])


def sparing_allocation(
    sizes: Array, levels: Array | Sequence[float], harm: Array, sparsity: float, resolution: int = 1000
) -> np.ndarray:
    """A sparsity for each layer that should hurt one group least.

    `harm[l, q]` is the group's excessive loss when layer l alone is pruned to `levels[q]`. The layers are taken to add
    up, and the sum of their harms is minimised exactly over all choices of one level for each layer that prune at least
    the asked share of all weights (dynamic programming over the number of pruned weights, in units of 1 / `resolution`
    of them, rounded down). That they add up is an approximation: measure what is gained.

    Args:
      sizes: [L] weights in each layer.
      levels: [Q] sparsities in [0, 1), of which one should be 0.
      harm: [L, Q] in nats.
      sparsity: The share of all weights to prune.
      resolution: Units that all the weights are counted in.

    Returns:
      [L] sparsities from `levels`; the highest level in every layer where no choice prunes enough.
    """
    sizes, levels, harm = np.asarray(sizes, float), np.asarray(levels, float), np.asarray(harm, float)
    units = np.floor(resolution * sizes[:, None] * levels / sizes.sum() + 1e-9).astype(int)
    goal = int(np.floor(resolution * sparsity))
    best = np.full(goal + 1, np.inf)  # the least harm so far by units pruned; the last entry is for the goal and more
    best[0] = 0.0
    choices = []
    for cost, harms in zip(units, harm, strict=True):
        reached, choice = np.full_like(best, np.inf), np.zeros((len(best), 2), int)
        for q, (step, loss) in enumerate(zip(cost, harms, strict=True)):
            target = np.minimum(np.arange(len(best)) + step, goal)
            for start in np.flatnonzero(np.isfinite(best)):
                if best[start] + loss < reached[target[start]]:
                    reached[target[start]] = best[start] + loss
                    choice[target[start]] = q, start
        best, choices = reached, [*choices, choice]
    if not np.isfinite(best[goal]):
        return np.full(len(sizes), levels.max())
    at, picked = goal, []
    for choice in reversed(choices):
        q, at = choice[at]
        picked.append(levels[q])
    return np.array(picked[::-1])
