"""Criteria that know of groups: whom a weight serves decides whether it goes."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp

from jaxprune.batches import check_batch, check_classification
from jaxprune.data.batching import chunk_size_for, chunked
from jaxprune.groups import group_count, group_mean
from jaxprune.losses import cross_entropy
from jaxprune.pruning.masks import check_sparsity
from jaxprune.types import Apply, Array, Batch, Masks, Params, PyTree, Scores

_BETA = 1 / 3  # of FairPrune


def group_importance(apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int = 256) -> PyTree:
    """I_{a,w} = Σ_batches (|w| |∂J_a / ∂w|)², the importance of every weight for every group (Lin et al. 2022, §3).

    J_a is the mean loss of the group's members in the batch; the parameters stay as they are.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples.
      num_groups: G.
      chunk_size: Examples in a batch.

    Returns:
      The structure of `params`, leaves [G, ...].

    Raises:
      UserError: As `auditing.evaluate` does.
    """
    batch = check_classification(apply, params, batch, num_groups=num_groups, size=chunk_size)

    def group_losses(params: Params, chunk: Batch) -> Array:
        return group_mean(cross_entropy(apply(params, chunk.x), chunk.y), chunk.group, num_groups, chunk.weight)[0]

    def add(sums: PyTree, chunk: Batch) -> tuple[PyTree, None]:
        slopes = jax.jacrev(group_losses)(params, chunk)
        return jax.tree.map(lambda s, p, g: s + (p * g) ** 2, sums, params, slopes), None

    zeros = jax.tree.map(lambda p: jnp.zeros((num_groups, *p.shape), p.dtype), params)
    return jax.lax.scan(add, zeros, chunked(batch, chunk_size))[0]


def fairgrape_masks(importance: PyTree, sparsity: float, prunable: PyTree, *, at_a_time: int = 1) -> Masks:
    """Keeps, layer by layer, weights so that each group keeps its share of the importance (FairGRAPE, Lin et al. 2022).

    Of each layer `size - round(sparsity * size)` weights are kept. They are chosen greedily: the group whose share of
    the importance kept so far falls furthest below its share in the whole layer picks its next most important weight,
    and what that weight is worth to every group is counted. Shares begin equal.

    Args:
      importance: From `group_importance`, leaves [G, ...].
      sparsity: The share to prune of every layer, in [0, 1).
      prunable: Bools with the structure of the parameters.
      at_a_time: Weights that a group picks in its turn; 1 is the algorithm, more is faster on large layers.

    Returns:
      Masks with the structure of the parameters; all True for leaves that are not prunable.

    Raises:
      UserError: The sparsity is outside [0, 1).
    """
    check_sparsity(sparsity)

    def one(values: Array, wanted: bool) -> Array:
        shape = values.shape[1:]
        if not wanted:
            return jnp.ones(shape, bool)
        flat = values.reshape(values.shape[0], -1)
        kept = flat.shape[1] - round(sparsity * flat.shape[1])
        return _greedy(flat, kept, at_a_time).reshape(shape)

    leaves, treedef = jax.tree.flatten(importance)
    chosen = treedef.flatten_up_to(prunable)
    return jax.tree.unflatten(treedef, [one(leaf, wanted) for leaf, wanted in zip(leaves, chosen, strict=True)])


@partial(jax.jit, static_argnums=(1, 2))
def _greedy(importance: Array, kept: int, at_a_time: int) -> Array:
    """[n] bool, `kept` of them True, from importance [G, n]: one turn of one group in each pass of the loop."""
    num_groups, n = importance.shape
    step = min(at_a_time, n)
    total = jnp.sum(importance)
    target = jnp.sum(importance, 1) / jnp.where(total > 0, total, 1)
    # Each group's weights, best first; past the end comes an index that no weight has.
    order = jnp.argsort(-importance, axis=1, stable=True).astype(jnp.int32)
    order = jnp.pad(order, ((0, 0), (0, step)), constant_values=n)

    def unfinished(state: tuple[Array, Array, Array, Array]) -> Array:
        return state[3] < kept

    def turn(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        mask, sums, position, count = state
        have = jnp.sum(sums)
        share = jnp.where(have > 0, sums / jnp.where(have > 0, have, 1), 1 / num_groups)
        # A group that has gone through all weights cannot pick: all of them are kept then.
        lack = jnp.where(position < n, target - share, -jnp.inf)
        g = jnp.argmax(lack)
        at = jax.lax.dynamic_slice(order, (g, position[g]), (1, step))[0]
        fresh = ~mask[jnp.minimum(at, n - 1)] & (at < n)
        fresh &= jnp.cumsum(fresh) <= kept - count
        mask = mask.at[jnp.where(fresh, at, n)].set(True, mode="drop")
        worth = jnp.sum(jnp.where(fresh, importance[:, jnp.minimum(at, n - 1)], 0), 1)
        return mask, sums + worth, position.at[g].add(step), count + jnp.sum(fresh, dtype=jnp.int32)

    start = (
        jnp.zeros(n, bool),
        jnp.zeros(num_groups, importance.dtype),
        jnp.zeros(num_groups, jnp.int32),
        jnp.int32(0),
    )
    return jax.lax.while_loop(unfinished, turn, start)[0]


def group_curvature(apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int = 16) -> PyTree:
    """The diagonal of every group's Gauss-Newton matrix: E_x Σ_c p_c (∂ log p_c / ∂θ)², exact over the classes.

    For softmax and cross-entropy it is the Fisher information, and the Hessian's diagonal where the logits are linear.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters, P numbers.
      batch: [N] examples.
      num_groups: G.
      chunk_size: Examples at a time: chunk_size x P numbers are held.

    Returns:
      The structure of `params`, leaves [G, ...]; 0 for a group without examples.

    Raises:
      UserError: As `auditing.evaluate` does.
    """
    batch = check_classification(apply, params, batch, num_groups=num_groups, size=chunk_size)
    return _group_curvature(apply, params, batch, num_groups=num_groups, chunk_size=chunk_size)


def _group_curvature(apply: Apply, params: Params, batch: Batch, *, num_groups: int, chunk_size: int = 16) -> PyTree:
    """`group_curvature` of examples that have been checked."""

    def add(sums: PyTree, chunk: Batch) -> tuple[PyTree, None]:
        def log_probability(params: Params, x: Array, c: Array) -> Array:
            return jax.nn.log_softmax(apply(params, x[None])[0])[c]

        logits = apply(params, chunk.x)
        probabilities = jax.nn.softmax(logits)
        member = (chunk.group[:, None] == jnp.arange(num_groups)) * chunk.weight[:, None]  # [B, G]

        def of_class(sums: PyTree, c: Array) -> tuple[PyTree, None]:
            slopes = jax.vmap(jax.grad(log_probability), (None, 0, None))(params, chunk.x, c)
            weight = member * probabilities[:, c, None]
            return jax.tree.map(lambda s, g: s + jnp.tensordot(weight, g**2, ((0,), (0,))), sums, slopes), None

        return jax.lax.scan(of_class, sums, jnp.arange(logits.shape[-1]))[0], None

    zeros = jax.tree.map(lambda p: jnp.zeros((num_groups, *p.shape), p.dtype), params)
    sums = jax.lax.scan(add, zeros, chunked(batch, chunk_size))[0]
    count = group_count(jnp.asarray(batch.group), num_groups, jnp.asarray(batch.weight))
    safe = jnp.where(count > 0, count, 1)
    return jax.tree.map(lambda s: s / safe.reshape(-1, *[1] * (s.ndim - 1)), sums)


def fairprune_scores(
    params: Params, curvature: PyTree, privileged: Array, unprivileged: Array, *, beta: float = _BETA
) -> Scores:
    """Scores ½ θ² (h_unprivileged - β h_privileged) of FairPrune (Wu et al. 2022); the smallest go first.

    Args:
      params: The parameters.
      curvature: From `group_curvature`, leaves [G, ...].
      privileged: [] int, the group that pruning may rather hurt, such as that of the smallest loss.
      unprivileged: [] int, the group to spare.
      beta: How much the privileged group's own need counts against a weight.

    Returns:
      Scores with the structure of `params`.
    """
    return jax.tree.map(lambda p, h: 0.5 * p**2 * (h[unprivileged] - beta * h[privileged]), params, curvature)


def fairgrape(
    apply: Apply, params: Params, batch: Batch, sparsity: float, prunable: PyTree, *, num_groups: int
) -> Masks:
    """FairGRAPE's masks in one shot; layers above 10,000 weights are gone through in about 10,000 turns."""
    importance = group_importance(apply, params, batch, num_groups=num_groups)
    largest = max(leaf[0].size for leaf in jax.tree.leaves(importance))
    return fairgrape_masks(importance, sparsity, prunable, at_a_time=max(1, largest // 10_000))


def fairprune(apply: Apply, params: Params, batch: Batch, *, num_groups: int, beta: float = _BETA) -> Scores:
    """FairPrune's scores; the groups of the largest and of the smallest loss are the unprivileged and privileged ones.

    The method is made for two groups; with more of them the others do not count.
    """
    size = chunk_size_for(batch.x, None)
    batch = check_classification(apply, params, batch, num_groups=num_groups, size=size)
    logits = jax.lax.map(lambda x: apply(params, x), chunked(batch, size).x)
    logits = logits.reshape(-1, logits.shape[-1])[: len(batch.y)]
    losses, count = group_mean(jax.jit(cross_entropy)(logits, batch.y), batch.group, num_groups, batch.weight)
    curvature = _group_curvature(apply, params, batch, num_groups=num_groups)
    privileged = jnp.argmin(jnp.where(count > 0, losses, jnp.inf))
    unprivileged = jnp.argmax(jnp.where(count > 0, losses, -jnp.inf))
    return fairprune_scores(params, curvature, privileged, unprivileged, beta=beta)


def spare_all_scores(params: Params, curvature: PyTree) -> Scores:
    """Scores ½ θ² max_a h_a: a weight goes only if no group needs it; the smallest go first.

    The predicted rise of the loss of the group that a weight matters to most, so that a small group's need counts as
    much as a large one's. No group is privileged.

    Args:
      params: The parameters.
      curvature: From `group_curvature`, leaves [G, ...].

    Returns:
      Scores with the structure of `params`.
    """
    return jax.tree.map(lambda p, h: 0.5 * p**2 * jnp.max(h, 0), params, curvature)


def spare_all(apply: Apply, params: Params, batch: Batch, *, num_groups: int) -> Scores:
    """Scores that spare the group which needs a weight most."""
    return spare_all_scores(params, group_curvature(apply, params, batch, num_groups=num_groups))


def curvature(apply: Apply, params: Params, batch: Batch, *, num_groups: int) -> Scores:
    """Scores ½ θ² h over everybody (optimal brain damage, with the Gauss-Newton diagonal): the control without groups.

    Every example counts as if the groups had their shares of `batch`.
    """
    batch = check_batch(batch, num_groups=num_groups)
    everybody = batch._replace(group=jnp.zeros_like(jnp.asarray(batch.group)))
    return spare_all_scores(params, group_curvature(apply, params, everybody, num_groups=1))


# Name -> (apply, params, batch, sparsity, prunable, num_groups, scope) -> Masks.
GroupMasks = Callable[[Apply, Params, Batch, float, PyTree, int, Callable[[Scores, float, PyTree], Masks]], Masks]
GROUP_CRITERIA: Mapping[str, GroupMasks] = {
    "fairgrape": lambda apply, params, batch, sparsity, prunable, num_groups, scope: fairgrape(
        apply, params, batch, sparsity, prunable, num_groups=num_groups
    ),
    "fairprune": lambda apply, params, batch, sparsity, prunable, num_groups, scope: scope(
        fairprune(apply, params, batch, num_groups=num_groups), sparsity, prunable
    ),
    "spare_all": lambda apply, params, batch, sparsity, prunable, num_groups, scope: scope(
        spare_all(apply, params, batch, num_groups=num_groups), sparsity, prunable
    ),
    "curvature": lambda apply, params, batch, sparsity, prunable, num_groups, scope: scope(
        curvature(apply, params, batch, num_groups=num_groups), sparsity, prunable
    ),
}
