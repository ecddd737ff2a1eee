"""Nodes of a plan: how each family of networks is made."""

from dataclasses import dataclass

from jaxprune.components import PLAIN
from jaxprune.config.options import Part

Values = tuple[tuple[str, float], ...]  # hyperparameters, by name
WEIGHTS = Part("weights")
USUAL = Part("")  # the allocation of the criterion or the structure, or else the global one


@dataclass(frozen=True)
class Train:
    """Dense networks, one for each seed.

    Attributes:
      method: How they are trained, a name in `mitigation.METHODS` or "configured".
      values: Its hyperparameters.
      reference: The plain dense networks, where the method compares with them.
      until: The epochs after which the training is left; None for its end.
    """

    method: str = PLAIN
    values: Values = ()
    reference: "Train | None" = None
    until: int | None = None

    @property
    def parents(self) -> tuple["Node", ...]:
        """The nodes that it is made from."""
        return () if self.reference is None else (self.reference,)


@dataclass(frozen=True)
class Compress:
    """Networks pruned at once, not retrained.

    Attributes:
      parent: The dense networks, or retrained ones that are pruned further.
      criterion: What is pruned first.
      sparsity: The share of units pruned.
      structure: What is pruned together.
      allocation: How the sparsity is shared out over the layers.
    """

    parent: "Train | Retrain"
    criterion: Part
    sparsity: float
    structure: Part = WEIGHTS
    allocation: Part = USUAL

    @property
    def parents(self) -> tuple["Node", ...]:
        """The nodes that it is made from."""
        return (self.parent,)


@dataclass(frozen=True)
class TrainSparse:
    """Networks that are pruned while they are trained.

    Attributes:
      parent: The dense networks that are trained on; None where the training starts afresh.
      schedule: When the weights are pruned, a name in `PRUNING_SCHEDULES`.
      options: Those of the schedule, by name.
      criterion: What is pruned first.
      sparsity: The share of units pruned in the end.
      structure: What is pruned together.
      allocation: How the sparsity is shared out over the layers.
    """

    parent: Train | None
    schedule: str
    options: Values
    criterion: Part
    sparsity: float
    structure: Part = WEIGHTS
    allocation: Part = USUAL

    @property
    def parents(self) -> tuple["Node", ...]:
        """The nodes that it is made from."""
        return () if self.parent is None else (self.parent,)


@dataclass(frozen=True)
class Reestimate:
    """Pruned networks with the statistics of BatchNorm measured anew.

    Attributes:
      parent: The pruned networks.
    """

    parent: "Compress | TrainSparse | Retrain"

    @property
    def sparsity(self) -> float:
        """The share of units pruned."""
        return self.parent.sparsity

    @property
    def parents(self) -> tuple["Node", ...]:
        """The nodes that it is made from."""
        return (self.parent,)


@dataclass(frozen=True)
class Retrain:
    """Pruned networks trained on with their masks held.

    Attributes:
      parent: The pruned networks.
      method: How they are trained.
      values: Its hyperparameters.
      reference: The plain dense networks, where the method compares with them.
      halved: Whether it reads one half of the validation split, the other half of which decides something else.
      rewound: The dense networks early in their training, whose weights they go back to; None for none.
      repeats_rates: Whether the learning rates of the dense training are repeated from there on.
    """

    parent: "Pruned | Retrain"
    method: str
    values: Values = ()
    reference: Train | None = None
    halved: bool = False
    rewound: Train | None = None
    repeats_rates: bool = False

    @property
    def sparsity(self) -> float:
        """The share of units pruned."""
        return self.parent.sparsity

    @property
    def parents(self) -> tuple["Node", ...]:
        """The nodes that it is made from."""
        return tuple(node for node in (self.parent, self.reference, self.rewound) if node is not None)


Pruned = Compress | TrainSparse | Reestimate
Node = Train | Pruned | Retrain
DENSE = Train()


def phase_of(node: Node) -> str:
    """Return a node's last training phase: "dense" or "retrain"."""
    return "retrain" if isinstance(node, Retrain) else "dense"


def pruning_of(node: Pruned | Retrain) -> Compress | TrainSparse:
    """Return the pruning of a node."""
    while isinstance(node, Reestimate | Retrain):
        node = node.parent
    return node


def criterion_of(node: Pruned | Retrain) -> str:
    """Return the name of the criterion that a node was pruned by."""
    return pruning_of(node).criterion.name


def structure_of(node: Pruned | Retrain) -> Part:
    """Return the structure that a node was pruned by."""
    return pruning_of(node).structure


def dense_source(node: Node) -> Train:
    """Return the dense training that a node goes back to."""
    while not isinstance(node, Train):
        above = None if isinstance(node, TrainSparse) and node.parent is None else node.parent
        if above is None:
            return DENSE  # it starts afresh, and is compared with the plain dense networks
        node = above
    return node
