"""FairGRAPE (Lin et al. 2022)."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import sequential_vmap

from jaxprune.batches import check_classification
from jaxprune.examples import chunked
from jaxprune.groups import group_mean
from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.gradients import wide_zeros
from jaxprune.pruning.masks import layerwise_masks
from jaxprune.types import Apply, Array, Batch, Params, PyTree, Scores

_TURNS = 10_000  # in a layer, about; larger layers are picked several weights at a time


def fairgrape() -> Criterion:
    """FairGRAPE in one shot: each group keeps its share of the importance."""
    return Criterion(_score, frozenset({"batch", "groups"}), layerwise_masks)


def _score(params: Params, *, apply: Apply, batch: Batch, num_groups: int, **_: Any) -> Scores:
    importance = group_importance(apply, params, batch, num_groups=num_groups)
    return jax.tree.map(lambda leaf: fairgrape_scores(leaf, at_a_time=max(1, leaf[0].size // _TURNS)), importance)


def group_importance(apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int = 256) -> PyTree:
    """The importance of every weight for every group (Lin et al. 2022, §3).

    I_{a,w} = Σ_batches (|w| |∂J_a / ∂w|)². J_a is the mean loss of the group's members in the batch; the
    parameters stay fixed.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples.
      num_groups: G.
      chunk_size: Examples in a batch.

    Returns:
      The structure of `params`, leaves [G, ...], float32 or wider.

    Raises:
      UserError: As `auditing.evaluate` does.
    """
    batch = check_classification(apply, params, batch, num_groups=num_groups, size=chunk_size)
    return _group_importance(as_pytree(apply), params, batch, num_groups=num_groups, chunk_size=chunk_size)


@partial(jax.jit, static_argnames=("num_groups", "chunk_size"))
def _group_importance(apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int) -> PyTree:
    def group_losses(params: Params, chunk: Batch) -> Array:
        return group_mean(cross_entropy(apply(params, chunk.x), chunk.y), chunk.group, num_groups, chunk.weight)[0]

    def add(sums: PyTree, chunk: Batch) -> tuple[PyTree, None]:
        slopes = jax.jacrev(group_losses)(params, chunk)
        return jax.tree.map(lambda s, p, g: s + (p * g).astype(s.dtype) ** 2, sums, params, slopes), None

    zeros = jax.tree.map(lambda p: jnp.broadcast_to(wide_zeros(p), (num_groups, *p.shape)), params)
    with jax.default_matmul_precision("highest"):
        return jax.lax.scan(add, zeros, chunked(batch, chunk_size))[0]


def fairgrape_scores(importance: PyTree, *, at_a_time: int = 1) -> Scores:
    """Scores by the order in which the groups pick weights.

    Every layer has an order of its own.

    The group whose share of the importance kept so far falls furthest below its share in the whole layer picks its next
    most important weight, and the worth of that weight to every group is counted. Shares begin equal. The choice of k
    weights begins with that of k - 1, so that one order serves every sparsity.

    Args:
      importance: From `group_importance`, leaves [G, ...].
      at_a_time: Weights that a group picks in its turn; 1 is the algorithm, more is faster on large layers.

    Returns:
      Minus the position of each weight in its layer's order, [...] float32.
    """

    def one(values: Array) -> Array:
        order = _greedy(values.reshape(values.shape[0], -1), at_a_time)
        return -order.reshape(values.shape[1:]).astype(jnp.float32)

    return jax.tree.map(one, importance)


_State = tuple[jax.Array, jax.Array, jax.Array, jax.Array]  # positions [n + 1], sums [G], cursors [G], count []
_AHEAD = 8  # blocks of a group's order that one pass looks through


@partial(jax.jit, static_argnums=1)
def _greedy(importance: Array, at_a_time: int) -> Array:
    """The position [n] of each weight in the order, from importance [G, n].

    Replicas go one after another: in a loop over all of them at once every turn would copy the positions of all.
    """
    return sequential_vmap(partial(_order_of_picks, step=min(at_a_time, importance.shape[1])))(importance)


def _order_of_picks(importance: Array, *, step: int) -> Array:
    """`_greedy` of one replica.

    Each pass of the loop is one turn of one group. A group's order is cut into blocks of `step` weights. In its turn it
    picks what is left of its next block, and passes over blocks of which nothing is left.
    """
    num_groups, n = importance.shape
    total = jnp.sum(importance)
    target = jnp.sum(importance, 1) / jnp.where(total > 0, total, 1)
    # Each group's weights, best first; past the end comes index n, which no weight has.
    order = jnp.argsort(-importance, axis=1, stable=True).astype(jnp.int32)
    order = jnp.pad(order, ((0, 0), (0, _AHEAD * step)), constant_values=n)
    by_weight = jnp.pad(importance.T, ((0, 1), (0, 0)))  # [n + 1, G]: a weight's worth to all groups is one row

    def unfinished(state: _State) -> jax.Array:
        return state[3] < n

    def turn(state: _State) -> _State:
        positions, sums, cursors, count = state
        have = jnp.sum(sums)
        share = jnp.where(have > 0, sums / jnp.where(have > 0, have, 1), 1 / num_groups)
        # A group that has gone through all weights cannot pick.
        lack = jnp.where(cursors < n, target - share, -jnp.inf)
        g = jnp.argmax(lack)
        at = jax.lax.dynamic_slice(order, (g, cursors[g]), (1, _AHEAD * step))[0]
        # Others may have picked some of these weights before: an unpicked weight has position n. Index n is picked.
        fresh = (positions[at] == n).reshape(_AHEAD, step)
        block = jnp.argmax(jnp.any(fresh, 1))  # the first with a weight that is left, or else 0, of no weights
        passed = jnp.where(jnp.any(fresh), block + 1, _AHEAD) * step
        at, fresh = jax.lax.dynamic_slice(at, (block * step,), (step,)), fresh[block]
        place = count + jnp.cumsum(fresh, dtype=jnp.int32) - 1
        if step == 1:  # a slice is updated in place, and a scatter is a loop of its own
            value = jnp.where(fresh, place, jax.lax.dynamic_slice(positions, (at[0],), (1,)))
            positions = jax.lax.dynamic_update_slice(positions, value, (at[0],))
        else:
            positions = positions.at[jnp.where(fresh, at, n + 1)].set(place, mode="drop")
        worth = jnp.sum(jnp.where(fresh[:, None], by_weight[at], 0), 0)
        cursors = jnp.where(jnp.arange(num_groups) == g, cursors + passed, cursors)
        return positions, sums + worth, cursors, count + jnp.sum(fresh, dtype=jnp.int32)

    start = (
        jnp.full(n + 1, n, jnp.int32).at[n].set(-1),
        jnp.zeros(num_groups, importance.dtype),
        jnp.zeros(num_groups, jnp.int32),
        jnp.int32(0),
    )
    return jax.lax.while_loop(unfinished, turn, start)[0][:n]
