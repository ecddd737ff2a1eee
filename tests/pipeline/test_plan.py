"""Plans as values: which networks a job makes, from which, and in what order."""

import pytest

from jaxprune import config
from jaxprune.errors import UserError
from jaxprune.mitigation import METHODS
from jaxprune.pipeline.plan import (
    COMPARED,
    DENSE,
    PAPER_MODELS,
    Compress,
    Retrain,
    Train,
    plan_comparison,
    plan_run,
    plan_theory,
)


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
    dense, pruned = Compress(DENSE, "magnitude", 0.5), Compress(fair, "magnitude", 0.5)
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
    assert plan_theory(settings()).theory_nodes == [DENSE, *(Compress(DENSE, "magnitude", s) for s in (0.5, 0.9))]


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
    assert node_of(plan, "fair_both").parents == (Compress(fair, "magnitude", 0.5), DENSE)
    assert plan_run(settings()).entries[1].node.parents == ()


def test_unknown_methods() -> None:
    with pytest.raises(UserError, match=r"retrain\.methods: unknown method 'equal_los'; did you mean 'equal_loss'"):
        plan_run(settings(retrain__methods=("equal_los",)))
