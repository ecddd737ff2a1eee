"""The diagonal of the empirical Fisher information."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.gradients import check_examples, sum_over_chunks, total_weight
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params, Scores

# Each example has a gradient of its own: as many are held as fit the cache of a CPU, or 16.
_EXAMPLES = 16
_NUMBERS = {"cpu": 2**17, "other": 2**28}


def fisher() -> Criterion:
    """½ w² E[g²] over the gradients of single examples.

    g is the gradient of one example's loss at its true label, so that E[g²] is the diagonal of the empirical Fisher
    information (Theis et al. 2018, eq. 6). The exact Fisher information, with labels drawn from the network, is that of
    criterion `curvature`, by the Gauss-Newton diagonal. Costs N gradients of one example each.
    """
    return Criterion(_score, frozenset({"batch"}))


def _score(params: Params, *, apply: Apply, batch: Batch, loss: ExampleLoss = cross_entropy, **_: Any) -> Scores:
    numbers = _NUMBERS["cpu" if jax.default_backend() == "cpu" else "other"]
    fit = numbers // sum(leaf.size for leaf in jax.tree.leaves(params))
    batch = check_examples(apply, params, batch)
    return _scores(as_pytree(apply), params, batch, loss=loss, size=max(1, min(_EXAMPLES, fit)))


@partial(jax.jit, static_argnames=("loss", "size"))
def _scores(apply: Apply, params: Params, batch: Batch, *, loss: ExampleLoss, size: int) -> Scores:
    def of_one(params: Params, x: Array, y: Array) -> Array:
        return loss(apply(params, x[None]), y[None])[0]

    def squares(chunk: Batch) -> Params:
        grads = jax.vmap(jax.grad(of_one), (None, 0, 0))(params, chunk.x, chunk.y)
        return jax.tree.map(lambda g: jnp.tensordot(chunk.weight, jnp.square(g), 1), grads)

    with jax.default_matmul_precision("highest"):
        sums = sum_over_chunks(squares, batch, size)
    total = total_weight(batch)
    return jax.tree.map(lambda p, s: 0.5 * p**2 * (s / total.astype(s.dtype)), params, sums)
