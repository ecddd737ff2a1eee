"""SynFlow, synaptic flow (Tanaka et al. 2020)."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.errors import UserError
from jaxprune.networks import as_pytree
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.masks import apply_masks
from jaxprune.pruning.wide_range import apply_scaled
from jaxprune.types import Apply, Array, Batch, Masks, Params, Scores


@cache
def synflow(*, rounds: int = 100) -> Criterion:
    """|w ∂R/∂w| / R, where |w| turns ones into outputs of sum R.

    Every parameter takes its absolute value, biases and norms too (Tanaka et al. 2020, eq. 2). Of the examples the
    shape of the inputs alone is read. Pruned in rounds, each of which scores what the one before left, no layer is
    pruned whole before it must be. R outgrows the range of floats in a deep network: it is computed with an
    exponent beside each array, and a score is the share of R that goes through the weight. Inputs of bytes are
    white, 255, instead of ones, of which a normalisation within `apply` would make negative numbers.

    The frozen statistics of BatchNorm cannot take absolute values here. A running mean is subtracted, as far as it is
    not small beside the values that |w| makes; a network with saturating activations, such as ReLU6, passes nothing on
    where they saturate, and scores of NaN then say that R does not depend on any weight. Costs 1 gradient of a single
    example in each round.

    Args:
      rounds: Rounds of scoring and pruning; 100 in the paper.

    Raises:
      UserError: There is no round.
    """
    if rounds < 1:
        raise UserError(f"rounds: {rounds} rounds prune nothing; give 1 or more")
    return Criterion(_score, frozenset({"batch"}), rounds=int(rounds))


def _score(params: Params, *, apply: Apply, batch: Batch, masks: Masks | None = None, **_: Any) -> Scores:
    dtype = jax.dtypes.canonicalize_dtype(batch.x.dtype)
    one = np.full((1, *np.shape(batch.x)[1:]), 255 if dtype == jnp.uint8 else 1, dtype)
    return _scores(as_pytree(apply), params, one, masks)


@jax.jit
def _scores(apply: Apply, params: Params, one: Array, masks: Masks | None) -> Scores:
    positive = jax.tree.map(jnp.abs, params if masks is None else apply_masks(params, masks))

    def flow(params: Params) -> Array:
        return jnp.sum(apply_scaled(apply, params, one).value)

    with jax.default_matmul_precision("highest"):
        total, slopes = jax.value_and_grad(flow)(positive)
    # Both R and its derivative lack the same power of two. Where no score is above 0 none has a meaning: NaN.
    through = jax.tree.map(lambda p, g: jnp.abs(p * g), positive, slopes)
    some = jnp.any(jnp.stack([jnp.any(leaf > 0) for leaf in jax.tree.leaves(through)]))
    return jax.tree.map(lambda s: s / jnp.where(some, jnp.abs(total), jnp.nan), through)
