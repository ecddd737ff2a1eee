"""Optimal brain damage (LeCun et al. 1990): the diagonal of the Hessian."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.gradients import check_examples, derivative_chunk, loss_sum, sum_over_chunks, total_weight
from jaxprune.states import check_key
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params, Scores

EXACT_LIMIT = 20_000  # parameters: as many products with the Hessian are needed
_AT_ONCE = 16  # products, whose vectors are held together, for each linearisation


@cache
def obd(*, probes: int = 64, exact_up_to: int = 1000) -> Criterion:
    """½ w² h, h the diagonal of the Hessian (optimal brain damage).

    The second-order change of the loss when w is removed from a network at a minimum (LeCun et al. 1990, eq. 5). Where
    the Hessian is negative the score is too: removing the weight is predicted to lower the loss. The diagonal is exact
    for small networks, at 2 P gradients, and estimated for others, at 2 gradients for each probe.

    Args:
      probes: Random vectors of the estimate, 2 or more.
      exact_up_to: P of the largest network whose diagonal is exact, 0 for none.

    Raises:
      UserError: There are fewer than 2 probes, or `exact_up_to` is negative or more than is computed exactly.
    """
    _check_probes(probes)
    if exact_up_to < 0:
        raise UserError(f"exact_up_to: {exact_up_to} is negative; give 0 to estimate the diagonal of every network")
    if exact_up_to > EXACT_LIMIT:
        raise UserError(f"exact_up_to: {exact_up_to} is above {EXACT_LIMIT}, the most that is computed exactly")
    return Criterion(partial(_score, probes=probes, exact_up_to=exact_up_to), frozenset({"batch", "key"}))


def _score(
    params: Params,
    *,
    apply: Apply,
    batch: Batch,
    key: jax.Array,
    probes: int,
    exact_up_to: int,
    loss: ExampleLoss = cross_entropy,
    **_: Any,
) -> Scores:
    exact = sum(leaf.size for leaf in jax.tree.leaves(params)) <= exact_up_to
    diagonal, _error = hessian_diagonal(apply, params, batch, probes=None if exact else probes, key=key, loss=loss)
    return jax.tree.map(lambda p, h: 0.5 * p**2 * h, params, diagonal)


def hessian_diagonal(
    apply: Apply,
    params: Params,
    batch: Batch,
    *,
    probes: int | None,
    key: jax.Array | None = None,
    loss: ExampleLoss = cross_entropy,
    chunk_size: int | None = None,
) -> tuple[Params, Params]:
    """The diagonal of the mean loss's Hessian, and its standard error.

    The estimate is the mean of z ⊙ Hz over random vectors z of signs (Bekas et al. 2007, eq. 2, where z ⊙ z = 1); its
    error is due to the entries of H off the diagonal, and falls with the root of their number.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters, P numbers.
      batch: [N] examples.
      probes: Random vectors, 2 or more; None for the exact diagonal by P products, of small networks alone.
      key: Decides the random vectors; not needed for the exact diagonal.
      loss: Per-example loss.
      chunk_size: Examples at a time; None for as many as a byte budget allows.

    Returns:
      The diagonal and the standard error of each of its entries, both with the structure of `params`; the error is 0
      where the diagonal is exact.

    Raises:
      UserError: The examples are unusable, there are fewer than 2 probes, the key is missing, or the network is too
        large for the exact diagonal.

    Example:
      One weight θ of a logistic regression: h = E[x² p (1 - p)], and p = ½ at θ = 0.

      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> from jaxprune.types import Batch
      >>> def apply(theta, x):
      ...     return jnp.concatenate([jnp.zeros_like(x), theta * x], axis=-1)
      >>> batch = Batch(x=jnp.array([[2.0], [4.0]]), y=jnp.array([1, 1]), group=jnp.array([0, 1]))
      >>> diagonal, error = pruning.hessian_diagonal(apply, jnp.zeros(()), batch, probes=None)
      >>> float(diagonal), float(error)
      (2.5, 0.0)
    """
    batch = check_examples(apply, params, batch)
    number = sum(leaf.size for leaf in jax.tree.leaves(params))
    if probes is None:
        if number > EXACT_LIMIT:
            raise UserError(
                f"probes: the exact diagonal of {number} parameters takes as many products, {EXACT_LIMIT} at most; "
                "give a number of probes for an estimate"
            )
    else:
        _check_probes(probes)
        if key is None:
            raise UserError("key: an estimate draws random vectors; give key=jax.random.key(0)")
        check_key(key)
    size = derivative_chunk(batch.x, chunk_size)
    return _diagonal(as_pytree(apply), params, batch, key, loss=loss, probes=probes, size=size)


def _check_probes(probes: int) -> None:
    if probes < 2:
        raise UserError(f"probes: {probes} random vectors have no standard error; give 2 or more")


@partial(jax.jit, static_argnames=("loss", "probes", "size"))
def _diagonal(
    apply: Apply,
    params: Params,
    batch: Batch,
    key: jax.Array | None,
    *,
    loss: ExampleLoss,
    probes: int | None,
    size: int,
) -> tuple[Params, Params]:
    flat, unravel = ravel_pytree(params)
    total = total_weight(batch)

    def products(vectors: Array) -> Array:
        """[K, P] vectors -> their products with the Hessian."""

        def of_chunk(chunk: Batch) -> Array:
            # Linearised once for all vectors: each then costs no gradient of its own besides.
            slope = jax.grad(lambda v: loss_sum(apply, loss, unravel(v), chunk))
            return jax.lax.map(jax.linearize(slope, flat)[1], vectors)

        sums = sum_over_chunks(of_chunk, batch, size)
        return sums / total.astype(sums.dtype)

    with jax.default_matmul_precision("highest"):
        if probes is None:
            diagonal = _exact(products, flat)
            error = jnp.zeros_like(diagonal)
        else:
            assert key is not None
            diagonal, error = _estimate(products, flat, key, probes)
    return _like(params, diagonal), _like(params, error)


def _exact(products: Any, flat: Array) -> Array:
    p = flat.size

    def of_block(index: Array) -> Array:
        vectors = jnp.zeros((index.size, p), flat.dtype).at[jnp.arange(index.size), index].set(1, mode="drop")
        return jnp.take_along_axis(products(vectors), jnp.minimum(index, p - 1)[:, None], 1)[:, 0]

    block = min(_AT_ONCE, p)
    index = jnp.arange(-(-p // block) * block).reshape(-1, block)
    return jax.lax.map(of_block, index).reshape(-1)[:p]


def _estimate(products: Any, flat: Array, key: jax.Array, probes: int) -> tuple[Array, Array]:
    block = min(_AT_ONCE, probes)
    blocks = -(-probes // block)
    counts = (jnp.arange(blocks * block) < probes).reshape(blocks, block)

    def add(moments: tuple[Array, Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array, Array], None]:
        key, counts = step
        vectors = jax.random.rademacher(key, (block, flat.size), flat.dtype)
        values = vectors * products(vectors)
        # Chan's update of mean and summed squares: those of the values themselves would cancel.
        n, mean, squares = moments
        m = jnp.sum(counts, dtype=mean.dtype)
        of_block = jnp.sum(jnp.where(counts[:, None], values, 0), 0) / m
        inside = jnp.sum(jnp.where(counts[:, None], (values - of_block) ** 2, 0), 0)
        gap = of_block - mean
        return (n + m, mean + gap * m / (n + m), squares + inside + gap**2 * n * m / (n + m)), None

    wide = jnp.promote_types(flat.dtype, jnp.float32)
    zero = jnp.zeros(flat.size, wide)
    start = (jnp.zeros((), wide), zero, zero)
    n, mean, squares = jax.lax.scan(add, start, (jax.random.split(key, blocks), counts))[0]
    return mean, jnp.sqrt(squares / ((n - 1) * n))


def _like(params: Params, flat: Array) -> Params:
    """Cut a flat vector into the shapes of the parameters."""
    leaves, treedef = jax.tree.flatten(params)
    places = [0]
    for leaf in leaves:
        places.append(places[-1] + leaf.size)
    cut = [flat[a:b].reshape(leaf.shape) for a, b, leaf in zip(places, places[1:], leaves, strict=False)]
    return jax.tree.unflatten(treedef, cut)
