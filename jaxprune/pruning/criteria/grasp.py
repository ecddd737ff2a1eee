"""GraSP, gradient signal preservation (Wang et al. 2020)."""

import math
from functools import cache, partial
from typing import Any

import jax

from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.networks import as_pytree
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.gradients import (
    check_examples,
    derivative_chunk,
    gradient_of_mean,
    loss_sum,
    sum_over_chunks,
    total_weight,
)
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params, Scores


@cache
def grasp(*, temperature: float = 200.0) -> Criterion:
    """W (H g): prune first what most increases the gradient's norm by going.

    g and H are the gradient and the Hessian of the mean loss of the logits divided by the temperature, so that all
    classes are about equally probable. Made for networks that are not trained yet. Costs 3 gradients: one for g and two
    for H g.

    Args:
      temperature: What the logits are divided by; 200 in the paper.

    Raises:
      UserError: The temperature is not positive and finite.
    """
    if not 0 < temperature < math.inf:
        raise UserError(f"temperature: {temperature} is not positive and finite; give 200.0, or 1.0 for the plain loss")
    return Criterion(partial(_score, temperature=temperature), frozenset({"batch"}))


def _score(
    params: Params, *, apply: Apply, batch: Batch, temperature: float, loss: ExampleLoss = cross_entropy, **_: Any
) -> Scores:
    batch = check_examples(apply, params, batch)
    size = derivative_chunk(batch.x, None)
    return _scores(as_pytree(apply), params, batch, temperature, loss=loss, size=size)


@partial(jax.jit, static_argnames=("loss", "size"))
def _scores(apply: Apply, params: Params, batch: Batch, temperature: Array, *, loss: ExampleLoss, size: int) -> Scores:
    # The squared norm of the gradient after a change δ is, to first order,
    #   ‖∇L(θ + δ)‖² = ‖g + H δ‖² = ‖g‖² + 2 δᵀ H g        (Wang et al. 2020, eq. 7),
    # so removing weight w alone, δ = -w e, changes it by -2 w (H g)_w. The paper's S = -w (H g) is thus the gain by
    # removal. What gains most is pruned first, so that the norm is preserved: the lowest w (H g) = -S goes first.
    def cool(params: Params, x: Array) -> Array:
        return apply(params, x) / temperature

    def slope(params: Params, chunk: Batch) -> Params:
        return jax.grad(partial(loss_sum, cool, loss))(params, chunk)

    with jax.default_matmul_precision("highest"):
        gradient = gradient_of_mean(cool, loss, params, batch, size)
        along = jax.tree.map(lambda p, g: g.astype(p.dtype), params, gradient)
        curved = sum_over_chunks(lambda chunk: jax.jvp(lambda p: slope(p, chunk), (params,), (along,))[1], batch, size)
    total = total_weight(batch)
    return jax.tree.map(lambda p, h: p * (h / total.astype(h.dtype)), params, curved)
