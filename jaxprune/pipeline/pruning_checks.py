"""Check that the prunings of a plan fit its network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.components import RANDOM_START, SPARED
from jaxprune.config.options import unused_option
from jaxprune.errors import UserError
from jaxprune.pipeline.compress import check_reachable, pruner_of
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.nodes import Compress, TrainSparse
from jaxprune.pipeline.parts import criterion_for
from jaxprune.pipeline.plan import Plan
from jaxprune.pipeline.sparse_training import check_criterion, check_updates


def check_pruning(experiment: Experiment, plan: Plan) -> None:
    """Raise for prunings of a plan that do not fit its network.

    Raises:
      UserError: A layer does not fit the structure, a sparsity is out of reach, or a criterion needs what it cannot
        have.
    """
    assert experiment.network.init is not None
    params, stats = jax.eval_shape(experiment.network.init, jax.random.key(0))
    settings = experiment.settings
    if settings.prune.reestimate and not jax.tree.leaves(stats):
        raise UserError(f"prune.reestimate: {settings.model.name} has no statistics to measure anew; leave it out")
    if settings.model.keep_zeros:
        params_now, _ = experiment.initialise()
        for sparsity in settings.prune.sparsities:
            check_reachable(experiment, experiment.zeros_of(params_now), sparsity)
    tried = {node.criterion.name for node in plan.nodes if isinstance(node, Compress | TrainSparse)}
    if text := unused_option(settings.prune, tried):
        raise UserError(f"prune.criterion_options: nothing is pruned by the criterion of {text!r}; leave it out")
    for node in plan.nodes:
        if isinstance(node, TrainSparse) and node.schedule not in RANDOM_START:
            check_criterion(node.schedule, node.criterion.name, criterion_for(node.criterion))
        if isinstance(node, TrainSparse):
            check_updates(experiment, node)
        if isinstance(node, Compress | TrainSparse):
            _check(experiment, node, params)


def _check(experiment: Experiment, node: Compress | TrainSparse, params: Any) -> None:
    measured = node.allocation.name == SPARED  # by levels that are known later
    pruner = _translated("structure", lambda: pruner_of(experiment, node, {} if measured else None))
    sparsities = (node.sparsity,)
    _translated("structure", lambda: pruner.structure.check(params, experiment.prunable, sparsities))
    if measured:
        return

    def masks(scores: Any) -> Any:
        return pruner.masks(scores, None, node.sparsity)

    # Targets out of reach are found from the shapes alone.
    zeros = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), params)
    _translated("allocation", lambda: jax.eval_shape(masks, zeros))


def _translated(axis: str, check: Callable[[], Any]) -> Any:
    """Run a check; its errors name the settings of an axis."""
    try:
        return check()
    except UserError as error:
        text = str(error)
        raise UserError(text if text.startswith("prune.") else f"prune.{axis}: {text}") from None
