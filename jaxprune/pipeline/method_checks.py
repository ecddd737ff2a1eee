"""Check that the methods of a plan fit its data."""

from jaxprune import mitigation
from jaxprune.components import PAPER_MODELS
from jaxprune.data.batching import select
from jaxprune.errors import UserError
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.methods import method_of
from jaxprune.pipeline.nodes import Pruned
from jaxprune.pipeline.plan import Plan
from jaxprune.pipeline.validation import validation_halves


def check_methods(experiment: Experiment, plan: Plan) -> None:
    """Raise for methods of a plan that do not fit its data.

    Raises:
      UserError: A group is too small for a method, or images are changed at random that a method looks up.
    """
    settings, dataset = experiment.settings, experiment.dataset
    trained = [entry for entry in plan.entries if not isinstance(entry.node, Pruned)]
    methods = {entry.network.name: method_of(settings, entry.network.method) for entry in trained}
    imitating = [name for name, method in methods.items() if method.needs_dense]
    if imitating and (settings.train.flip or settings.train.crop):
        raise UserError(
            f"retrain.methods: {', '.join(imitating)} look at the dense network's outputs for images as they are, not "
            "flipped or cropped; set train.flip to false and train.crop to 0, or leave them out"
        )
    halves = validation_halves(dataset, plan.held_out)
    paper = {*PAPER_MODELS, *(entry.network.name for entry in trained if entry.network.role == "dense")}
    for name, method in methods.items():
        # The paper's models train where a group has no examples, unless they look examples up by their row.
        if name not in paper or method.needs_dense:
            held_out = select(dataset.validation, halves.held_out)
            mitigation.method_data(method, dataset.train, held_out, num_groups=dataset.num_groups)
