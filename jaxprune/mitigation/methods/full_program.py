"""The full program of the paper: equal gradient norms and largest eigenvalues."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxprune.batches import with_weights
from jaxprune.groups import group_count, group_mean
from jaxprune.losses import cross_entropy, weighted_mean
from jaxprune.mitigation.carried_values import carried_value, carry
from jaxprune.mitigation.constraints import Constraint
from jaxprune.mitigation.duals import ascent
from jaxprune.mitigation.methods.method import Method
from jaxprune.mitigation.methods.objectives import MethodInputs
from jaxprune.mitigation.multipliers import lagrangian, multipliers_of
from jaxprune.mitigation.schemes import Scheme, simultaneous
from jaxprune.mitigation.statistics import GroupStatistics
from jaxprune.networks import Network, as_network
from jaxprune.replicas import where_due
from jaxprune.states import check_key, check_stats
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Logs, Params, Stats, Step, TrainState


def equal_gradients_and_curvature(num_groups: int) -> Constraint:
    """‖g_a‖ = ‖g‖ and λ(H_a) = λ(H) for every group a.

    Program (7) of Tran et al. 2022, with 2G multipliers.
    """
    return Constraint(2 * num_groups, False, _measured_in_step)


def full_program_transformation(
    primal_tx: optax.GradientTransformation,
    dual_tx: optax.GradientTransformation,
    *,
    num_groups: int,
    params: Params,
    key: jax.Array,
) -> optax.GradientTransformationExtraArgs:
    """The optimiser of program (7): 2G multipliers, and curvature directions.

    Args:
      primal_tx: The optimiser of the parameters.
      dual_tx: The optimiser of the multipliers; those of the gradient norms come first.
      num_groups: G.
      params: The parameters, P numbers, for their number.
      key: Decides the directions that the search for eigenvectors begins with.

    Returns:
      The transformation, for `make_full_program_step`.
    """
    check_key(key)
    size = ravel_pytree(params)[0].size
    directions = jax.random.normal(key, (num_groups + 1, size))
    constraint = equal_gradients_and_curvature(num_groups)
    return optax.chain(lagrangian(primal_tx, constraint, dual_tx), carry({"directions": directions}))


def make_full_program_step(
    network: Network | Apply,
    loss: ExampleLoss,
    tx: optax.GradientTransformation,
    *,
    num_groups: int,
    refresh: int = 10,
    products: int = 4,
    scheme: Scheme = simultaneous,
) -> Step:
    """A training step of program (7), on the batch.

    It descends on J + Σ_a λ_a (‖g_a‖ - ‖g‖) + μ_a (v_aᵀ H_a v_a - wᵀ H w).

    v_a and w are unit eigenvectors of the largest algebraic eigenvalues, taken as constants: the derivative of an
    eigenvalue is vᵀ (∂H) v, so that no eigenvector need be differentiated. They are improved every `refresh` steps by
    Rayleigh-Ritz on a Krylov space that begins with the old ones, and follow the batches slowly. Gradients and
    Hessians are those of the network in evaluation mode. The paper gives more than ten times the cost of a plain step.

    Args:
      network: A `Network`, or a function `apply(params, x) -> logits [B, C]`; with ReLU the curvature leaves out kinks.
      loss: Per-example loss.
      tx: From `full_program_transformation`, possibly chained with others.
      num_groups: G.
      refresh: K, the steps from one improvement of the eigenvectors to the next.
      products: Hessian-vector products for each improvement and group.
      scheme: As in `make_lagrangian_step`.

    Returns:
      The step; it logs `loss` [], `violation` [2G], `weights` [2G] and `multipliers` [2G], as `make_lagrangian_step`.
    """
    network, extended = as_network(network), optax.with_extra_args_support(tx)
    refreshed = _refresher(network, loss, num_groups, products)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Logs]:
        batch = with_weights(batch)
        group_losses = partial(_group_losses, network, loss, state, batch, num_groups)
        present = jnp.tile(group_count(batch.group, num_groups, batch.weight) > 0, 2)
        due, start = state.step % refresh == 0, carried_value(state.opt_state, "directions")
        directions = refreshed(due, start, (state, batch))

        def measure(params: Params, choose: Callable[[dict[str, Any]], Array]) -> Any:
            def value(params: Params) -> tuple[Array, tuple[Stats, Logs, dict[str, Any]]]:
                logits, stats = network.train(params, state.stats, batch)
                check_stats(state.stats, stats)
                overall = weighted_mean(loss(logits, batch.y), batch.weight)
                gaps = jnp.where(present, _gaps(group_losses, ravel_pytree(params)[0], directions), 0)
                violation = jax.lax.stop_gradient(gaps)
                extra = {"violation": violation, "present": present, "carried": {"directions": directions}}
                weights = jax.lax.stop_gradient(choose(extra))
                logs = {"loss": overall, "violation": violation, "weights": weights}
                return overall + weights @ gaps, (stats, logs, extra)

            gradients, (stats, logs, extra) = jax.grad(value, has_aux=True)(params)
            return gradients, extra, (stats, logs)

        params, opt_state, (stats, logs) = scheme(measure, extended, state.params, state.opt_state)
        return TrainState(state.step + 1, params, stats, opt_state), logs | {"multipliers": multipliers_of(opt_state)}

    return step


def _refresher(network: Network, loss: ExampleLoss, num_groups: int, products: int) -> Callable[..., Array]:
    """`(due, directions, (state, batch)) -> directions`, improved where it is due."""

    def improve(start: Array, at: tuple[TrainState, Batch]) -> Array:
        losses = partial(_group_losses, network, loss, *at, num_groups)
        return top_directions(lambda v: _products(losses, at[0].params, v), start, products)

    return where_due(improve)


def top_directions(products: Callable[[Array], Array], start: Array, count: int) -> Array:
    """Improve unit vectors towards the top eigenvectors of several operators.

    The top eigenvalue is the largest algebraic one.

    Rayleigh-Ritz on the Krylov space of `count` products, with full reorthogonalisation.

    Args:
      products: [K, P] -> [K, P], applying operator k to row k.
      start: [K, P], not 0.
      count: The number of products.

    Returns:
      [K, P] unit vectors.
    """
    basis, images = [_unit(start)], []
    for j in range(count):
        images.append(products(basis[j]))
        rest, known = images[j], jnp.stack(basis, 1)
        for _ in range(2):
            rest = rest - jnp.einsum("kjp,kj->kp", known, jnp.einsum("kjp,kp->kj", known, rest))
        # What is left of an exhausted space is rounding, and must not pass for a direction.
        size = jnp.linalg.norm(rest, axis=1, keepdims=True)
        scale = jnp.linalg.norm(images[j], axis=1, keepdims=True)
        exhausted = size <= 64 * jnp.finfo(rest.dtype).eps * scale
        basis.append(jnp.where(exhausted, 0, rest / jnp.where(size > 0, size, 1)))
    q, hq = jnp.stack(basis[:count], 1), jnp.stack(images, 1)
    matrix = jnp.einsum("kip,kjp->kij", q, hq)
    matrix = (matrix + jnp.swapaxes(matrix, 1, 2)) / 2
    there = jnp.sum(q**2, -1) > 0.5
    below = -4 * jnp.sum(jnp.abs(matrix), (1, 2)) - 1
    matrix = jnp.where(there[:, :, None] & there[:, None, :], matrix, 0)
    matrix += jax.vmap(jnp.diag)(jnp.where(there, 0, below[:, None]))
    _, vectors = jnp.linalg.eigh(matrix)
    return _unit(jnp.einsum("ki,kip->kp", vectors[:, :, -1], q))


def _group_losses(
    network: Network, loss: ExampleLoss, state: TrainState, batch: Batch, num_groups: int, flat: jax.Array
) -> Array:
    """[G + 1] the losses of the groups, then the overall loss."""
    params = ravel_pytree(state.params)[1](flat)
    losses = loss(network.apply(params, state.stats, batch.x, False)[0], batch.y)
    means, _ = group_mean(losses, batch.group, num_groups, batch.weight)
    return jnp.append(means, weighted_mean(losses, batch.weight))


def _products(group_losses: Callable[[jax.Array], Array], params: Params, vectors: Array) -> Array:
    """[G + 1, P] each loss's Hessian times its own vector."""
    flat = ravel_pytree(params)[0]

    def one(a: Array, vector: Array) -> Array:
        gradient = jax.grad(lambda theta: group_losses(theta)[a])
        return jax.jvp(gradient, (flat,), (vector,))[1]

    return jax.vmap(one)(jnp.arange(vectors.shape[0]), vectors.astype(flat.dtype))


def _gaps(group_losses: Callable[[jax.Array], Array], flat: jax.Array, directions: Array) -> Array:
    """[2G] ‖g_a‖ - ‖g‖ and v_aᵀ H_a v_a - wᵀ H w."""
    squares = jnp.sum(jax.jacrev(group_losses)(flat) ** 2, 1)
    norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)

    def curvature(a: Array, vector: Array) -> Array:
        def slope(theta: Array) -> Array:
            return jax.jvp(lambda t: group_losses(t)[a], (theta,), (vector,))[1]

        return jax.jvp(slope, (flat,), (vector,))[1]

    bends = jax.vmap(curvature)(jnp.arange(directions.shape[0]), directions.astype(flat.dtype))
    return jnp.concatenate([norms[:-1] - norms[-1], bends[:-1] - bends[-1]])


def _unit(vectors: Array) -> Array:
    size = jnp.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / jnp.where(size > 0, size, 1)


def _measured_in_step(statistics: GroupStatistics, tolerance: Array | float) -> Array:
    return statistics.loss


@dataclass(frozen=True)
class FullProgram:
    """Program (7), with the hyperparameter `dual_rate`."""

    @property
    def needs(self) -> frozenset[str]:
        """Groups, and a key for the first directions."""
        return frozenset({"groups", "key"})

    @property
    def constraint(self) -> None:
        """No constraint on group statistics."""
        return None

    def transformation(
        self,
        primal_tx: optax.GradientTransformation,
        params: Params,
        inputs: MethodInputs,
        values: Mapping[str, Any],
        *,
        buffer: int,
    ) -> optax.GradientTransformation:
        """The optimiser, with multipliers and directions in its state."""
        num_groups = inputs.shares.shape[0]
        dual = ascent(values["dual_rate"])
        return full_program_transformation(primal_tx, dual, num_groups=num_groups, params=params, key=inputs.key)

    def step(self, network: Network, tx: optax.GradientTransformation, *, num_groups: int) -> Step:
        """The training step, for states of `transformation`."""
        return make_full_program_step(network, cross_entropy, tx, num_groups=num_groups)


FULL_PROGRAM = Method(
    "Full program",
    "Program (7) of the paper: equal gradient norms and largest eigenvalues; slow.",
    FullProgram(),
    candidates={"dual_rate": (0.0001, 0.001)},
)
