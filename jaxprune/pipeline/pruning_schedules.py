"""Schedules of pruning: the nodes from dense networks to pruned ones."""

from dataclasses import replace

from jaxprune.components import PLAIN
from jaxprune.errors import UserError
from jaxprune.pipeline.nodes import Compress, Node, Pruned, Retrain, Train, TrainSparse

_OPTIONS = "prune.schedule_options"
_MOST_ROUNDS = 100
_MOST = 1_000_000  # epochs, or steps between updates of masks


def one_shot(target: Compress, retrain: Retrain) -> Pruned:
    """Prune all at once.

    Args:
      target: The pruning of the dense networks.
      retrain: Plain retraining of them, of which a schedule may make use.
    """
    return target


def iterative(target: Compress, retrain: Retrain, *, rounds: int) -> Pruned:
    """Prune in rounds that each keep the same share.

    The networks are retrained after every round but the last.
    """
    if not 1 <= rounds <= _MOST_ROUNDS:
        raise UserError(f"{_OPTIONS}.rounds: {rounds} is not within 1 to {_MOST_ROUNDS}; give a few, such as 5")
    source: Train | Retrain = target.parent
    for done in range(1, rounds):
        sparsity = 1 - (1 - target.sparsity) ** (done / rounds)
        pruned = replace(target, parent=source, sparsity=round(sparsity, 6))
        source = replace(retrain, parent=pruned)
    return replace(target, parent=source)


def gradual(
    target: Compress, retrain: Retrain, *, epochs: int, begin: float, end: float, every: int, power: float
) -> Pruned:
    """Prune the dense networks while they are trained on."""
    options = {"epochs": epochs, "begin": begin, "end": end, "every": every, "power": power}
    return _while_training(target, "gradual", options, afresh=False)


def straight_through(
    target: Compress, retrain: Retrain, *, epochs: int, begin: float, end: float, every: int, power: float
) -> Pruned:
    """Prune gradually, and let pruned weights learn and come back."""
    options = {"epochs": epochs, "begin": begin, "end": end, "every": every, "power": power}
    return _while_training(target, "straight_through", options, afresh=False)


def before_training(target: Compress, retrain: Retrain) -> Retrain:
    """Prune fresh networks, and train them as the dense ones were."""
    fresh = Train(until=0)
    return Retrain(replace(target, parent=fresh), PLAIN, rewound=fresh, repeats_rates=True)


def static(target: Compress, retrain: Retrain) -> Pruned:
    """Prune at random before a training that starts afresh."""
    return _while_training(target, "static", {}, afresh=True)


def sparse_evolution(target: Compress, retrain: Retrain, *, fraction: float, end: float, every: int) -> Pruned:
    """Train sparse networks from the start, and regrow at random."""
    return _while_training(target, "set", {"fraction": fraction, "end": end, "every": every}, afresh=True)


def rigl(target: Compress, retrain: Retrain, *, fraction: float, end: float, every: int) -> Pruned:
    """Train sparse networks from the start, and regrow by gradient."""
    return _while_training(target, "rigl", {"fraction": fraction, "end": end, "every": every}, afresh=True)


def _while_training(target: Compress, schedule: str, options: dict[str, float], *, afresh: bool) -> TrainSparse:
    for name in ("begin", "end", "fraction"):
        if not 0 <= options.get(name, 0) <= 1:
            raise UserError(
                f"{_OPTIONS}.{name}: {options[name]:g} is not a share of the "
                f"{'kept weights' if name == 'fraction' else 'training'}, from 0 to 1; give one"
            )
    if options.get("begin", 0) >= options.get("end", 1):
        raise UserError(f"{_OPTIONS}.end: {options['end']:g} is not after the beginning, {options.get('begin', 0):g}")
    for name in ("epochs", "every"):
        if not 1 <= options.get(name, 1) <= _MOST:
            raise UserError(f"{_OPTIONS}.{name}: {options[name]:g} is not within 1 to {_MOST}; give another number")
    if options.get("power", 1) <= 0:
        raise UserError(f"{_OPTIONS}.power: {options['power']:g} is not above 0; 3 is usual")
    assert isinstance(target.parent, Train)
    return TrainSparse(
        parent=None if afresh else target.parent,
        schedule=schedule,
        options=tuple(sorted(options.items())),
        criterion=target.criterion,
        sparsity=target.sparsity,
        structure=target.structure,
        allocation=target.allocation,
    )


def is_plain(node: Node) -> bool:
    """Return whether a node is pruned at once from dense networks.

    The theory is about those.
    """
    return isinstance(node, Compress) and isinstance(node.parent, Train) and node.parent.until is None


def plain_retraining(parent: Compress, rewound: Train | None, *, repeats_rates: bool) -> Retrain:
    """The retraining between the rounds of a schedule."""
    return Retrain(parent, PLAIN, rewound=rewound, repeats_rates=repeats_rates)
