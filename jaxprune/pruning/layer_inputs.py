"""Kernels of networks of any library, and moments of their inputs.

Kernels are found in the program that JAX traces (`layer_products`): parameters that are one side of a matrix product or
the kernel of a convolution, reshaped or transposed at most. Parameters used in the body of a `scan`, `while` or `cond`
are not found, nor are tables in which values are looked up.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.batches import check_batch
from jaxprune.examples import chunk_size_for, chunked
from jaxprune.groups import group_count, group_sum
from jaxprune.networks import as_pytree
from jaxprune.pruning.kernel_views import Kernel
from jaxprune.pruning.layer_products import Product, program_of
from jaxprune.types import Apply, Array, Batch, Params, PyTree

_NORMS_BYTES, _GRAMS_BYTES = 4 << 20, 1 << 18  # of inputs at a time; the windows of a layer are many times larger


def kernels(apply: Apply, params: Params, x: Any) -> list[Kernel]:
    """Find the kernels of a network, in the order of their use.

    A parameter that several products use counts once, by the first of them; one that they use by different axes, as
    both a matrix and its transpose, is left out.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters, or their shapes.
      x: [B, ...] inputs, or their shape and type.

    Returns:
      The kernels, with their paths and the axes that they sum over.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> params = {"first": jnp.ones((4, 8)), "second": jnp.ones((3, 8)), "bias": jnp.ones(3)}
      >>> def apply(params, x):
      ...     return jnp.tanh(x @ params["first"]) @ params["second"].T + params["bias"]
      >>> [(kernel.path, kernel.reduction_axes) for kernel in pruning.kernels(apply, params, jnp.ones((1, 4)))]
      [('first', (0,)), ('second', (1,))]
    """
    return list(_kernels_of(program_of(apply, params, x).products()).values())


def input_norms(
    apply: Apply, params: Params, batch: Batch, *, num_groups: int | None = None, chunk_size: int | None = None
) -> PyTree:
    """The mean squares of the inputs of every kernel, E[x_i²].

    The mean is over the rows of all products that use the kernel (the pixels of a convolution, the tokens of a
    sequence), weighted by the examples. One forward pass, whatever the number of groups.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen: each row must depend on its own example only.
      params: The parameters.
      batch: [N] examples.
      num_groups: G, for means over each group; None for one over all examples.
      chunk_size: Examples at a time, which bounds the memory; None for a number from the size of the inputs.

    Returns:
      The structure of `params`: arrays that broadcast to the parameter, of length 1 along axes of outputs, behind an
      axis G where groups are asked for. Ones for leaves that are not kernels; 0 for a group without examples.

    Raises:
      UserError: A group or a weight is out of range, or lengths differ.
    """
    batch = check_batch(batch, num_groups=num_groups)
    size = chunk_size_for(batch.x, chunk_size, budget=_NORMS_BYTES)
    group = jnp.zeros(jnp.shape(batch.weight), jnp.int32) if num_groups is None else batch.group
    means = _means_of_squares(as_pytree(apply), params, batch._replace(group=group), num_groups or 1, size)
    return means if num_groups is not None else jax.tree.map(lambda of_groups: of_groups[0], means)


def input_grams(
    apply: Apply, params: Params, batch: Batch, *, chunk_size: int | None = None
) -> dict[str, tuple[Kernel, Array]]:
    """The second moments of the inputs of every kernel, XᵀX / n.

    X [n, d] are the inputs as rows, one for every pixel or token of every example, in the kernel's own order; they
    count by the weights of the examples. d² numbers are held for each kernel, and the rows of `chunk_size` examples.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen: each row must depend on its own example only.
      params: The parameters.
      batch: [N] examples.
      chunk_size: Examples at a time; None for a number from the size of the inputs.

    Returns:
      Path -> the kernel, and its moments [K, d, d], K being 1 but for grouped convolutions; in the order of use.

    Raises:
      UserError: A weight is out of range, or lengths differ.
    """
    batch = check_batch(batch)
    size = chunk_size_for(batch.x, chunk_size, budget=_GRAMS_BYTES)
    moments = _moments(as_pytree(apply), params, batch, size)
    return {kernel.path: (kernel, moments[kernel.path]) for kernel in kernels(apply, params, batch.x)}


def _kernels_of(products: list[Product]) -> dict[str, Kernel]:
    return {product.kernel.path: product.kernel for product in products}


def _total_rows(products: list[Product], batch_weight: Array, path: str) -> Array:
    """The weight [...] of the rows of a kernel; 1 where there are none."""
    rows = sum(product.num_rows for product in products if product.kernel.path == path)
    return jnp.where(batch_weight > 0, batch_weight, 1) * rows


def _wide(x: Array) -> Array:
    """Widen to float32 at least, for sums of squares."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@partial(jax.jit, static_argnums=(3, 4))
def _means_of_squares(apply: Apply, params: Params, batch: Batch, num_groups: int, chunk_size: int) -> PyTree:
    """`input_norms` with the axis G."""
    program = program_of(apply, params, batch.x)

    def of_one(x: Array) -> dict[str, Array]:
        sums: dict[str, Array] = {}
        for product, value in program.inputs(params, x):
            squares = product.sort(product.squares(_wide(value)))
            sums[product.kernel.path] = sums.get(product.kernel.path, jnp.zeros((), squares.dtype)) + squares
        return sums

    def add(total: dict[str, Array], chunk: Batch) -> tuple[dict[str, Array], None]:
        values = jax.vmap(of_one)(chunk.x)
        return jax.tree.map(lambda t, v: t + group_sum(v, chunk.group, num_groups, chunk.weight), total, values), None

    chunks, products = chunked(batch, chunk_size), program.products()
    start = jax.tree.map(
        lambda of_one: jnp.zeros((num_groups, *of_one.shape), of_one.dtype), jax.eval_shape(of_one, chunks.x[0, 0])
    )
    sums = jax.lax.scan(add, start, chunks)[0]
    count = group_count(batch.group, num_groups, batch.weight)[:, None, None]
    result: list[Array] = [jnp.ones((num_groups, *(1,) * jnp.ndim(leaf))) for leaf in jax.tree.leaves(params)]
    for path, kernel in _kernels_of(products).items():
        means = sums[path] / _total_rows(products, count, path).astype(sums[path].dtype)
        result[kernel.index] = jax.vmap(kernel.of_inputs)(means)
    return jax.tree.unflatten(jax.tree.structure(params), result)


@partial(jax.jit, static_argnums=3)
def _moments(apply: Apply, params: Params, batch: Batch, chunk_size: int) -> dict[str, Array]:
    """Path -> XᵀX / n [K, d, d]."""
    program = program_of(apply, params, batch.x)
    products = program.products()

    def of_one(x: Array) -> list[Array]:
        return [product.sort(product.rows(_wide(value))) for product, value in program.inputs(params, x)]

    def add(total: dict[str, jax.Array], chunk: Batch) -> tuple[dict[str, jax.Array], None]:
        total = dict(total)
        for product, rows in zip(products, jax.vmap(of_one)(chunk.x), strict=True):
            weight = chunk.weight[:, None, None, None].astype(rows.dtype)
            rows = jnp.moveaxis(jnp.where(weight != 0, rows * jnp.sqrt(weight), 0), 1, 0)
            rows = rows.reshape(rows.shape[0], -1, rows.shape[-1])
            moment = jnp.einsum("knd,kne->kde", rows, rows, precision=jax.lax.Precision.HIGHEST)
            total[product.kernel.path] += moment
        return total, None

    chunks = chunked(batch, chunk_size)
    shapes = jax.eval_shape(of_one, chunks.x[0, 0])
    start = {
        product.kernel.path: jnp.zeros((rows.shape[0], rows.shape[2], rows.shape[2]), rows.dtype)
        for product, rows in zip(products, shapes, strict=True)
    }
    sums = jax.lax.scan(add, start, chunks)[0]
    count = jnp.sum(jnp.asarray(batch.weight))
    return {path: s / _total_rows(products, count, path).astype(s.dtype) for path, s in sums.items()}
