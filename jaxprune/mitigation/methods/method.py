"""Methods of retraining a pruned network, composed of functions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import optax

from jaxprune.auditing import GroupMetrics
from jaxprune.batches import check_batch
from jaxprune.data import IndexedBatch, indexed_batch
from jaxprune.errors import UserError
from jaxprune.mitigation.constraints import Constraint
from jaxprune.mitigation.methods.objectives import MethodInputs
from jaxprune.networks import Network
from jaxprune.types import Array, Batch, Params, Step

Selection = Callable[[GroupMetrics], Array]  # of the validation split; the epoch of the highest value is kept


class Program(Protocol):
    """The optimiser and the step of a method.

    A program is a frozen dataclass, equal by value, so that methods of one program share one compiled step. Numbers
    (rates, tolerances, penalties) are no part of it: they are arguments of `transformation` and live in its state.
    """

    @property
    def needs(self) -> frozenset[str]:
        """Fields of `MethodInputs`; "groups", "held_out" and "buffer".

        "groups": every group must have training examples. "held_out": violations are measured on validation examples,
        which the parameters never see. "buffer": the caller decides how many examples of each group are kept.
        """
        ...

    @property
    def constraint(self) -> Callable[[int], Constraint] | None:
        """`G -> Constraint`, if there is a constraint on group statistics."""
        ...

    def transformation(
        self,
        primal_tx: optax.GradientTransformation,
        params: Params,
        inputs: MethodInputs,
        values: Mapping[str, Any],
        *,
        buffer: int,
    ) -> optax.GradientTransformation:
        """The optimiser; see `method_transformation`."""
        ...

    def step(self, network: Network, tx: optax.GradientTransformation, *, num_groups: int) -> Step:
        """The training step; see `method_step`."""
        ...


@dataclass(frozen=True)
class Sampling:
    """Drawing of batches from the training split.

    Attributes:
      index: `(train, held_out=, num_groups=) -> IndexedBatch`.
      needs: "groups" if every group must have training examples, "rows" if batches depend on the index.
    """

    index: Callable[..., IndexedBatch] = indexed_batch
    needs: frozenset[str] = frozenset()


SHUFFLED = Sampling()  # every example once in an epoch


@dataclass(frozen=True)
class Method:
    """A method of retraining a pruned network.

    Attributes:
      title: Its name in reports.
      about: One sentence on what it does.
      program: Its optimiser and step: `FineTuning`, `Lagrangian`, `GroupDRO`, `FullProgram` or one of your own.
      sampling: How batches are drawn.
      selection: A score of the validation split, whose best epoch is kept; None keeps the last epoch.
      criterion: Name of the pruning criterion that replaces the run's own; "" for the run's own.
      candidates: Hyperparameter -> candidates; the choice is made on the validation split.
      fixed: Hyperparameter -> its only value.
    """

    title: str
    about: str
    program: Program
    sampling: Sampling = SHUFFLED
    selection: Selection | None = None
    criterion: str = ""
    candidates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)

    @property
    def needs(self) -> frozenset[str]:
        """The needs of the program and of the sampling."""
        return self.program.needs | self.sampling.needs

    @property
    def constraint(self) -> Callable[[int], Constraint] | None:
        """The constraint of the program."""
        return self.program.constraint

    @property
    def needs_dense(self) -> bool:
        """The method reads the dense network's outputs."""
        return "dense" in self.needs

    @property
    def held_out(self) -> bool:
        """Violations are measured on validation examples that choose no hyperparameters."""
        return "held_out" in self.needs

    @property
    def needs_groups(self) -> bool:
        """The training depends on the groups of the examples."""
        return bool(self.needs & {"groups", "held_out"})


def method_transformation(
    method: Method,
    primal_tx: optax.GradientTransformation,
    params: Params,
    inputs: MethodInputs,
    values: Mapping[str, Any],
    *,
    buffer: int = 40,
) -> optax.GradientTransformation:
    """The optimiser of a method; its state holds the hyperparameters.

    All candidates therefore train as one program.

    Args:
      method: The method.
      primal_tx: The optimiser of the parameters, masks included.
      params: The parameters.
      inputs: Of the replica.
      values: Hyperparameter -> value [].
      buffer: Examples of each group to keep, for methods that leave the number to the caller.

    Returns:
      The transformation.
    """
    if inputs.dense is not None and not method.held_out:
        # Otherwise the state of a method would change with the other methods of a comparison.
        inputs = inputs._replace(dense=inputs.dense._replace(held_out=None))
    return method.program.transformation(primal_tx, params, inputs, {**method.fixed, **values}, buffer=buffer)


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
    return method.program.step(network, tx, num_groups=num_groups)


def method_data(method: Method, train: Batch, validation: Batch, *, num_groups: int) -> Batch | IndexedBatch:
    """The training data as a method draws from it.

    Raises:
      UserError: A group has no training examples, and the method constrains, weighs or draws by group; or no
        validation examples, and the method measures its violation there; or as `batches.check_batch`.
    """
    train, validation = (check_batch(split, num_groups=num_groups) for split in (train, validation))
    empty = _empty_groups(train, num_groups)
    if "groups" in method.needs and len(empty):
        raise UserError(
            f"group {empty[0]} has no training examples, so {method.title} cannot constrain or weight it; leave it out"
        )
    empty = _empty_groups(validation, num_groups)
    if method.held_out and len(empty):
        raise UserError(
            f"group {empty[0]} has no validation examples, on which {method.title} measures its violation; raise "
            "data.validation, or leave the method out"
        )
    if not method.needs & {"dense", "held_out", "rows"}:
        return train
    return method.sampling.index(train, held_out=validation if method.held_out else None, num_groups=num_groups)


def _empty_groups(batch: Batch, num_groups: int) -> np.ndarray:
    return np.flatnonzero(np.bincount(np.asarray(batch.group), np.asarray(batch.weight), num_groups) == 0)
