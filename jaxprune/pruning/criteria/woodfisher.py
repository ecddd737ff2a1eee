"""WoodFisher: optimal brain surgeon with the empirical Fisher matrix in blocks.

Singh and Alistarh, "WoodFisher: efficient second-order approximation for neural network compression" (NeurIPS 2020);
Hassibi and Stork, "Second order derivatives for network pruning: optimal brain surgeon" (NeurIPS 1992).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.batches import check_batch
from jaxprune.errors import UserError
from jaxprune.examples import chunked
from jaxprune.losses import cross_entropy, weighted_mean
from jaxprune.networks import as_pytree
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.kernel_views import Kernel
from jaxprune.pruning.layer_inputs import kernels
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Masks, Params, PyTree, Scores

_BLOCKS = 256  # that are solved at a time
_HIGHEST = jax.lax.Precision.HIGHEST


@cache
def woodfisher(
    *, damping: float = 1e-3, block: int = 50, examples_per_gradient: int = 1, chunk_size: int = 16
) -> Criterion:
    """w² / 2 [F⁻¹]_ii, and the joint correction of optimal brain surgeon.

    F = damping I + Σ_i m_i g_i g_iᵀ / Σ_i m_i over the gradients g_i of the examples' losses and their weights m_i, in
    diagonal blocks of consecutive weights; those of a kernel run over the inputs of one output after the other. For the
    pruned weights P of a block the correction is δ = -F⁻¹[:, P] (F⁻¹[P, P])⁻¹ w_P, the least rise of ½ δᵀFδ that sets
    all of them to 0 at once. Layers that stay whole are not changed.

    The paper inverts by one rank-one update for each gradient; the inverse of the sum is the same, and is computed here
    by elimination in all blocks together.

    Memory: P x block numbers for P parameters, and chunk_size x P for the gradients. F is computed for the scores and
    again for the correction; in one compiled program the compiler may share it.

    Args:
      damping: Added to the diagonal of F.
      block: Weights in a block.
      examples_per_gradient: More than 1 for gradients of the mean loss of so many examples, as the paper has it for
        large networks: fewer products, and a cruder F.
      chunk_size: Gradients that are formed at a time.

    Raises:
      UserError: The damping is not positive and finite, or a number is below 1.
    """
    if not 0 < damping < math.inf:
        raise UserError(f"damping: {damping} is not positive and finite; F has no inverse without some, such as 1e-3")
    numbers = {"block": block, "examples_per_gradient": examples_per_gradient, "chunk_size": chunk_size}
    for name, value in numbers.items():
        if value < 1:
            raise UserError(f"{name}: {value} is below 1; give 1 or more")
    options = _Options(damping, block, examples_per_gradient, chunk_size)
    correct = partial(_correct, options=options)
    return Criterion(partial(_score, options=options), frozenset({"batch"}), correct=correct)


@dataclass(frozen=True)
class _Options:
    """The arguments of `woodfisher`."""

    damping: float
    block: int
    examples_per_gradient: int
    chunk_size: int


_Layout = tuple[Kernel | None, ...]  # how each leaf is a matrix; None for what is no kernel


def _score(
    params: Params, *, apply: Apply, batch: Batch, options: _Options, loss: ExampleLoss = cross_entropy, **_: Any
) -> Scores:
    layout, batch = _layout(apply, params, batch), check_batch(batch)
    return _scores(_fisher(as_pytree(apply), params, batch, loss, layout, options), params, layout)


def _correct(
    params: Params,
    masks: Masks,
    *,
    apply: Apply,
    batch: Batch,
    options: _Options,
    loss: ExampleLoss = cross_entropy,
    **_: Any,
) -> Params:
    layout, batch = _layout(apply, params, batch), check_batch(batch)
    return _corrected(_fisher(as_pytree(apply), params, batch, loss, layout, options), params, masks, layout)


def _layout(apply: Apply, params: Params, batch: Batch) -> _Layout:
    by_index = {kernel.index: kernel for kernel in kernels(apply, params, batch.x)}
    return tuple(by_index.get(i) for i in range(len(jax.tree.leaves(params))))


def correct_block(fisher: Array, weights: Array, kept: Array) -> Array:
    """Prune some weights of one block, and correct the others.

    The minimum of ½ δᵀFδ with δ_P = -w_P solves F_KK δ_K = F_KP w_P for the kept weights K.

    Args:
      fisher: F [b, b], positive definite.
      weights: [b].
      kept: [b] bool; the others are P.

    Returns:
      [b] weights, 0 in P.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.pruning.criteria.woodfisher import correct_block
      >>> fisher = jnp.array([[2.0, 1.0], [1.0, 1.0]])
      >>> correct_block(fisher, jnp.array([3.0, 1.0]), jnp.array([True, False])).tolist()
      [3.5, 0.0]
    """
    # Rows and columns of P are those of the identity, so that one elimination serves any mask.
    system = jnp.where(kept[:, None] & kept, fisher, jnp.eye(len(weights), dtype=fisher.dtype))
    lost = jnp.where(kept, 0, weights).astype(fisher.dtype)
    push = jnp.where(kept, jnp.matmul(fisher, lost, precision=_HIGHEST), 0)
    return jnp.where(kept, weights + _solve(system, push[:, None])[:, 0], 0)


def inverse_diagonal(fisher: Array) -> Array:
    """The diagonal [b] of the inverse of a block [b, b]."""
    return jnp.diagonal(_solve(fisher, jnp.eye(fisher.shape[-1], dtype=fisher.dtype)))


def _solve(system: Array, right: Array) -> Array:
    """Solve [b, b] times [b, c] by Gauss-Jordan elimination.

    A positive definite system needs no exchange of rows. One loop serves thousands of small systems under `vmap`, where
    triangular solves are slow: those of XLA take 0.02 s for each on a CPU.
    """
    size = system.shape[-1]

    def eliminate(k: Array, table: jax.Array) -> jax.Array:
        row = table[k] / table[k, k]
        others = jnp.where(jnp.arange(size) == k, 0, table[:, k])
        return (table - others[:, None] * row).at[k].set(row)

    return jax.lax.fori_loop(0, size, eliminate, jnp.concatenate([jnp.asarray(system), right], 1))[:, size:]


@partial(jax.jit, static_argnames="layout")
def _scores(fisher: list[Array], params: Params, layout: _Layout) -> Scores:
    leaves, treedef = jax.tree.flatten(params)

    def of_leaf(blocks: Array, leaf: Array, kernel: Kernel | None) -> Array:
        weights = _blocks_of(leaf, kernel, blocks.shape[-1]).astype(blocks.dtype)
        return _from_blocks(weights**2 / (2 * _of_each(inverse_diagonal, blocks)), leaf.shape, kernel)

    return jax.tree.unflatten(treedef, [of_leaf(*part) for part in zip(fisher, leaves, layout, strict=True)])


@partial(jax.jit, static_argnames="layout")
def _corrected(fisher: list[Array], params: Params, masks: Masks, layout: _Layout) -> Params:
    leaves, treedef = jax.tree.flatten(params)

    def of_leaf(blocks: Array, leaf: Array, mask: Array, kernel: Kernel | None) -> Array:
        size = blocks.shape[-1]
        # What fills up the last block has no gradient: kept, it is corrected by 0.
        kept = _blocks_of(mask, kernel, size, fill=True)
        weights = _blocks_of(leaf, kernel, size).astype(blocks.dtype)
        return _from_blocks(
            _of_each(lambda block: correct_block(*block), (blocks, weights, kept)), leaf.shape, kernel
        ).astype(leaf.dtype)

    kept = treedef.flatten_up_to(masks)
    return jax.tree.unflatten(treedef, [of_leaf(*part) for part in zip(fisher, leaves, kept, layout, strict=True)])


@partial(jax.jit, static_argnames=("loss", "layout", "options"))
def _fisher(
    apply: Apply, params: Params, batch: Batch, loss: ExampleLoss, layout: _Layout, options: _Options
) -> list[jax.Array]:
    """F of every leaf, [blocks, b, b]."""
    leaves = jax.tree.leaves(params)
    sizes = [max(1, min(options.block, leaf.size)) for leaf in leaves]

    def gradient(some: Batch) -> tuple[list[Array], Array]:
        def mean_loss(params: Params) -> Array:
            return weighted_mean(loss(apply(params, some.x), some.y), some.weight)

        slopes = jax.tree.leaves(jax.grad(mean_loss)(params))
        return [_blocks_of(*part) for part in zip(slopes, layout, sizes, strict=True)], jnp.sum(some.weight)

    def add(total: list[jax.Array], some: PyTree) -> tuple[list[jax.Array], None]:
        slopes, weight = jax.vmap(gradient)(some)
        return [t + _outer(g.astype(t.dtype), weight) for t, g in zip(total, slopes, strict=True)], None

    start = [
        jnp.zeros((-(-leaf.size // size), size, size), jnp.promote_types(leaf.dtype, jnp.float32))
        for leaf, size in zip(leaves, sizes, strict=True)
    ]
    batches = chunked(batch, options.examples_per_gradient)
    sums = jax.lax.scan(add, start, chunked(batches, options.chunk_size))[0]
    count = jnp.sum(jnp.asarray(batch.weight))
    count = jnp.where(count > 0, count, 1)
    return [s / count.astype(s.dtype) + options.damping * jnp.eye(s.shape[-1], dtype=s.dtype) for s in sums]


def _of_each(function: Callable[[Any], Array], blocks: Any) -> Array:
    """Map over blocks, some at a time to stay in the cache."""
    return jax.lax.map(function, blocks, batch_size=_BLOCKS)


def _outer(slopes: Array, weight: Array) -> Array:
    """Σ_i m_i g_i g_iᵀ of blocks, from [i, blocks, b] and weights [i]."""
    weight = weight[:, None, None].astype(slopes.dtype)
    slopes = jnp.where(weight != 0, slopes, 0)
    return jnp.einsum("inb,inc->nbc", slopes * weight, slopes, precision=_HIGHEST)


def _blocks_of(leaf: Array, kernel: Kernel | None, size: int, *, fill: bool = False) -> Array:
    """A leaf as [blocks, size], filled up at the end."""
    flat = (leaf if kernel is None else jnp.swapaxes(kernel.as_matrix(leaf), 1, 2)).reshape(-1)
    return jnp.pad(flat, (0, -flat.size % size), constant_values=fill).reshape(-1, size)


def _from_blocks(blocks: Array, shape: tuple[int, ...], kernel: Kernel | None) -> Array:
    if kernel is None:
        return blocks.reshape(-1)[: math.prod(shape)].reshape(shape)
    k, d, p = kernel.matrix_shape
    return kernel.from_matrix(jnp.swapaxes(blocks.reshape(-1)[: k * d * p].reshape(k, p, d), 1, 2))
