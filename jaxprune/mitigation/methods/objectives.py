"""Objectives that replace the plain loss, and their training step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import optax

from jaxprune.losses import weighted_mean
from jaxprune.mitigation.carried_values import carried
from jaxprune.mitigation.dense import DenseReference
from jaxprune.mitigation.step import ExampleObjective
from jaxprune.networks import Network
from jaxprune.training import make_objective_step
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Logs, PyTree, Step


class MethodInputs(NamedTuple):
    """Arrays of one replica that methods may need.

    Attributes:
      shares: [G] the groups' shares of the training split.
      label_shares: [C] the labels' shares.
      dense: The dense network, or None where no method needs it.
      key: Decides what a method draws at random.
    """

    shares: Array
    label_shares: Array
    dense: DenseReference | None
    key: jax.Array


@dataclass(frozen=True)
class Objective:
    """A per-example objective, and what it needs.

    Attributes:
      losses: `(logits [B, C], batch, carried values) -> [B]` nats.
      needs: Fields of `MethodInputs` to carry, and "groups" if every group must have training examples.
      hyperparameters: Names of the hyperparameters to carry.
    """

    losses: ExampleObjective
    needs: frozenset[str] = frozenset()
    hyperparameters: tuple[str, ...] = ()

    def carried(self, inputs: MethodInputs, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that `losses` reads, by name."""
        fields = {name: getattr(inputs, name) for name in MethodInputs._fields if name in self.needs}
        return fields | {name: values[name] for name in self.hyperparameters}


def make_objective_mean_step(
    network: Network | Apply, loss: ExampleLoss, tx: optax.GradientTransformation, objective: ExampleObjective
) -> Step:
    """A training step on the mean of an objective, without a constraint.

    Args:
      network: A `Network`, or a function `apply(params, x) -> logits [B, C]`.
      loss: The plain per-example loss, for the log.
      tx: A transformation that carries (see `carry`) the values that the objective reads.
      objective: `(logits, batch, carried values) -> [B]`.

    Returns:
      The step; it logs `loss`, the objective's mean, and `plain_loss`.
    """

    def mean(logits: Array, batch: Batch, opt_state: PyTree) -> tuple[Array, Logs, dict[str, Any]]:
        value = weighted_mean(objective(logits, batch, carried(opt_state)), batch.weight)
        return value, {"loss": value, "plain_loss": weighted_mean(loss(logits, batch.y), batch.weight)}, {}

    return make_objective_step(network, mean, tx)
