"""Wanda: weights by the size of their inputs (Sun et al., ICLR 2024)."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.kernel_views import Kernel
from jaxprune.pruning.layer_inputs import input_norms, kernels
from jaxprune.types import Apply, Array, Batch, Params, PyTree, Scores


@cache
def wanda(*, per_output: bool = True) -> Criterion:
    """|w| ‖x‖₂, the part of an output that a weight carries (eq. 1).

    ‖x‖ is the root of the mean square of the weight's input. What is no kernel (biases, tables, the scales of norms)
    has no input and counts by |w|.

    Args:
      per_output: Whether weights are compared within each output, as in the paper: the score is then the rank among
        the weights of the same output, as a share of them, so that layerwise masks take the same share of every output
        to within one weight. With False the products themselves are compared.
    """
    return Criterion(partial(_score, per_output=per_output), frozenset({"batch", "activations"}))


@cache
def worst_group_wanda(*, per_output: bool = True) -> Criterion:
    """|w| max_a ‖x‖_a: prune a weight if it carries little for any group.

    ‖x‖_a is over the examples of group a alone, so that a small group counts as much as a large one.

    Args:
      per_output: As in `wanda`.
    """
    return Criterion(
        partial(_score_by_worst_group, per_output=per_output), frozenset({"batch", "activations", "groups"})
    )


def _score(params: Params, *, apply: Apply, batch: Batch, per_output: bool, **_: Any) -> Scores:
    norms = input_norms(apply, params, batch)
    return wanda_scores(params, norms, kernels(apply, params, batch.x) if per_output else None)


def _score_by_worst_group(
    params: Params, *, apply: Apply, batch: Batch, num_groups: int, per_output: bool, **_: Any
) -> Scores:
    of_groups = input_norms(apply, params, batch, num_groups=num_groups)
    norms = jax.tree.map(lambda leaf: jnp.max(leaf, 0), of_groups)
    return wanda_scores(params, norms, kernels(apply, params, batch.x) if per_output else None)


def wanda_scores(params: Params, norms: PyTree, compared: list[Kernel] | None = None) -> Scores:
    """Scores |w| √norm, or their ranks within each output.

    Args:
      params: The parameters.
      norms: Mean squares of the inputs, as from `input_norms`.
      compared: The kernels, to rank the scores of each output, and those of every other leaf together; None for the
        products themselves.

    Returns:
      Scores with the structure of `params`; ranks are (rank + 1/2) / d, of d weights of one output.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune.pruning.criteria.wanda import wanda_scores
      >>> wanda_scores(jnp.array([[3.0, -1.0], [2.0, 4.0]]), jnp.array([[1.0], [4.0]])).tolist()
      [[3.0, 1.0], [4.0, 8.0]]
    """
    return _scores(params, norms, None if compared is None else tuple(compared))


@partial(jax.jit, static_argnums=2)
def _scores(params: Params, norms: PyTree, compared: tuple[Kernel, ...] | None) -> Scores:
    products = jax.tree.map(lambda p, n: jnp.abs(p) * jnp.sqrt(n).astype(p.dtype), params, norms)
    if compared is None:
        return products
    at = {kernel.index: kernel for kernel in compared}
    leaves, treedef = jax.tree.flatten(products)
    ranked = [_ranks_per_output(leaf, at[i]) if i in at else _ranks(leaf) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(treedef, ranked)


def _ranks_per_output(values: Array, kernel: Kernel) -> Array:
    columns = kernel.as_matrix(values)
    return kernel.from_matrix(_ranks_along(columns, 1))


def _ranks(values: Array) -> Array:
    return _ranks_along(values.reshape(-1), 0).reshape(values.shape)


def _ranks_along(values: Array, axis: int) -> Array:
    order = jnp.argsort(values, axis=axis, stable=True)
    # The inverse of a permutation is a scatter; a second sort takes as long as the first.
    place = jax.lax.broadcasted_iota(jnp.int32, values.shape, axis)
    ranks = jnp.put_along_axis(jnp.zeros_like(place), order, place, axis, inplace=False)
    return (ranks.astype(jnp.float32) + 0.5) / max(1, values.shape[axis])
