"""Checks that the methods of a plan fit its data, before any work starts."""

from jaxprune import mitigation
from jaxprune.components import PAPER_MODELS
from jaxprune.data.batching import select
from jaxprune.errors import UserError
from jaxprune.pipeline.build import Experiment
from jaxprune.pipeline.methods import method_of
from jaxprune.pipeline.plan import Compress, Plan
from jaxprune.pipeline.validation import validation_halves


def check_methods(experiment: Experiment, plan: Plan) -> None:
    """Raise for methods of a plan that do not fit its data.

    Raises:
      UserError: A group is too small for a method, or images are changed at random that a method looks up.
    """
    settings, dataset = experiment.settings, experiment.dataset
    names = {entry.network.name: entry.network.method for entry in plan.entries if entry.network.role == "retrained"}
    methods = {name: method_of(settings, method) for name, method in names.items()}
    looking = [entry for entry in plan.entries if not isinstance(entry.node, Compress) and entry.node.reference]
    imitating = list(dict.fromkeys(entry.network.name for entry in looking))
    if imitating and (settings.train.flip or settings.train.crop):
        raise UserError(
            f"retrain.methods: {', '.join(imitating)} look at the dense network's outputs for images as they are, not "
            "flipped or cropped; set train.flip to false and train.crop to 0, or leave them out"
        )
    halves = validation_halves(dataset, plan.held_out)
    for name, method in methods.items():
        # The paper's models train where a group has no examples, unless they look examples up by their row.
        if name not in PAPER_MODELS or method.needs_dense:
            held_out = select(dataset.validation, halves.held_out)
            mitigation.method_data(method, dataset.train, held_out, num_groups=dataset.num_groups)
