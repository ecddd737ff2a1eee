"""From the schedules of pruning to optimisers that prune while they train."""

from collections.abc import Mapping
from typing import Any

import jax
import optax

from jaxprune import pruning
from jaxprune.components import RANDOM_START
from jaxprune.errors import UserError
from jaxprune.pipeline.compress import Pruner, pruner_of
from jaxprune.pipeline.experiment import Experiment, Span
from jaxprune.pipeline.nodes import TrainSparse
from jaxprune.pipeline.sparsifier import Sparsifier
from jaxprune.types import Masks, PyTree

# Needs of criteria that a training step can meet: the gradient of its batch, the masks, and a key.
MET_WHILE_TRAINING = frozenset({"gradients", "key", "masks"})
_WRAPPERS = {"gradual": pruning.sparsify, "straight_through": pruning.straight_through}


def span_of(experiment: Experiment, node: TrainSparse) -> Span:
    """The epochs of a sparse training, and its learning rates."""
    return experiment.span("dense" if node.parent is None else "retrain", epochs=dict(node.options).get("epochs"))


def sparsifier_of(experiment: Experiment, node: TrainSparse, levels: Mapping[str, float] | None = None) -> Sparsifier:
    """The optimiser of a node, which prunes while it trains.

    Args:
      experiment: The data and the network.
      node: The node.
      levels: Path -> sparsity, where the allocation is by measured levels.
    """
    pruner, span = pruner_of(experiment, node, levels), span_of(experiment, node)
    inner, steps = experiment.optimiser(span), span.length * experiment.steps_in_epoch
    keep_zeros = experiment.settings.model.keep_zeros

    def transformation(masks: Masks | None, key: jax.Array) -> optax.GradientTransformation:
        if node.schedule in RANDOM_START:
            return _regrowing(node, pruner, inner, steps, key)
        return _falling(node, pruner, inner, steps, key, masks if keep_zeros else None)

    return Sparsifier((node, tuple(sorted((levels or {}).items()))), transformation, masks_of)


def masks_of(opt_state: PyTree) -> Masks:
    """The masks in the state of an optimiser that prunes."""
    kinds = (pruning.SparsifyState, pruning.StraightThroughState)
    states = jax.tree.leaves(opt_state, is_leaf=lambda leaf: isinstance(leaf, kinds))
    return next(state.masks for state in states if isinstance(state, kinds))


def check_updates(experiment: Experiment, node: TrainSparse) -> None:
    """Raise for a schedule that ends before its second update.

    Raises:
      UserError: There are too few steps.
    """
    options, span = dict(node.options), span_of(experiment, node)
    if "every" not in options:
        return
    steps = span.length * experiment.steps_in_epoch
    lasting = round(options["end"] * steps) - 1 - round(options.get("begin", 0) * steps)
    if options["every"] > lasting:
        raise UserError(
            f"prune.schedule_options.every: {node.schedule} lasts {lasting} of the {steps} steps of training, and its "
            f"masks would be updated every {options['every']:g}; give fewer, or train longer"
        )


def check_criterion(schedule: str, name: str, criterion: pruning.Criterion) -> None:
    """Raise for a criterion that cannot score while a schedule trains.

    Raises:
      UserError: It needs what a training step does not have.
    """
    if missing := criterion.needs - MET_WHILE_TRAINING:
        raise UserError(
            f"prune.criterion: {name} needs {' and '.join(sorted(missing))}, which {schedule} does not have while it "
            "trains; take one that needs no more than gradients, such as magnitude or taylor, or another prune.schedule"
        )


def _falling(
    node: TrainSparse,
    pruner: Pruner,
    inner: optax.GradientTransformation,
    steps: int,
    key: jax.Array,
    masks: Masks | None,
) -> optax.GradientTransformation:
    """Prune more and more, along a cubic schedule."""
    options = dict(node.options)
    begin = min(round(options["begin"] * steps), steps - 1)
    end = max(round(options["end"] * steps) - 1, begin)
    schedule = pruning.cubic(  # its last update reaches the target
        node.sparsity, begin=begin, end=end, every=int(options["every"]), power=float(options["power"])
    )
    already: dict[str, Any] = {} if masks is None else {"masks": masks}  # of `gradual`: settings refuse others
    return _WRAPPERS[node.schedule](
        inner,
        pruner.criterion,
        schedule,
        allocation=pruner.allocation,
        structure=pruner.structure,
        prunable=pruner.prunable,
        key=key,
        **already,
    )


def _regrowing(
    node: TrainSparse, pruner: Pruner, inner: optax.GradientTransformation, steps: int, key: jax.Array
) -> optax.GradientTransformation:
    """Train sparse networks from the start."""
    options: dict[str, Any] = {"key": key, "allocation": pruner.allocation, "prunable": pruner.prunable}
    if node.schedule == "static":
        return pruning.static_sparse(inner, node.sparsity, **options)
    own = dict(node.options)
    end = max(round(own["end"] * steps) - 1, 1)
    fraction = optax.cosine_decay_schedule(own["fraction"], end)
    make = pruning.rigl if node.schedule == "rigl" else pruning.sparse_evolution
    return make(inner, node.sparsity, begin=0, end=end, every=int(own["every"]), fraction=fraction, **options)
