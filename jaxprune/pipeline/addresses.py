"""The addresses of stages: everything that decides their results."""

from collections.abc import Sequence
from typing import Any

from jaxprune.components import CONFIGURED, CRITERIA, PLAIN, SPARED
from jaxprune.config.options import Part
from jaxprune.data import Grouping
from jaxprune.pipeline.convolution_form import form_of
from jaxprune.pipeline.experiment import READS_BATCH, Experiment
from jaxprune.pipeline.methods import method_of
from jaxprune.pipeline.nodes import (
    DENSE,
    Compress,
    Node,
    Reestimate,
    Retrain,
    Train,
    TrainSparse,
    criterion_of,
    dense_source,
    structure_of,
)
from jaxprune.pipeline.parts import is_coupled
from jaxprune.pipeline.plan import Entry, Plan
from jaxprune.pipeline.stage import Stage
from jaxprune.pruning.structures.width_rounding import width_rule

Plain = dict[str, Any]

# Settings of the data that decide the groups; the fingerprint tells whether they decide the examples as well.
_OF_GROUPS = {"group", "bins", "min_group_size"}
# Settings of [mitigation] that decide what "configured" is; the others are values of the node.
_OF_CONFIGURED = {"constraint", "dual", "scheme", "penalty", "buffer"}


def grouping_settings(grouping: Grouping) -> Plain:
    """The part of a stage's address that names the groups."""
    return {"name": grouping.name, "fingerprint": grouping.fingerprint()}


def stage_of(experiment: Experiment, node: Node) -> Stage:
    """The stage that makes the networks of a node."""
    parents = tuple(stage_of(experiment, parent) for parent in node.parents)
    if isinstance(node, Train):
        name = "dense" if node.method == PLAIN else "fair_dense"
        until = {} if node.until is None else {"until": node.until}
        return Stage(
            name if node.until is None else f"{name}-until-{node.until}",
            _of_training(experiment) | _of_method(experiment, node) | until,
            parents,
        )
    if isinstance(node, Reestimate):
        # Of the whole training split, in batches of that size.
        settings = {"batch_size": experiment.settings.train.batch_size}
        return Stage(f"{_source(node)}reestimated-{criterion_of(node)}-{node.sparsity:g}", settings, parents)
    if isinstance(node, Compress):
        name = f"{_source(node)}pruned-{criterion_of(node)}-{node.sparsity:g}"
        return Stage(name, _of_compression(experiment, node), parents)
    if isinstance(node, TrainSparse):
        settings = _of_compression(experiment, node) | {"schedule": node.schedule, "options": dict(node.options)}
        rate = experiment.settings.retrain.learning_rate  # the epochs are among the options
        settings |= {"learning_rate": rate} if node.parents else _of_training(experiment)
        return Stage(f"{_source(node)}{node.schedule}-{criterion_of(node)}-{node.sparsity:g}", settings, parents)
    repeated = {"repeats_rates": True, "train": experiment.settings.train.model_dump(mode="json")}
    own = repeated if node.repeats_rates else _of_retraining(experiment)
    settings = own | _of_method(experiment, node)
    criterion, prune = criterion_of(node), experiment.settings.prune
    named = f"-{criterion}" if prune.criteria or criterion != prune.criterion else ""
    named += f"-{structure_of(node).name}" if prune.structures else ""
    return Stage(f"{_source(node)}{node.method}{named}-{node.sparsity:g}", settings, parents)


def _source(node: Node) -> str:
    """The prefix of a stage's name: "fair_" under constrained dense networks."""
    return "" if dense_source(node).method == PLAIN else "fair_"


def _of_retraining(experiment: Experiment) -> Plain:
    return {"retrain": experiment.settings.retrain.model_dump(mode="json", include={"epochs", "learning_rate"})}


def _of_training(experiment: Experiment) -> Plain:
    """The settings of the data, the network and the training."""
    s = experiment.settings
    return {
        "seeds": s.seeds,
        "first_seed": s.first_seed,
        "data": s.data.model_dump(mode="json", exclude=_OF_GROUPS) | {"fingerprint": experiment.fingerprint},
        "model": s.model.model_dump(mode="json"),
        "train": s.train.model_dump(mode="json"),
        **form_of(experiment),
    }


def _of_compression(experiment: Experiment, node: Compress | TrainSparse) -> Plain:
    """The settings of a pruning, and what its criterion needs."""
    prune = experiment.settings.prune
    settings = prune.model_dump(mode="json", include={"include", "exclude", "keep_dense"})
    settings |= {"sparsity": node.sparsity}
    settings |= {axis: _of_part(getattr(node, axis)) for axis in ("criterion", "structure", "allocation")}
    if dict(node.structure.options).get("round_to") == "auto":
        settings["widths"] = list(width_rule("auto"))  # those of the device at hand
    needs = CRITERIA.make(node.criterion.name, **dict(node.criterion.options)).needs
    settings["needs"] = sorted(needs)
    scored = needs & READS_BATCH and isinstance(node, Compress)  # otherwise by the batches of the training
    if scored or node.allocation.name == SPARED:
        # The examples of a batch are drawn by group.
        settings |= {"examples": prune.examples, "grouping": grouping_settings(experiment.dataset.primary)}
    return settings


def _of_part(part: Part) -> Plain:
    return {"name": part.name, "options": dict(part.options)}


def _of_method(experiment: Experiment, node: Train | Retrain) -> Plain:
    """Return a method's settings, and the groups it depends on."""
    method = method_of(experiment.settings, node.method)
    settings: Plain = {"method": node.method} | ({"values": dict(node.values)} if node.values else {})
    if node.method == CONFIGURED:
        mitigation = experiment.settings.mitigation.model_dump(mode="json", include=_OF_CONFIGURED)
        settings |= {"mitigation": mitigation}
    elif "buffer" in method.needs:
        settings |= {"buffer": experiment.settings.retrain.buffer}
    halved = isinstance(node, Retrain) and node.halved
    if halved:
        settings |= {"validation": "halves"}
    if method.needs_groups or halved:  # the halves of the validation split have equal groups
        settings |= {"grouping": grouping_settings(experiment.dataset.primary)}
    return settings


def spared_levels_stage(experiment: Experiment, node: Compress | TrainSparse) -> Stage:
    """The stage of layer sparsities that spare the group hurt most."""
    dense = stage_of(experiment, dense_source(node))
    return Stage(f"levels-{node.criterion.name}-{node.sparsity:g}", _of_compression(experiment, node), (dense,))


def compact_stage(experiment: Experiment, node: Node) -> Stage:
    """The stage of compact networks, compared with the masked ones."""
    network = stage_of(experiment, node)
    return Stage(f"compact-{network.name}", {}, (network,))


def outcomes_stage(experiment: Experiment, entry: Entry, splits: Sequence[str]) -> Stage:
    """The stage of everybody's outcomes under a network.

    They are those of the compact network where the structure removes channels.
    """
    network = stage_of(experiment, entry.node)
    coupled = not isinstance(entry.node, Train) and is_coupled(structure_of(entry.node))
    measured = {"network": "compact"} if coupled else {}
    return Stage(f"outcomes-{network.name}", {"splits": list(splits)} | measured, (network,))


def audit_stage(experiment: Experiment, plan: Plan, groupings: Sequence[Grouping]) -> Stage:
    """The stage of the audit of a plan's networks in some groupings."""
    settings = experiment.settings
    own: Plain = {
        "networks": [[entry.network.name, entry.network.sparsity, entry.network.title] for entry in plan.entries],
        "splits": list(plan.splits),
        "groupings": [grouping_settings(grouping) for grouping in groupings],
    }
    if plan.has_choice:
        own["choice"] = settings.choice.model_dump(mode="json", include={"measure", "max_cost"})
    if plan.halved:
        own["validation"] = "halves"
    return Stage("audit", own, tuple(outcomes_stage(experiment, entry, plan.splits) for entry in plan.entries))


def theory_stage(experiment: Experiment, plan: Plan) -> Stage:
    """Return the stage of the theory at the dense networks."""
    basic = experiment.settings.theory.model_dump(
        mode="json", include={"split", "examples", "tolerance", "max_iterations", "memory", "float64"}
    )
    basic |= {"grouping": grouping_settings(experiment.dataset.primary)}
    return Stage("theory", basic, tuple(stage_of(experiment, node) for node in plan.theory_nodes))


_OF_MEASURES = {
    "spectra": {"products"},
    "density": {"density_steps", "density_starts"},
    "outputs": {"output_examples"},
}


def measure_stage(experiment: Experiment, plan: Plan, measure: str) -> Stage:
    """Return the stage of a further measure of the theory.

    Its address depends on that measure's settings alone.
    """
    own = experiment.settings.theory.model_dump(mode="json", include=_OF_MEASURES.get(measure, set()))
    return Stage(f"theory-{measure}", own, (theory_stage(experiment, plan),))


def network_costs_stage(experiment: Experiment, node: Node) -> Stage:
    """The stage of a compressed network's costs, measured beside the dense one."""
    costs = experiment.settings.costs
    settings = costs.model_dump(mode="json", include=None if costs.speed else {"speed", "batch"})
    settings["measured"] = "each form as export writes it"  # before, compact networks had the widths of all seeds
    network = stage_of(experiment, node)
    return Stage(f"costs-{network.name}", settings, (stage_of(experiment, DENSE), network))


def costs_stage(experiment: Experiment, plan: Plan) -> Stage:
    """The stage of the costs of a plan's reported networks.

    The audit says which candidates those are; the others' stages are known before.
    """
    audited = audit_stage(experiment, plan, plan_groupings(experiment, plan))
    sure = dict.fromkeys(entry.node for entry in plan.compressed if plan.is_sure(entry))
    networks = [network_costs_stage(experiment, node) for node in sure]
    return Stage("costs", experiment.settings.costs.model_dump(mode="json"), (audited, *networks))


def report_stage(experiment: Experiment, plan: Plan) -> Stage:
    """The stage of a plan's report."""
    settings = experiment.settings.model_dump(mode="json")
    measured = [audit_stage(experiment, plan, plan_groupings(experiment, plan))]
    if plan.has_costs:
        measured.append(costs_stage(experiment, plan))
    if plan.explained:
        measured.append(theory_stage(experiment, plan))
        measured += [measure_stage(experiment, plan, measure) for measure in experiment.settings.theory.measures]
    return Stage(plan.report, settings, tuple(measured))


def plan_groupings(experiment: Experiment, plan: Plan) -> Sequence[Grouping]:
    """The groupings that a plan's networks are audited by."""
    return experiment.groupings[:1] if plan.report == "theory-page" else experiment.groupings
