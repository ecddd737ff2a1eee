"""Norms of the gradients of single examples.

No array of examples times parameters is formed.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from jaxprune.examples import map_examples
from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.theory.checks import check_examples, check_labels
from jaxprune.theory.derivatives.taps import Product, find_products, run_tapped, squared_norm
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params


def example_gradient_norms(
    apply: Apply, params: Params, batch: Batch, *, loss: ExampleLoss = cross_entropy, chunk_size: int = 128
) -> Array:
    """The norm of every example's gradient, ‖∇_θ ℓ(f(x), y)‖.

    The mean of the norms bounds ‖g_a‖ (triangle inequality, Proposition 2).

    Goodfellow, "Efficient per-example gradient computations", arXiv 1510.01799, 2015, for dense layers; the same with
    the patches of the input for convolutions.

    For parameters that enter one matrix product or convolution (found in the program of the network, whatever library
    wrote it) the norm comes from the two sides of that product, without the gradient itself; for the others, such as
    biases and the scales of norms, the gradients of `chunk_size` examples are formed.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen: each row must depend on its own example only.
      params: The parameters.
      batch: [N] examples.
      loss: Per-example loss.
      chunk_size: Examples at a time, which bounds the memory.

    Returns:
      [N] norms; 0 for examples of weight 0.

    Raises:
      UserError: There are no examples.
    """
    batch = check_examples(batch)
    check_labels(apply, params, batch.x, batch.y, batch.weight)
    return _example_gradient_norms(as_pytree(apply), params, batch, loss=loss, chunk_size=chunk_size)


def _loss_of_one(apply: Apply, loss: ExampleLoss, params: Params, x: Array, y: Array) -> Array:
    return loss(apply(params, x[None]), y[None])[0]


def _tappable(
    apply: Apply, loss: ExampleLoss, leaves: list[jax.Array], params: Params, one: Batch
) -> tuple[ClosedJaxpr, dict[int, Product]]:
    """The program of one example's loss, and its tappable products."""
    treedef = jax.tree.structure(params)

    def program(leaves: list[Array], x: Array, y: Array) -> Array:
        return _loss_of_one(apply, loss, jax.tree.unflatten(treedef, leaves), x, y)

    traced = jax.make_jaxpr(program)(leaves, one.x, one.y)
    return traced, find_products(traced, len(leaves))


@partial(jax.jit, static_argnames=("loss", "chunk_size"))
def _example_gradient_norms(apply: Apply, params: Params, batch: Batch, *, loss: ExampleLoss, chunk_size: int) -> Array:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(params)]
    first = jax.tree.map(lambda a: jnp.asarray(a)[0], batch)
    program, products = _tappable(apply, loss, leaves, params, first)
    tapped = {product.leaf for product in products.values()}
    formed = {i: leaf for i, leaf in enumerate(leaves) if i not in tapped}

    def squared(x: Array, y: Array) -> Array:
        def objective(taps: dict[int, Array], formed: dict[int, Array]) -> tuple[Array, dict[int, Array]]:
            values = [formed.get(i, leaf) for i, leaf in enumerate(leaves)]
            return run_tapped(program, len(leaves), [*values, x, y], taps)

        taps = {number: jnp.zeros(product.shape, product.dtype) for number, product in products.items()}
        (slopes, gradients), operands = jax.grad(objective, argnums=(0, 1), has_aux=True)(taps, formed)
        norms = [jnp.sum(gradient**2) for gradient in gradients.values()]
        norms += [squared_norm(product, operands[n], slopes[n]) for n, product in products.items()]
        return sum(norms, start=jnp.zeros((), jnp.result_type(*leaves)))

    with jax.default_matmul_precision("highest"):
        norms = map_examples(lambda chunk: jnp.sqrt(jax.vmap(squared)(chunk.x, chunk.y)), batch, chunk_size)
    return jnp.where(batch.weight != 0, norms, 0)
