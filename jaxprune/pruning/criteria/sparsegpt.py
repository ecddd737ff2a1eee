"""SparseGPT: layerwise reconstruction with a correction of the kept weights.

Frantar and Alistarh, "SparseGPT: massive language models can be accurately pruned in one-shot" (ICML 2023).
"""

import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.kernel_views import Kernel
from jaxprune.pruning.layer_inputs import input_grams
from jaxprune.types import Apply, Array, Batch, Masks, Params, Scores

_COLUMNS = 128  # of a block: the weights beyond it are corrected once for all of them, by one matrix product
_HIGHEST = jax.lax.Precision.HIGHEST


@cache
def sparsegpt(*, damping: float = 1e-2) -> Criterion:
    """w² / U_jj², and the sweep that corrects the weights not yet swept.

    H = XᵀX / n + damping mean(diag XᵀX / n) I is the Hessian of a layer's squared error in the weights of one output,
    X being its inputs in the dense network. The inputs j = 1 ... d are swept in the order of the kernel. U is the upper
    Cholesky factor of H⁻¹ = UᵀU; U_jj² is the diagonal entry of the inverse of H over the inputs from j on (eq. 5), so
    that the score is the error of pruning w_j where only the weights after it make up for it.

    Each layer's errors are divided by the mean square of its outputs, so that one threshold for all layers compares
    shares of what they put out; the paper prunes every layer alike, where that division changes nothing.

    The scores are those of the weights before any correction, and the inputs of all layers those of the dense network;
    the paper chooses masks block by block, and feeds each layer the outputs of the pruned ones before it. What is no
    kernel (biases, tables) has no error of its own: it scores w² and is left as it is.

    Memory: d² numbers for each kernel of d inputs. The moments of the inputs are computed for the scores and again for
    the correction; in one compiled program the compiler may share them.

    Args:
      damping: Added to the diagonal of H, as a share of its mean.

    Raises:
      UserError: The damping is not positive and finite.
    """
    if not 0 < damping < math.inf:
        raise UserError(f"damping: {damping} is not positive and finite; H has no inverse without some, such as 1e-2")
    return Criterion(
        partial(_score, damping=damping),
        frozenset({"batch", "activations"}),
        correct=partial(_correct, damping=damping),
    )


def _score(params: Params, *, apply: Apply, batch: Batch, damping: float, **_: Any) -> Scores:
    grams = input_grams(apply, params, batch)
    leaves, treedef = jax.tree.flatten(params)
    scores = [jnp.square(leaf) for leaf in leaves]
    for kernel, gram in grams.values():
        weights = leaves[kernel.index]
        errors = sparsegpt_scores(weights, kernel, gram, damping=damping)
        scores[kernel.index] = errors / output_energy(weights, kernel, gram)
    return jax.tree.unflatten(treedef, scores)


def _correct(params: Params, masks: Masks, *, apply: Apply, batch: Batch, damping: float, **_: Any) -> Params:
    grams = input_grams(apply, params, batch)
    leaves, treedef = jax.tree.flatten(params)
    kept = treedef.flatten_up_to(masks)
    result = [jnp.where(m, p, jnp.zeros((), p.dtype)) for p, m in zip(leaves, kept, strict=True)]
    for kernel, gram in grams.values():
        i = kernel.index
        result[i] = sweep(leaves[i], kept[i], kernel, gram, damping=damping)
    return jax.tree.unflatten(treedef, result)


@partial(jax.jit, static_argnames=("kernel", "damping"))
def sparsegpt_scores(weights: Array, kernel: Kernel, gram: Array, *, damping: float) -> Array:
    """The scores w² / U_jj² of one kernel.

    Args:
      weights: The kernel, in its own shape.
      kernel: How it is a matrix [K, d, p].
      gram: XᵀX / n [K, d, d] of its inputs.
      damping: As in `sparsegpt`.

    Returns:
      Scores in the shape of the kernel.
    """
    diagonal = jnp.diagonal(_factor(gram, damping), axis1=1, axis2=2)[:, :, None]
    matrix = kernel.as_matrix(weights).astype(gram.dtype)
    return kernel.from_matrix((matrix / diagonal) ** 2)


@partial(jax.jit, static_argnames="kernel")
def output_energy(weights: Array, kernel: Kernel, gram: Array) -> Array:
    """[] the mean square of a layer's outputs without biases, summed over them.

    It is 1 where all of them are 0.

    Args:
      weights: The kernel, in its own shape.
      kernel: How it is a matrix [K, d, p].
      gram: XᵀX / n [K, d, d] of its inputs.
    """
    matrix = kernel.as_matrix(weights).astype(gram.dtype)
    energy = jnp.einsum("kip,kij,kjp->", matrix, gram, matrix, precision=_HIGHEST)
    return jnp.where(energy > 0, energy, 1)


@partial(jax.jit, static_argnames=("kernel", "damping"))
def sweep(weights: Array, mask: Array, kernel: Kernel, gram: Array, *, damping: float) -> Array:
    """Prune one kernel input by input, and correct the weights after each.

    For j = 1 ... d: e = w_j (1 - m_j) / U_jj, then w_{j:} -= e U_{j,j:} (Frantar and Alistarh 2023, algorithm 1), for
    all outputs at once. Weights of one output of which none is pruned stay as they are, bit for bit.

    Args:
      weights: The kernel, in its own shape.
      mask: True = kept, of the same shape.
      kernel: How it is a matrix [K, d, p].
      gram: XᵀX / n [K, d, d] of its inputs.
      damping: As in `sparsegpt`.

    Returns:
      The kernel with pruned weights 0 and the others corrected.
    """
    matrix, kept = kernel.as_matrix(weights).astype(gram.dtype), kernel.as_matrix(mask)
    swept = jax.vmap(_swept)(matrix, kept, _factor(gram, damping))
    return jnp.where(mask, kernel.from_matrix(swept).astype(weights.dtype), jnp.zeros((), weights.dtype))


def _factor(gram: Array, damping: float) -> Array:
    """U [K, d, d], upper triangular with H⁻¹ = UᵀU."""
    d = gram.shape[-1]
    mean = jnp.mean(jnp.diagonal(gram, axis1=1, axis2=2), -1)[:, None, None]
    # A layer whose inputs are all 0 has no error to make up for: any multiple of I will do.
    damped = gram + jnp.where(mean > 0, damping * mean, 1) * jnp.eye(d, dtype=gram.dtype)
    return jax.vmap(_inverse_factor)(damped)


@jax.custom_batching.sequential_vmap
def _inverse_factor(matrix: Array) -> Array:
    """U [d, d], upper triangular with H⁻¹ = UᵀU, of one H; under `vmap` one by one.

    For a stack of matrices, LAPACK's calls wait in a thread of XLA's pool for other threads of the same pool: two such
    calls at once, of two layers, hang for good on a CPU of two cores (jaxlib 0.10).
    """
    # With rows and columns reversed H = LLᵀ is H = VVᵀ, V upper triangular, and U = V⁻¹: no inverse of H is formed.
    lower = jnp.linalg.cholesky(matrix[::-1, ::-1])
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    return jax.lax.linalg.triangular_solve(lower, identity, left_side=True, lower=True)[::-1, ::-1]


def _swept(matrix: Array, kept: Array, factor: Array) -> Array:
    """The sweep over [d, p] weights, in blocks of inputs."""
    d, p = matrix.shape
    size = min(_COLUMNS, d)
    blocks = -(-d // size)
    padding = blocks * size - d
    matrix = jnp.pad(matrix, ((0, padding), (0, 0)))
    kept = jnp.pad(kept, ((0, padding), (0, 0)), constant_values=True)
    factor = jnp.pad(factor, ((0, padding), (0, padding)))
    factor += jnp.diag((jnp.arange(d + padding) >= d).astype(factor.dtype))

    def of_block(b: Array, matrix: Array) -> Array:
        start = b * size
        within = jax.lax.dynamic_slice(factor, (start, start), (size, size))
        kept_here = jax.lax.dynamic_slice(kept, (start, 0), (size, p))
        here = jax.lax.dynamic_slice(matrix, (start, 0), (size, p))

        def of_input(j: Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            here, errors = state
            error = jnp.where(kept_here[j], 0, here[j]) / within[j, j]
            # U is upper triangular: weights before j do not change.
            return here - within[j][:, None] * error, errors.at[j].set(error)

        here, errors = jax.lax.fori_loop(0, size, of_input, (here, jnp.zeros_like(here)))
        matrix = jax.lax.dynamic_update_slice(matrix, here, (start, 0))
        rows = jax.lax.dynamic_slice(factor, (start, 0), (size, d + padding))
        beyond = jnp.where(jnp.arange(d + padding) >= start + size, rows, 0)
        return matrix - jnp.matmul(beyond.T, errors, precision=_HIGHEST)

    return jax.lax.fori_loop(0, blocks, of_block, matrix)[:d]
