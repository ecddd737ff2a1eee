"""The gradient of each group's loss."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.theory.chunks import Chunks, checked_chunks
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params


def group_gradients(
    apply: Apply, params: Params, batch: Batch | Chunks, *, num_groups: int, loss: ExampleLoss = cross_entropy
) -> Params:
    """The gradient of each group's mean loss, g_a = ∇_θ J(θ; D_a).

    The g_a of Theorem 1 (Tran et al. 2022, eq. 4).

    Computed in the precision of the parameters with full matrix products, in one pass over the examples whatever the
    number of groups.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples, or chunks of them made by `by_group` (for use under vmap).
      num_groups: G.
      loss: Per-example loss.

    Returns:
      The structure of `params` with a leading axis G; 0 for a group without examples, which contributes nothing.

    Raises:
      UserError: There are no examples, a group is out of range, or the outputs for one example depend on the others
        (live batch statistics; checked outside of compiled functions).
    """
    chunks = checked_chunks(apply, params, batch, num_groups)
    return _group_gradients(as_pytree(apply), params, chunks, num_groups=num_groups, loss=loss)


def group_gradient_norms(
    apply: Apply, params: Params, batch: Batch | Chunks, *, num_groups: int, loss: ExampleLoss = cross_entropy
) -> Array:
    """‖g_a‖, the norm of each group's gradient.

    As in Theorem 1 (Tran et al. 2022, eq. 4); it is not the mean of the norms of the examples' gradients.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters.
      batch: [N] examples, or chunks of them made by `by_group` (for use under vmap).
      num_groups: G.
      loss: Per-example loss.

    Returns:
      [G] Euclidean norms; NaN for a group without examples.

    Raises:
      UserError: As `group_gradients` does.

    Example:
      One weight θ, loss log(1 + exp(-θx)) for label 1: at θ = 0 an example's gradient is -x / 2.

      >>> import jax.numpy as jnp
      >>> from jaxprune import theory
      >>> from jaxprune.types import Batch
      >>> def apply(theta, x):
      ...     return jnp.concatenate([jnp.zeros_like(x), theta * x], axis=-1)
      >>> batch = Batch(x=jnp.array([[1.0], [3.0], [8.0]]), y=jnp.array([1, 1, 1]), group=jnp.array([0, 0, 1]))
      >>> theory.group_gradient_norms(apply, jnp.zeros(()), batch, num_groups=2).tolist()
      [1.0, 4.0]
    """
    chunks = checked_chunks(apply, params, batch, num_groups)
    lengths = norms(_group_gradients(as_pytree(apply), params, chunks, num_groups=num_groups, loss=loss))
    return jnp.where(jnp.asarray(chunks.size) > 0, lengths, jnp.nan)


def norms(stacked: Params) -> Array:
    """[G] Euclidean norms over everything but the leading axis."""
    return jnp.sqrt(sum(jnp.sum(leaf.reshape(leaf.shape[0], -1) ** 2, 1) for leaf in jax.tree.leaves(stacked)))


def gradient_cosines(stacked: Params) -> Array:
    """cos(g_a, g_b), the cosines between the gradients of every two groups.

    By the proof of Proposition 1 (Tran et al. 2022, appendix A: Σ_a |D_a| g_a = 0) it is −1 for the two groups of a
    stationary point.

    Args:
      stacked: Gradients with a leading axis G, as `group_gradients` gives them.

    Returns:
      [G, G] in [-1, 1]; NaN where one of the two is 0.
    """
    length = norms(stacked)
    safe = jnp.where(length > 0, length, 1)
    products = sum(
        (
            jnp.einsum("ap,bp->ab", rows, rows, precision="highest")
            for leaf in jax.tree.leaves(stacked)
            for rows in [leaf.reshape(leaf.shape[0], -1) / safe[:, None]]
        ),
        start=jnp.zeros((len(length),) * 2, length.dtype),
    )
    present = (length > 0)[:, None] & (length > 0)
    return jnp.where(present, jnp.clip(products, -1, 1), jnp.nan)


def chunk_loss(apply: Apply, loss: ExampleLoss, params: Params, x: Array, y: Array, weight: Array) -> Array:
    """The weighted sum of one chunk's losses, []; padding contributes 0."""
    losses = loss(apply(params, x), y)
    return jnp.sum(jnp.where(weight != 0, losses * weight, 0))


@partial(jax.jit, static_argnames=("num_groups", "loss"))
def _group_gradients(apply: Apply, params: Params, chunks: Chunks, *, num_groups: int, loss: ExampleLoss) -> Params:
    def add(sums: Params, chunk: tuple[Array, Array, Array, Array]) -> tuple[Params, None]:
        x, y, weight, group = chunk
        gradient = jax.grad(partial(chunk_loss, apply, loss))(params, x, y, weight)
        return jax.tree.map(lambda s, g: s.at[group].add(g), sums, gradient), None

    zeros = jax.tree.map(lambda p: jnp.zeros((num_groups, *p.shape), p.dtype), params)
    with jax.default_matmul_precision("highest"):
        sums, _ = jax.lax.scan(add, zeros, (chunks.x, chunks.y, chunks.weight, chunks.group))
    size = jnp.where(chunks.size > 0, chunks.size, 1)
    return jax.tree.map(lambda s: s / size.reshape(-1, *(1,) * (s.ndim - 1)).astype(s.dtype), sums)
