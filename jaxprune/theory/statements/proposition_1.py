"""Proposition 1 of Tran et al. 2022, checked at stationary points."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxprune.errors import UserError
from jaxprune.groups import group_count
from jaxprune.losses import cross_entropy, weighted_mean
from jaxprune.networks import as_pytree
from jaxprune.theory.checks import check_examples, check_labels
from jaxprune.theory.derivatives.gradients import gradient_cosines, group_gradients, norms
from jaxprune.theory.statements.statement import Assumption, Statement
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Params

_MOST_PARAMETERS = 4096  # a dense Hessian of 128 MiB in float64


class Proposition1(NamedTuple):
    """The proposition, and what its proof says of two groups.

    Attributes:
      order: [G, G] ‖g_a‖ <= ‖g_b‖ for the pairs with |D_a| >= |D_b|; NaN elsewhere.
      ratio: [] |D_a| ‖g_a‖ = |D_b| ‖g_b‖; None unless there are two groups.
      cosine: [] cos(g_a, g_b) = -1; None unless there are two groups.
    """

    order: Statement
    ratio: Statement | None
    cosine: Statement | None


def proposition1(gradients: Params, sizes: Array, *, stationarity: float = 1e-3) -> Proposition1:
    """Proposition 1: at a local minimum, |D_a| >= |D_b| implies ‖g_a‖ <= ‖g_b‖.

    The proof is of two groups: there Σ_a |D_a| g_a = 0 makes the gradients opposite, and their norms inversely
    proportional to the sizes. With three or more groups it is false, and for any number it needs an
    exactly stationary point of the unregularised loss on the very examples that are measured: not test data, not
    weight decay.

    Args:
      gradients: g_a with a leading axis G, as `group_gradients` gives them.
      sizes: [G] total weights of the groups.
      stationarity: How large the gradient of the whole loss may be, relative to the largest of a group, to count as 0.

    Returns:
      The statements.
    """
    sizes = jnp.asarray(sizes)
    length = norms(gradients)
    shares = sizes / jnp.sum(sizes)
    # The groups' gradients cancel where the statement speaks: no digit is to be lost on the way.
    of_all = jax.tree.map(lambda g: jnp.tensordot(shares.astype(g.dtype), g, 1, precision="highest")[None], gradients)
    whole = norms(of_all)[0]
    present = sizes > 0
    stationary = Assumption(holds=whole <= stationarity * jnp.max(length), text="the whole loss is stationary")
    two = Assumption(holds=jnp.sum(present) == 2, text="there are exactly two groups")
    pairs = (sizes[:, None] >= sizes) & present[:, None] & present & ~jnp.eye(len(sizes), dtype=bool)
    order = Statement(
        name="Proposition 1",
        left=jnp.where(pairs, length[:, None], jnp.nan),
        right=jnp.where(pairs, length, jnp.nan),
        terms={"whole_gradient_norm": whole},
        assumptions=(two, stationary),
        rounding=stationarity,
    )
    if len(sizes) != 2:
        return Proposition1(order=order, ratio=None, cosine=None)
    cosine = gradient_cosines(gradients)[0, 1]
    products = length * sizes
    equality = partial(Statement, relation="=", assumptions=(stationary,), rounding=4 * stationarity)
    return Proposition1(
        order=order,
        ratio=equality(name="Proposition 1, norms", left=products[0], right=products[1]),
        cosine=equality(name="Proposition 1, directions", left=cosine, right=-jnp.ones_like(cosine)),
    )


def stationary_point(
    apply: Apply,
    params: Params,
    batch: Batch,
    *,
    loss: ExampleLoss = cross_entropy,
    max_iterations: int = 100,
    tolerance: float = 1e-12,
) -> tuple[Params, Array]:
    """A stationary point of a convex model's loss, by Newton's method.

    Steps are halved while they do not lower the loss; directions in which the Hessian is flat (as softmax has) are left
    alone. Run it in float64.

    Args:
      apply: `(params, x) -> logits [B, C]`, convex in the parameters, such as a linear model.
      params: Where to begin; at most 4096 numbers.
      batch: [N] examples, which must not be separable: the loss of those has no minimum.
      loss: Per-example loss.
      max_iterations: Newton steps, at most.
      tolerance: Of the norm of the gradient.

    Returns:
      The parameters, and the norm of the gradient there [].

    Raises:
      UserError: There are more than 4096 parameters, or no examples, or a label is out of range.
    """
    size = ravel_pytree(params)[0].size
    if size > _MOST_PARAMETERS:
        raise UserError(f"theory: a dense Hessian of {size} parameters is too large; take a model of at most 4096")
    batch = check_examples(batch)
    check_labels(apply, params, batch.x, batch.y, batch.weight)
    return _newton(as_pytree(apply), params, batch, tolerance, loss=loss, max_iterations=max_iterations)


@partial(jax.jit, static_argnames=("loss", "max_iterations"))
def _newton(
    apply: Apply, params: Params, batch: Batch, tolerance: float, *, loss: ExampleLoss, max_iterations: int
) -> tuple[Params, Array]:
    flat, unravel = ravel_pytree(params)

    def value(v: jax.Array) -> Array:
        return weighted_mean(loss(apply(unravel(v), batch.x), batch.y), batch.weight)

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        count, _, slope = state
        return (count < max_iterations) & (jnp.linalg.norm(slope) > tolerance)

    def advance(state: tuple[Array, jax.Array, Array]) -> tuple[Array, jax.Array, Array]:
        count, v, slope = state
        step = -jnp.linalg.pinv(jax.hessian(value)(v), hermitian=True) @ slope
        scales = 0.5 ** jnp.arange(30, dtype=v.dtype)
        # The whole step where it does not raise the loss but for rounding, or else the best of its halves.
        values = jax.lax.map(lambda scale: value(v + scale * step), scales)
        rounding = 8 * jnp.finfo(v.dtype).eps * jnp.abs(value(v))
        scale = jnp.where(values[0] <= value(v) + rounding, scales[0], scales[jnp.argmin(values)])
        moved = v + scale * step
        return count + 1, moved, jax.grad(value)(moved)

    with jax.default_matmul_precision("highest"):
        _, flat, slope = jax.lax.while_loop(unfinished, advance, (jnp.int32(0), flat, jax.grad(value)(flat)))
    return unravel(flat), jnp.linalg.norm(slope)


def proposition1_at(
    apply: Apply, params: Params, batch: Batch, *, num_groups: int, loss: ExampleLoss = cross_entropy
) -> Proposition1:
    """`proposition1` with the gradients of these examples at these parameters.

    Args:
      apply: `(params, x) -> logits [B, C]`, statistics frozen.
      params: The parameters, such as those of `stationary_point`.
      batch: [N] examples, the ones that the parameters were trained on.
      num_groups: G.
      loss: Per-example loss.

    Returns:
      The statements.

    Raises:
      UserError: As `group_gradients` does.
    """
    batch = check_examples(batch, num_groups=num_groups)
    gradients = group_gradients(apply, params, batch, num_groups=num_groups, loss=loss)
    sizes = group_count(batch.group, num_groups, batch.weight)
    return proposition1(gradients, sizes)
