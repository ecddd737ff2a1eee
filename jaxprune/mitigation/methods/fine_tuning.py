"""Fine-tuning without constraints, on the plain loss or on an objective."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import optax

from jaxprune.auditing import GroupMetrics
from jaxprune.losses import cross_entropy
from jaxprune.mitigation.carried_values import carry
from jaxprune.mitigation.methods.method import Method
from jaxprune.mitigation.methods.objectives import MethodInputs, Objective, make_objective_mean_step
from jaxprune.networks import Network
from jaxprune.training import make_step
from jaxprune.types import Array, Params, Step


@dataclass(frozen=True)
class FineTuning:
    """The program that minimises a mean over examples.

    Attributes:
      objective: Minimised in place of the plain loss; None for the plain loss.
    """

    objective: Objective | None = None

    @property
    def needs(self) -> frozenset[str]:
        """The needs of the objective."""
        return frozenset() if self.objective is None else self.objective.needs

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
        """The optimiser, with the values that the objective reads in its state."""
        if self.objective is None:
            return primal_tx
        return optax.chain(primal_tx, carry(self.objective.carried(inputs, values)))

    def step(self, network: Network, tx: optax.GradientTransformation, *, num_groups: int) -> Step:
        """The training step, for states of `transformation`."""
        if self.objective is None:
            return make_step(network, cross_entropy, tx)
        return make_objective_mean_step(network, cross_entropy, tx, self.objective.losses)


def overall_accuracy(metrics: GroupMetrics) -> Array:
    """The accuracy over all examples, as a selection of epochs."""
    return jnp.asarray(metrics.overall_accuracy)


NAIVE = Method("Naive fine-tuning", "The plain loss.", FineTuning())
NAIVE_BEST = Method(
    "Naive, best epoch",
    "The plain loss; the epoch of the best validation accuracy is kept.",
    FineTuning(),
    selection=overall_accuracy,
)
