"""The training step of the Lagrangian: one forward and one backward pass, for any number of groups."""

import jax
import jax.numpy as jnp
import optax

from jaxprune.groups import group_mean
from jaxprune.losses import weighted_mean
from jaxprune.mitigation.constraints import GroupStatistics
from jaxprune.mitigation.lagrangian import only_lagrangian_state
from jaxprune.training import make_objective_step
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Logs, Network, PyTree, Step


def make_lagrangian_step(network: Network | Apply, loss: ExampleLoss, tx: optax.GradientTransformation) -> Step:
    """A training step on J + Σ_a λ_a s_a(J_1, ..., J_G), with the multipliers and the constraint in the tx's state.

    Group losses are means over the members of each group in the batch; a group that is absent from it contributes
    nothing to the gradient, and its violation is 0.

    Args:
      network: A `Network`, or a function `apply(params, x) -> logits [B, C]`.
      loss: Per-example loss, `(logits [B, C], y [B]) -> [B]`.
      tx: A transformation that holds one `lagrangian(...)`: itself, or chained with others.

    Returns:
      The step; it logs `loss` [], `violation` [G] and the `multipliers` [G] that the gradient was taken at.
    """

    def objective(logits: Array, batch: Batch, opt_state: PyTree) -> tuple[Array, Logs, dict[str, Array]]:
        state = only_lagrangian_state(opt_state)
        losses = loss(logits, batch.y)
        means, count = group_mean(losses, batch.group, state.constraint.num_groups, batch.weight)
        statistics = GroupStatistics(means, weighted_mean(losses, batch.weight), count)
        multipliers = jax.lax.stop_gradient(state.multipliers)
        value = statistics.overall_loss + jnp.sum(multipliers * state.constraint.surrogate(statistics))
        violation = jax.lax.stop_gradient(state.constraint.violation(statistics))
        logs = {"loss": statistics.overall_loss, "violation": violation, "multipliers": multipliers}
        return value, logs, {"violation": violation}

    return make_objective_step(network, objective, tx)
