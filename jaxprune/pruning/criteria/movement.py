"""Movement pruning (Sanh et al. 2020)."""

import math
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.gradients import check_examples, loss_sum, total_weight, wide_zeros
from jaxprune.pruning.masks import apply_masks
from jaxprune.states import check_key
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Masks, Params, Scores


@cache
def movement(*, epochs: int = 1, learning_rate: float = 0.01, batch_size: int = 128) -> Criterion:
    """-Σ w g over steps of SGD: keep the weights that move away from 0.

    A copy of the network is trained by plain SGD on the examples, shuffled in every epoch by the key; what is pruned
    already stays at 0, and the network itself is not changed. At each step w g is of the weights before it (Sanh et al.
    2020, eq. 4, without the positive factor of its learning rate). Costs `epochs` gradients.

    Args:
      epochs: Passes over the examples.
      learning_rate: Of SGD.
      batch_size: Examples in a step.

    Raises:
      UserError: A number is below 1, or the learning rate is not positive and finite.
    """
    for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
        if value < 1:
            raise UserError(f"{name}: {value} gives no step of training; give 1 or more")
    if not 0 < learning_rate < math.inf:
        raise UserError(f"learning_rate: {learning_rate} is not positive and finite; give 0.01, or less if it diverges")
    options = {"epochs": int(epochs), "learning_rate": float(learning_rate), "size": int(batch_size)}
    return Criterion(partial(_score, **options), frozenset({"batch", "key"}))


def _score(
    params: Params,
    *,
    apply: Apply,
    batch: Batch,
    key: jax.Array,
    epochs: int,
    learning_rate: float,
    size: int,
    loss: ExampleLoss = cross_entropy,
    masks: Masks | None = None,
    **_: Any,
) -> Scores:
    check_key(key)
    batch = check_examples(apply, params, batch)
    return _scores(
        as_pytree(apply), params, batch, key, masks, learning_rate, loss=loss, epochs=epochs, size=size
    )  # fmt: skip


@partial(jax.jit, static_argnames=("loss", "epochs", "size"))
def _scores(
    apply: Apply,
    params: Params,
    batch: Batch,
    key: jax.Array,
    masks: Masks | None,
    learning_rate: Array,
    *,
    loss: ExampleLoss,
    epochs: int,
    size: int,
) -> Scores:
    batch = jax.tree.map(jnp.asarray, batch)
    rows, present = _orders(key, batch.y.shape[0], epochs, size)

    def masked(tree: Params) -> Params:
        return tree if masks is None else apply_masks(tree, masks)

    def step(carry: tuple[Params, Scores], rows_of_step: tuple[Array, Array]) -> tuple[tuple[Params, Scores], None]:
        params, scores = carry
        indices, counts = rows_of_step
        examples = jax.tree.map(lambda a: a[indices], batch)
        examples = examples._replace(weight=jnp.where(counts, examples.weight, 0))
        grads = masked(jax.grad(partial(loss_sum, apply, loss))(params, examples))
        grads = jax.tree.map(lambda g: g / total_weight(examples).astype(g.dtype), grads)
        scores = jax.tree.map(lambda s, p, g: s - (p * g).astype(s.dtype), scores, params, grads)
        return (jax.tree.map(lambda p, g: (p - learning_rate * g).astype(p.dtype), params, grads), scores), None

    with jax.default_matmul_precision("highest"):
        start = (masked(params), jax.tree.map(wide_zeros, params))
        return jax.lax.scan(step, start, (rows, present))[0][1]


def _orders(key: jax.Array, n: int, epochs: int, size: int) -> tuple[Array, Array]:
    """Rows of the examples of every step, and which count, [T, B]."""
    steps = -(-n // size)
    length = -(-n // steps)
    orders = jax.vmap(lambda k: jax.random.permutation(k, n))(jax.random.split(key, epochs))
    # Padding repeats the first row of the epoch.
    padding = jnp.broadcast_to(orders[:, :1], (epochs, steps * length - n))
    rows = jnp.concatenate([orders, padding], 1).reshape(epochs * steps, length)
    present = jnp.broadcast_to(jnp.arange(steps * length) < n, (epochs, steps * length))
    return rows, present.reshape(rows.shape)
