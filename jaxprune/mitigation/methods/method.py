"""A way of training a pruned network as plain values, and the optimiser, step and data that it stands for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprune.batches import check_batch
from jaxprune.data import Companions, companions
from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.mitigation import objectives
from jaxprune.mitigation.constraints import Constraint
from jaxprune.mitigation.duals import ascent
from jaxprune.mitigation.full_program import full_program, make_full_program_step
from jaxprune.mitigation.holding import hold
from jaxprune.mitigation.lagrangian import lagrangian
from jaxprune.mitigation.measuring import DenseReference
from jaxprune.mitigation.step import Objective, make_lagrangian_step
from jaxprune.training import make_step
from jaxprune.types import Array, Batch, Network, Step


@dataclass(frozen=True)
class Method:
    """A way of training a pruned network; what is not named is as in plain fine-tuning.

    Attributes:
      title: What people read.
      about: One sentence on what it does.
      constraint: `G -> Constraint`.
      objective: What is minimised, per example.
      group_dro: Whether the groups' losses are weighted by group DRO.
      full_program: Whether it is program (7) on gradients and curvature.
      dual: Rate -> how multipliers move; the rate may be traced.
      scheme: Of the Lagrangian.
      penalty: The coefficient of the augmented Lagrangian; 0 is the plain one.
      memory: Whether violations are measured on the buffer.
      remembered: Examples of each group in the buffer; None for as many as in the buffers of the other methods.
      held_out: Whether violations are measured on people of the validation split, whom the parameters never see; not on
        those who choose the hyperparameters.
      balanced: Whether batches draw all groups equally often.
      by_validation: Whether the epoch of the best validation accuracy is kept rather than the last one.
      masks: The group-aware criterion that prunes in place of the run's own; "" for the run's own.
      tuned: Hyperparameter -> candidates; the choice is made on the validation split.
    """

    title: str
    about: str
    constraint: Callable[[int], Constraint] | None = None
    objective: Objective | None = None
    group_dro: bool = False
    full_program: bool = False
    dual: Callable[[Array | float], optax.GradientTransformation] = ascent
    scheme: str = "alternating"
    penalty: float = 0.0
    memory: bool = False
    remembered: int | None = None
    held_out: bool = False
    balanced: bool = False
    by_validation: bool = False
    masks: str = ""
    tuned: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def constrained(self) -> bool:
        """Whether it has multipliers that ascend."""
        return self.constraint is not None or self.full_program

    @property
    def needs_dense(self) -> bool:
        """Whether it looks at the dense network's outputs."""
        imitates = self.objective in (objectives.distillation, objectives.performance_weighted)
        return imitates or (self.constraint is not None and self.constraint(1).needs_dense)

    @property
    def knows_groups(self) -> bool:
        """Whether what it trains depends on who is in which group."""
        weighs = self.group_dro or self.balanced or self.objective is objectives.reweighted
        return self.constrained or weighs or self.held_out or self.masks != ""

    def buffer(self, memory: int) -> int:
        """Examples of each group that it remembers, where others remember `memory`; 0 for none."""
        return (memory if self.remembered is None else self.remembered) if self.memory else 0


class Surroundings(NamedTuple):
    """What methods may need to know of a replica; arrays.

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


def method_transformation(
    method: Method,
    primal_tx: optax.GradientTransformation,
    params: Any,
    surroundings: Surroundings,
    values: Mapping[str, Array],
    *,
    memory: int = 40,
) -> optax.GradientTransformation:
    """The optimiser of a method; hyperparameters lie in its state, so that all candidates train as one program.

    Args:
      method: The method.
      primal_tx: The optimiser of the parameters, masks included.
      params: The parameters.
      surroundings: Of the replica.
      values: Hyperparameter -> value [].
      memory: Examples of each group that are remembered, where the method remembers any and says no number itself.

    Returns:
      The transformation.
    """
    num_groups = surroundings.shares.shape[0]
    held: dict[str, Any] = {name: value for name, value in values.items() if name not in ("dual_rate", "tolerance")}
    if method.needs_dense:
        dense = surroundings.dense
        # Only what the method uses: a state must not change with the other methods of a comparison.
        held["dense"] = dense if dense is None or method.held_out else dense._replace(held_out=None)
    if method.objective is objectives.reweighted:
        held["shares"] = surroundings.shares
    if method.objective is objectives.logit_adjusted:
        held["label_shares"] = surroundings.label_shares
    if method.group_dro:
        held["q"] = jnp.full(num_groups, 1 / num_groups)
    tx = primal_tx
    if method.full_program:
        dual = method.dual(values["dual_rate"])
        tx = full_program(primal_tx, dual, num_groups=num_groups, params=params, key=surroundings.key)
    elif method.constraint is not None:
        tx = lagrangian(
            primal_tx,
            method.constraint(num_groups),
            method.dual(values["dual_rate"]),
            penalty=method.penalty,
            memory=method.buffer(memory),
            tolerance=values.get("tolerance"),
        )
    return optax.chain(tx, hold(held)) if held else tx


def method_step(method: Method, network: Network, tx: optax.GradientTransformation, *, num_groups: int) -> Step:
    """The training step of a method, for states of `method_transformation`.

    Args:
      method: The method.
      network: The network.
      tx: A transformation of `method_transformation`, with any values: they are read from the state.
      num_groups: G.

    Returns:
      The step; it logs `loss`, and `multipliers` where the method has weights by group.
    """
    if method.full_program:
        return make_full_program_step(network, cross_entropy, tx, num_groups=num_groups, scheme=method.scheme)
    if method.constraint is not None:
        return make_lagrangian_step(network, cross_entropy, tx, scheme=method.scheme, objective=method.objective)
    if method.group_dro:
        return objectives.make_group_dro_step(network, cross_entropy, tx, num_groups=num_groups)
    if method.objective is not None:
        return objectives.make_objective_mean_step(network, cross_entropy, tx, method.objective)
    return make_step(network, cross_entropy, tx)


def method_data(method: Method, train: Batch, validation: Batch, *, num_groups: int) -> Batch | Companions:
    """The training data as a method draws from it.

    Raises:
      UserError: A group has no training examples, and the method constrains, weighs or draws by group; or no
        validation examples, and the method measures its violation there; or as `batches.check_batch`.
    """
    train, validation = (check_batch(split, num_groups=num_groups) for split in (train, validation))
    by_group = method.constrained or method.group_dro or method.balanced or method.objective is objectives.reweighted
    empty = np.flatnonzero(np.bincount(np.asarray(train.group), np.asarray(train.weight), num_groups) == 0)
    if by_group and len(empty):
        raise UserError(f"group {empty[0]} has no training examples, so nothing can be asked for it; leave it out")
    unseen = np.flatnonzero(np.bincount(np.asarray(validation.group), np.asarray(validation.weight), num_groups) == 0)
    if method.held_out and len(unseen):
        raise UserError(
            f"group {unseen[0]} has no validation examples, on which {method.title} measures its violation; raise "
            "data.validation, or leave the method out"
        )
    if not (method.needs_dense or method.held_out or method.balanced):
        return train
    held_out = validation if method.held_out else None
    return companions(train, held_out=held_out, balanced=method.balanced, num_groups=num_groups)
