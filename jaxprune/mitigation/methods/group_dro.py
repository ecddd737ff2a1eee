"""Group DRO: groups with large losses gain weight."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxprune.groups import group_mean
from jaxprune.losses import cross_entropy, weighted_mean
from jaxprune.mitigation.carried_values import carried_value, carry
from jaxprune.mitigation.methods.method import Method
from jaxprune.mitigation.methods.objectives import MethodInputs
from jaxprune.networks import Network
from jaxprune.training import make_objective_step
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Logs, Params, PyTree, Step


@dataclass(frozen=True)
class GroupDRO:
    """The program of group DRO, with the hyperparameter `rate`."""

    @property
    def needs(self) -> frozenset[str]:
        """Every group must have training examples."""
        return frozenset({"groups"})

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
        """The optimiser, with the weights of the groups in its state."""
        num_groups = inputs.shares.shape[0]
        weights = jnp.full(num_groups, 1 / num_groups)
        return optax.chain(primal_tx, carry({"q": weights, "rate": values["rate"]}))

    def step(self, network: Network, tx: optax.GradientTransformation, *, num_groups: int) -> Step:
        """The training step, for states of `transformation`."""
        return make_group_dro_step(network, cross_entropy, tx, num_groups=num_groups)


def make_group_dro_step(
    network: Network | Apply, loss: ExampleLoss, tx: optax.GradientTransformation, *, num_groups: int
) -> Step:
    """A training step of group DRO (Sagawa et al. 2020).

    It descends on Σ_a q_a J_a with the updated q_a ← q_a exp(rate J_a) / Z.

    The groups that are absent from the batch keep their q, rather than lose it to those that are there as if their
    loss were 0: the others share what is left. The loss of an absent group counts as 0 in the sum.

    Args:
      network: A `Network`, or a function `apply(params, x) -> logits [B, C]`.
      loss: Per-example loss.
      tx: A transformation with `carry({"q": ones(G) / G, "rate": ...})`.
      num_groups: G.

    Returns:
      The step; it logs `loss`, the plain mean, and the `multipliers` q [G] that the gradient was taken at.
    """

    def worst(logits: Array, batch: Batch, opt_state: PyTree) -> tuple[Array, Logs, dict[str, Any]]:
        losses = loss(logits, batch.y)
        means, count = group_mean(losses, batch.group, num_groups, batch.weight)
        q = group_dro_weights(
            carried_value(opt_state, "q"), jax.lax.stop_gradient(means), count, carried_value(opt_state, "rate")
        )
        logs = {"loss": weighted_mean(losses, batch.weight), "multipliers": q}
        return jnp.sum(q * means), logs, {"carried": {"q": q}}

    return make_objective_step(network, worst, tx)


def group_dro_weights(q: Array, losses: Array, count: Array, rate: Array) -> Array:
    """The weights q [G] after one exponentiated-gradient step.

    Absent groups keep their weights.
    """
    present = count > 0
    # Relative to the largest, so that no exponential overflows.
    raised = q * jnp.exp(rate * (losses - jnp.max(jnp.where(present, losses, -jnp.inf), initial=0)))
    raised = jnp.where(present, raised, 0)
    total = jnp.sum(raised)
    scale = jnp.sum(jnp.where(present, q, 0)) / jnp.where(total > 0, total, 1)
    return jnp.where(present & (total > 0), raised * scale, q)


GROUP_DRO = Method(
    "Group DRO",
    "The groups of the largest losses count more and more.",
    GroupDRO(),
    candidates={"rate": (0.001, 0.01, 0.1)},
)
