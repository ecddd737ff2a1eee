"""Plans as values: which networks a job makes, from which, and in what order."""

import pytest

from jaxprune import config
from jaxprune.config.options import Part
from jaxprune.errors import UserError
from jaxprune.mitigation import METHODS
from jaxprune.pipeline.nodes import DENSE, Compress, Reestimate, Retrain, Train, TrainSparse
from jaxprune.pipeline.plan import COMPARED, PAPER_MODELS, plan_comparison, plan_run, plan_theory
from jaxprune.pipeline.prunings import structure_title
from jaxprune.pipeline.run import run_plan as checked_run_plan

MAGNITUDE = Part("magnitude")


def compressed(parent, sparsity, criterion=MAGNITUDE, allocation="global"):
    return Compress(parent, criterion, sparsity, allocation=Part(allocation))


def settings(**changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return config.load(None, {"prune.sparsities": (0.5, 0.9)} | changes)


def listed(plan):
    return [(entry.network.name, entry.network.role, entry.network.sparsity) for entry in plan.entries]


def node_of(plan, name, sparsity=0.5):
    return next(e.node for e in plan.entries if (e.network.name, e.network.sparsity) == (name, sparsity))


def test_run_by_default() -> None:
    plan = plan_run(settings())
    each = [("pruned", "compressed"), *((name, "retrained") for name in PAPER_MODELS)]
    expected = [("dense", "dense", 0.0), ("fair_dense", "dense", 0.0)]
    assert listed(plan) == expected + [(name, role, s) for s in (0.5, 0.9) for name, role in each]
    assert plan.splits == ("train", "test")
    assert not plan.has_choice
    assert not plan.halved
    assert all(entry.required for entry in plan.entries)


def test_paper_models() -> None:
    """Constrained before pruning, after it, both or neither, at the rate of [mitigation]."""
    plan = plan_run(settings(mitigation__dual_rate=0.25))
    fair = Train("configured", (("dual_rate", 0.25),))
    dense, pruned = compressed(DENSE, 0.5), compressed(fair, 0.5)
    assert node_of(plan, "none") == Retrain(dense, "naive")
    assert node_of(plan, "fair_before") == Retrain(pruned, "naive")
    assert node_of(plan, "fair_after") == Retrain(dense, "configured", fair.values)
    assert node_of(plan, "fair_both") == Retrain(pruned, "configured", fair.values)
    assert [e.network.dense for e in plan.entries if e.network.sparsity == 0.5] == [
        "dense", "dense", "fair_dense", "dense", "fair_dense",
    ]  # fmt: skip


def test_every_node_comes_after_its_parents() -> None:
    plan = plan_comparison(settings(retrain__methods=tuple(METHODS)))
    for place, node in enumerate(plan.nodes):
        assert all(parent in plan.nodes[:place] for parent in node.parents)
    assert len(set(plan.nodes)) == len(plan.nodes)


def test_no_retraining() -> None:
    assert {name for name, _, _ in listed(plan_run(settings(retrain__epochs=0)))} == {"dense", "pruned"}
    assert listed(plan_theory(settings())) == [
        ("dense", "dense", 0.0), ("pruned", "compressed", 0.5), ("pruned", "compressed", 0.9),
    ]  # fmt: skip
    assert plan_theory(settings()).theory_nodes == [DENSE, *(compressed(DENSE, s) for s in (0.5, 0.9))]


def test_methods_of_a_run() -> None:
    """Any method runs, with its candidates, and the validation split then chooses."""
    plan = plan_run(settings(retrain__methods=("naive", "equal_loss", "ceag"), choice__dual_rates=(0.1, 0.2)))
    values = [dict(e.node.values) for e in plan.entries if (e.network.name, e.network.sparsity) == ("equal_loss", 0.5)]
    assert values == [{"dual_rate": 0.1}, {"dual_rate": 0.2}]
    assert plan.has_choice
    assert plan.splits == ("train", "test", "validation")
    assert node_of(plan, "ceag").reference == DENSE, "ψ is measured against the dense network"
    assert all(entry.required for entry in plan.entries)


def test_comparison() -> None:
    plan = plan_comparison(settings())
    names = list(dict.fromkeys(name for name, role, _ in listed(plan) if role == "retrained"))
    assert names == list(COMPARED)
    assert names[0] == "naive"
    assert {entry.network.name for entry in plan.entries if entry.required} == {"dense", "pruned", "naive"}
    assert set(plan.splits) == {"train", "validation", "test"}
    assert plan.held_out == ("ceag_held_out", "distilled_ceag")
    halved = {entry.network.name for entry in plan.entries if getattr(entry.node, "halved", False)}
    assert halved == {"naive_best", *plan.held_out}
    alone = plan_comparison(settings(retrain__methods=("naive_best",)))
    assert not any(getattr(entry.node, "halved", False) for entry in alone.entries)


def test_methods_with_masks_of_their_own() -> None:
    plan = plan_comparison(settings(retrain__methods=("spared_distilled",)))
    assert node_of(plan, "spared_distilled").parent != node_of(plan, "pruned")
    assert node_of(plan, "spared_distilled").parent.parent == DENSE
    assert node_of(plan, "naive").parent == node_of(plan, "pruned")


def test_a_constraint_on_the_change_from_the_dense_network_runs() -> None:
    """The constrained dense training is then made after the plain one, with which it compares."""
    plan = plan_run(settings(mitigation__constraint="equal_excessive_loss"))
    fair = plan.entries[1].node
    assert fair.parents == (DENSE,)
    assert node_of(plan, "fair_both").parents == (compressed(fair, 0.5), DENSE)
    assert plan_run(settings()).entries[1].node.parents == ()


def test_unknown_methods() -> None:
    with pytest.raises(UserError, match=r"retrain\.methods: unknown method 'equal_los'; did you mean 'equal_loss'"):
        plan_run(settings(retrain__methods=("equal_los",)))


def test_iterative_pruning_retrains_between_its_rounds() -> None:
    plan = plan_run(settings(prune__schedule="iterative", prune__schedule_options=("rounds=3",)))
    node, levels = node_of(plan, "pruned", 0.9), []
    while isinstance(node, Compress):
        levels.append(node.sparsity)
        node = node.parent if node.parent == DENSE else node.parent.parent
    assert levels == [0.9, pytest.approx(1 - 0.1 ** (2 / 3), abs=1e-6), pytest.approx(1 - 0.1 ** (1 / 3), abs=1e-6)]
    last = node_of(plan, "none", 0.9)
    assert last.parent == node_of(plan, "pruned", 0.9)
    assert isinstance(last.parent.parent, Retrain)
    assert last.parent.parent.method == "naive"
    assert not plan.explained, "the theory is about pruning at once"


def test_rewinding_goes_back_to_an_epoch_of_the_same_dense_training() -> None:
    plan = plan_run(settings(retrain__rewind=2, retrain__rewind_learning_rate=True))
    node = node_of(plan, "fair_both")
    assert node.rewound == Train("configured", node.values, until=2)
    assert node.repeats_rates
    assert node.rewound in plan.nodes
    assert node_of(plan, "none").rewound == Train(until=2)


@pytest.mark.parametrize("schedule", ["gradual", "straight_through", "static", "set", "rigl"])
def test_pruning_while_training(schedule) -> None:
    plan = plan_run(settings(prune__schedule=schedule, retrain__methods=("naive",)))
    node = node_of(plan, "pruned")
    assert isinstance(node, TrainSparse)
    assert node.parent == (DENSE if schedule in ("gradual", "straight_through") else None)
    assert node_of(plan, "naive").parent == node
    assert [entry.network.dense for entry in plan.entries] == ["dense"] * len(plan.entries)


def test_the_models_with_constrained_dense_networks_need_dense_networks() -> None:
    names = {name for name, role, _ in listed(plan_run(settings(prune__schedule="rigl"))) if role == "retrained"}
    assert names == {"none", "fair_after"}
    with pytest.raises(UserError, match=r"retrain\.methods: fair_both prunes dense networks .* rigl starts afresh"):
        plan_run(settings(prune__schedule="rigl", retrain__methods=("fair_both",)))


@pytest.mark.parametrize(
    ("option", "message"),
    [("end=1.5", "end: 1.5 is not a share of the training"), ("begin=0.9", "end: 0.75 is not after the beginning")],
)
def test_a_schedule_that_ends_after_training_does(option, message) -> None:
    with pytest.raises(UserError, match=rf"prune\.schedule_options\.{message}"):
        plan_run(settings(prune__schedule="gradual", prune__schedule_options=(option,)))


def test_pruning_before_training() -> None:
    plan = plan_run(settings(prune__schedule="before_training", prune__criterion="snip", retrain__methods=("naive",)))
    fresh = Train(until=0)
    sparse = Retrain(compressed(fresh, 0.5, Part("snip")), "naive", rewound=fresh, repeats_rates=True)
    assert node_of(plan, "pruned") == sparse
    assert node_of(plan, "naive") == Retrain(sparse, "naive")
    assert {entry.network.dense for entry in plan.entries} == {"dense"}
    assert not plan.explained


def test_methods_with_masks_of_their_own_need_a_schedule_that_scores_at_once() -> None:
    gradual = plan_comparison(settings(prune__schedule="gradual"))
    assert not {"fairgrape", "fairprune"} & {entry.network.name for entry in gradual.entries}
    assert {"fairgrape", "fairprune"} <= {entry.network.name for entry in plan_comparison(settings()).entries}
    with pytest.raises(UserError, match=r"retrain\.methods: fairgrape has a criterion of its own, which rigl cannot"):
        plan_comparison(settings(prune__schedule="rigl", retrain__methods=("fairgrape",)))
    with pytest.raises(UserError, match=r"retrain\.methods: fairgrape has a criterion .* prune\.criteria compares"):
        plan_comparison(settings(prune__criteria=("magnitude", "taylor"), retrain__methods=("fairgrape",)))


def test_rewound_networks_do_not_depend_on_statistics_measured_anew() -> None:
    plan = plan_run(settings(prune__reestimate=True, retrain__rewind=1, retrain__methods=("naive",)))
    assert node_of(plan, "naive").parent == node_of(plan, "pruned")


@pytest.mark.parametrize("rounds", [0, 101])
def test_rounds_are_few(rounds) -> None:
    with pytest.raises(UserError, match=r"prune\.schedule_options\.rounds: \d+ is not within 1 to 100"):
        plan_run(settings(prune__schedule="iterative", prune__schedule_options=(f"rounds={rounds}",)))


def test_reestimated_statistics_are_networks_of_their_own() -> None:
    plan = plan_run(settings(prune__reestimate=True, retrain__methods=("naive",)))
    assert node_of(plan, "pruned_reestimated") == Reestimate(node_of(plan, "pruned"))
    assert node_of(plan, "naive").parent == node_of(plan, "pruned_reestimated")
    assert plan.theory_nodes == [DENSE, *(compressed(DENSE, s) for s in (0.5, 0.9))]


def test_comparison_of_criteria() -> None:
    """Each over the same dense networks, without and with retraining; the first one is the baseline."""
    criteria = ("magnitude", "random", "fairgrape")
    plan = plan_comparison(settings(prune__criteria=criteria))
    assert plan.report == "criteria-report"
    expected = [("dense", "dense", 0.0)]
    for s in (0.5, 0.9):
        expected += [pair for c in criteria for pair in ((c, "compressed", s), (f"{c}+naive", "retrained", s))]
    assert listed(plan) == expected
    assert node_of(plan, "random+naive") == Retrain(compressed(DENSE, 0.5, Part("random")), "naive")
    assert {e.network.name for e in plan.entries if e.node.parents == (DENSE,)} == set(criteria)
    assert {e.network.name for e in plan.entries if not e.required} == {"random+naive", "fairgrape+naive"}


STRUCTURES = ("weights", "n_m", "channels:cost=parameters")


def test_comparison_of_structures() -> None:
    """Each over the same dense networks, with its own options and allocation; the first one is the baseline."""
    plan = plan_comparison(settings(prune__structures=STRUCTURES, retrain__methods=("naive", "equal_loss")))
    assert plan.report == "structures-report"
    names = [entry.network.name for entry in plan.entries if entry.network.sparsity == 0.5]
    assert list(dict.fromkeys(names)) == [s + end for s in STRUCTURES for end in ("", "+naive", "+equal_loss")]
    nodes = [node_of(plan, name) for name in STRUCTURES]
    assert [node.structure for node in nodes] == [
        Part("weights"), Part("n_m"), Part("channels", (("cost", "parameters"),)),
    ]  # fmt: skip
    assert [node.allocation.name for node in nodes] == ["global", "layerwise", "global"]
    assert node_of(plan, "n_m+naive") == Retrain(nodes[1], "naive")
    titles = {entry.network.name: entry.network.title for entry in plan.entries}
    assert titles["n_m"] == "N:4"
    assert titles["channels:cost=parameters+naive"] == "channels, at equal parameters, naive fine-tuning"
    assert {e.network.name for e in plan.entries if e.required and e.network.role == "retrained"} == {"weights+naive"}


def test_structures_under_one_allocation() -> None:
    plan = plan_comparison(settings(prune__structures=STRUCTURES, prune__allocation="layerwise"))
    assert {node_of(plan, name).allocation for name in STRUCTURES} == {Part("layerwise")}


@pytest.mark.parametrize(
    ("part", "title"),
    [
        (Part("weights"), "weights"),
        (Part("n_m", (("m", 8),)), "N:8"),
        (Part("blocks", (("height", 2),)), "2×4 blocks"),
        (Part("heads", (("cost", "flops"),)), "heads, at equal FLOPs"),
        (Part("channels", (("pool", "l1"), ("round_to", "8"))), "channels (pool l1, round to 8)"),
    ],
)
def test_titles_of_structures(part, title) -> None:
    assert structure_title(part) == title


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prune__allocation": "global"}, r"prune\.allocation: the structure n_m is defined for layerwise alone"),
        ({"prune__structures": ("weights", "channels:cost=bytes")}, r"prune\.structures: channels:cost=bytes: cost: "),
        ({"prune__structures": ("weights", "n_m:m=1")}, r"prune\.structures: n_m:m=1: m: 1 is not a whole number"),
    ],
)
def test_structures_that_cannot_be_are_refused(changes, message) -> None:
    with pytest.raises(UserError, match=message) as error:
        plan_comparison(settings(**{"prune__structures": STRUCTURES} | changes))
    assert "\n" not in str(error.value)


def test_structures_are_compared_by_compare_alone() -> None:
    with pytest.raises(UserError, match=r"prune\.structures: compare tries several; give prune\.structure here"):
        checked_run_plan(settings(prune__structures=STRUCTURES), "report")
