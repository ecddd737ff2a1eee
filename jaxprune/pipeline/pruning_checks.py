"""Check that the prunings of a plan fit its network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.components import RANDOM_START, SPARED
from jaxprune.config import Prune
from jaxprune.config.options import structure_of, unused_option
from jaxprune.errors import UserError
from jaxprune.pipeline.compress import check_reachable, pruner_of
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.nodes import Compress, TrainSparse
from jaxprune.pipeline.parts import criterion_for, is_coupled
from jaxprune.pipeline.plan import Plan
from jaxprune.pipeline.prunings import prunings_of
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
    if plan.explained and any(needs_single_layers(measure, settings.prune) for measure in settings.theory.measures):
        raise UserError(
            f"theory.measures: sparing prunes one layer at a time, and {settings.prune.structure} are of several; "
            "leave it out"
        )
    if settings.model.keep_zeros:
        params_now, _ = experiment.initialise()
        for pruning in prunings_of(settings.prune):
            for sparsity in settings.prune.sparsities:
                check_reachable(experiment, pruning.structure, experiment.zeros_of(params_now), sparsity)
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


def needs_single_layers(measure: str, prune: Prune) -> bool:
    """Return whether a measure prunes layers that have no own pruning."""
    return measure == "sparing" and is_coupled(structure_of(prune))


def _check(experiment: Experiment, node: Compress | TrainSparse, params: Any) -> None:
    measured = node.allocation.name == SPARED  # by levels that are known later
    if measured and is_coupled(node.structure):
        raise UserError(
            f"prune.allocation: spared goes by the harm of layers that are pruned one at a time, and "
            f"{node.structure.name} are of several; take levels, by the names of couplings, or another allocation"
        )
    axis = f"structures: {node.structure.name}" if experiment.settings.prune.structures else "structure"
    pruner = _translated(axis, lambda: pruner_of(experiment, node, {} if measured else None))
    sparsities = (node.sparsity,)
    _translated(axis, lambda: pruner.structure.check(params, experiment.prunable, sparsities))
    if measured:
        return

    def masks(scores: Any) -> Any:
        return pruner.masks(scores, None, node.sparsity)

    # Targets out of reach are found from the shapes alone.
    zeros = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), params)
    _translated("allocation", lambda: jax.eval_shape(masks, zeros))


# Where an error begins with the name of an argument, the setting that gives it.
_SETTINGS = {"sparsity: ": "prune.sparsities: ", "round_to: ": "prune.structure_options: round_to: "}


def _translated(axis: str, check: Callable[[], Any]) -> Any:
    """Run a check; its errors name the settings of an axis."""
    try:
        return check()
    except UserError as error:
        text = str(error).partition("\n")[0]  # under jit, JAX adds lines
        plain = text.removeprefix("structure: ").removeprefix("allocation: ").removeprefix("couplings: ")
        for argument, setting in _SETTINGS.items():
            if plain.startswith(argument):
                text = setting + plain.removeprefix(argument)
        raise UserError(text if text.startswith("prune.") else f"prune.{axis}: {plain}") from None
