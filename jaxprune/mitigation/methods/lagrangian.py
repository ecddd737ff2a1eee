"""Methods that constrain the groups by a Lagrangian."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import optax

from jaxprune.components import CONSTRAINTS, DUALS, SCHEMES
from jaxprune.losses import cross_entropy
from jaxprune.mitigation import constraints
from jaxprune.mitigation.carried_values import carry
from jaxprune.mitigation.constraints import Constraint
from jaxprune.mitigation.duals import ascent
from jaxprune.mitigation.methods.method import Method
from jaxprune.mitigation.methods.objectives import MethodInputs, Objective
from jaxprune.mitigation.multipliers import lagrangian
from jaxprune.mitigation.schemes import Scheme, alternating, simultaneous
from jaxprune.mitigation.step import make_lagrangian_step
from jaxprune.networks import Network
from jaxprune.types import Array, Params, Step

RATES = (0.001, 0.01, 0.1)
DUAL_RATES: Mapping[str, tuple[float, ...]] = {"dual_rate": RATES}
USUAL: Mapping[str, tuple[float, ...]] = {"dual_rate": RATES, "tolerance": (0.0, 0.01)}  # candidates


@dataclass(frozen=True)
class Lagrangian:
    """The program of `lagrangian`: hyperparameters `dual_rate`, `penalty` and `tolerance`, and the objective's.

    Attributes:
      constraint: `G -> Constraint`.
      dual: `rate -> transformation` of the multipliers; the rate may be traced.
      scheme: One of `jaxprune.mitigation.schemes`.
      objective: Minimised in place of the plain loss; None for the plain loss.
      buffer: Examples of each group to measure violations on; 0 for the batch, None leaves the number to the caller.
      held_out: Measure violations on validation examples, which the parameters never see.
    """

    constraint: Callable[[int], Constraint]
    dual: Callable[[Array | float], optax.GradientTransformation] = ascent
    scheme: Scheme = alternating
    objective: Objective | None = None
    buffer: int | None = 0
    held_out: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """Groups, and the needs of the constraint and of the objective."""
        needs = {"groups"} | (self.objective.needs if self.objective is not None else set())
        needs |= {"dense"} if self.constraint(1).needs_dense else set()
        needs |= {"held_out"} if self.held_out else set()
        return frozenset(needs | ({"buffer"} if self.buffer is None else set()))

    def transformation(
        self,
        primal_tx: optax.GradientTransformation,
        params: Params,
        inputs: MethodInputs,
        values: Mapping[str, Any],
        *,
        buffer: int,
    ) -> optax.GradientTransformation:
        """The optimiser, with multipliers and carried values in its state."""
        values_to_carry = {} if self.objective is None else self.objective.carried(inputs, values)
        values_to_carry |= {"dense": inputs.dense} if "dense" in self.needs else {}
        tx = lagrangian(
            primal_tx,
            self.constraint(inputs.shares.shape[0]),
            self.dual(values["dual_rate"]),
            penalty=values.get("penalty", 0.0),
            buffer=buffer if self.buffer is None else self.buffer,
            tolerance=values.get("tolerance"),
        )
        return optax.chain(tx, carry(values_to_carry)) if values_to_carry else tx

    def step(self, network: Network, tx: optax.GradientTransformation, *, num_groups: int) -> Step:
        """The training step, for states of `transformation`."""
        objective = None if self.objective is None else self.objective.losses
        return make_lagrangian_step(network, cross_entropy, tx, scheme=self.scheme, objective=objective)


EQUAL_LOSS = Method(
    "Equal loss",
    "Program (8) of the paper, |J_a - J| = 0 on the batch.",
    Lagrangian(constraints.equal_loss, scheme=simultaneous),
    candidates=DUAL_RATES,
)
EQUAL_LOSS_BUFFER = Method(
    "Equal loss, buffer",
    "The same, the violation measured on a buffer of each group's last examples.",
    Lagrangian(constraints.equal_loss, scheme=simultaneous, buffer=None),
    candidates=DUAL_RATES,
)
SIGNED = Lagrangian(constraints.equal_loss_signed)
EQUAL_LOSS_SIGNED = Method(
    "Equal loss, signed", "J_a - J = 0, so that multipliers fall again.", SIGNED, candidates=DUAL_RATES
)
EQUAL_LOSS_NUPI = Method(
    "Equal loss, νPI",
    "Signed; multipliers under νPI control, whose proportional term damps their oscillation.",
    Lagrangian(constraints.equal_loss_signed, dual=DUALS["nu_pi"]),
    candidates=DUAL_RATES,
)
EQUAL_LOSS_AUGMENTED = Method(
    "Equal loss, augmented",
    "Signed, with a quadratic penalty beside the multipliers (augmented Lagrangian).",
    SIGNED,
    candidates=DUAL_RATES,
    fixed={"penalty": 1.0},  # a group that is 1 nat worse than the whole counts once more, whatever its multiplier
)
LOSS_GAP = Method(
    "Loss gap",
    "J_a - J <= ε on the batch: groups that do better than most are left alone.",
    Lagrangian(constraints.loss_gap),
    candidates=USUAL,
)
EQUAL_LOSS_HELD_OUT = Method(
    "Equal loss, held out",
    "Signed, measured in a buffer of people that the parameters never see.",
    Lagrangian(constraints.equal_loss_signed, buffer=None, held_out=True),
    candidates=DUAL_RATES,
)
EQUAL_HARM = Method(
    "Equal harm",
    "R(a) = R: the loss may rise, but alike for all groups.",
    Lagrangian(constraints.equal_excessive_loss),
    candidates=DUAL_RATES,
)
CEAG = Method(
    "CEAG",
    "ψ_a <= ε, measured on accuracy in a buffer, with a loss as surrogate.",
    Lagrangian(constraints.excess_accuracy_gap, buffer=None),
    candidates=USUAL,
)
CEAG_HELD_OUT = Method(
    "CEAG, held out",
    "The same, measured on people that the parameters never see.",
    Lagrangian(constraints.excess_accuracy_gap, buffer=None, held_out=True),
    candidates=USUAL,
)


@cache  # equal settings give one method, whose functions are the same objects: its step is not compiled again
def configured_method(
    *,
    constraint: str,
    dual: str = "ascent",
    dual_rate: float = 1e-3,
    scheme: str = "simultaneous",
    penalty: float = 0.0,
    buffer: int = 0,
    tolerance: float = 0.0,
) -> Method:
    """The Lagrangian method of named parts.

    Args:
      constraint: A name in `CONSTRAINTS`.
      dual: A name in `DUALS`.
      dual_rate: The only candidate for the step size of the multipliers.
      scheme: A name in `SCHEMES`.
      penalty: The coefficient of the augmented Lagrangian; 0 is the plain one.
      buffer: Examples of each group to measure violations on; 0 for the batch.
      tolerance: The only candidate for the tolerance, if the constraint takes one.

    Returns:
      The method.

    Raises:
      UserError: A name is unknown.
    """
    parts = [constraint, dual, *([f"penalty {penalty:g}"] if penalty else []), *(["buffer"] if buffer else [])]
    tolerances = {"tolerance": (tolerance,)} if "tolerance" in CONSTRAINTS.defaults(constraint) else {}
    return Method(
        f"As configured: {', '.join(parts)}",
        f"What the settings of the run say: the constraint {constraint}, the dual update {dual}, the {scheme} scheme, "
        f"penalty {penalty:g}, measured on {f'the last {buffer} examples of each group' if buffer else 'the batch'}.",
        Lagrangian(CONSTRAINTS[constraint], dual=DUALS[dual], scheme=SCHEMES[scheme], buffer=buffer),
        candidates={"dual_rate": (dual_rate,)} | tolerances,
        fixed={"penalty": penalty},
    )
