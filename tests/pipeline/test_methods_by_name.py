"""Methods by name, and the candidates for their hyperparameters."""

from dataclasses import replace

import numpy as np
import pytest

from jaxprune import config, pipeline
from jaxprune.errors import UserError
from jaxprune.pipeline.build import resolve
from jaxprune.pipeline.method_checks import check_methods
from jaxprune.pipeline.methods import candidates, method_of
from jaxprune.pipeline.plan import plan_run
from jaxprune.results.comparison import compared

SMALL = {
    "data.name": "synthetic", "model.hidden": (4,), "seeds": 2, "train.epochs": 1, "train.batch_size": 256,
    "prune.sparsities": (0.5,), "retrain.epochs": 1, "retrain.methods": ("configured", "equal_loss_buffer"),
    "choice.dual_rates": (0.01,), "mitigation.constraint": "excess_accuracy_gap", "mitigation.dual": "nu_pi",
    "mitigation.dual_rate": 0.05, "mitigation.tolerance": 0.03, "choice.tolerances": (0.0,),
    "costs.speed": False,
}  # fmt: skip


def test_what_the_settings_say_is_among_the_candidates():
    found = candidates(config.load(None, SMALL), "configured")
    assert [(c["dual_rate"], c["tolerance"]) for c in found] == [(0.01, 0.0), (0.01, 0.03), (0.05, 0.0), (0.05, 0.03)]
    equal = SMALL | {"mitigation.constraint": "equal_loss_signed", "mitigation.tolerance": 0.0}
    assert candidates(config.load(None, equal), "configured") == [{"dual_rate": 0.01}, {"dual_rate": 0.05}]
    assert candidates(config.load(None, SMALL), "equal_loss_buffer") == [{"dual_rate": 0.01}]
    with pytest.raises(UserError, match="unknown method 'configurd'; did you mean 'configured'"):
        method_of(config.load(None, SMALL), "configurd")


def test_a_method_is_tried_at_rates_of_its_own_where_the_settings_name_none():
    settings = config.load(None, {"retrain.methods": ["naive", "full_program"]})
    assert [tried["dual_rate"] for tried in candidates(settings, "full_program")] == [0.0001, 0.001]
    named = config.load(None, {"retrain.methods": ["naive", "full_program"], "choice.dual_rates": [0.5]})
    assert candidates(named, "full_program") == [{"dual_rate": 0.5}]


@pytest.mark.slow
def test_a_constraint_against_the_dense_network_in_both_commands(tmp_path):
    settings = config.load(None, SMALL | {"retrain.methods": ("configured",), "choice.dual_rates": (0.05,)})
    results = pipeline.compare(settings, tmp_path / "out").results
    assert results.title("configured") == "As configured: excess_accuracy_gap, nu_pi"
    assert compared(results).is_inequality("configured")
    trials = [network for network in results.networks if network.name == "configured"]
    assert [dict(network.values) for network in trials] == [
        {"dual_rate": 0.05, "tolerance": 0.0}, {"dual_rate": 0.05, "tolerance": 0.03}
    ]  # fmt: skip
    assert all(network.multipliers is not None and not network.trouble for network in trials)
    run = config.load(None, SMALL | {"retrain.methods": (), "theory.max_iterations": 2})
    made = pipeline.run(run, tmp_path / "out").results
    assert made.methods == ["none", "fair_before", "fair_after", "fair_both"]
    assert all(made.network(name, 0.5).multipliers is not None for name in ("fair_after", "fair_both"))
    assert made.network("fair_dense").multipliers is not None


def test_a_run_without_plain_retraining_has_a_report(tmp_path):
    """There is nothing to compare with, so no differences are reported."""
    changes = {"retrain.methods": ("equal_loss",), "theory.max_iterations": 2, "mitigation.tolerance": 0.0}
    results = pipeline.run(
        config.load(None, SMALL | {"mitigation.constraint": "equal_loss"} | changes), tmp_path
    ).results
    assert results.baseline == ""
    assert results.methods == ["equal_loss"]
    assert not (tmp_path / "methods.csv").exists()


def test_flips_do_not_go_with_constraints_against_the_dense_network(tmp_path):
    flips = {"data.name": "digits", "model.hidden": (4,), "seeds": 1, "train.flip": True}
    for methods in (("fair_before",), ("distilled",)):
        changes = flips | {"mitigation.constraint": "equal_excessive_loss", "retrain.methods": methods}
        with pytest.raises(UserError, match=r"retrain\.methods: .*look at the dense network's outputs"):
            pipeline.run(config.load(None, changes), tmp_path / methods[0])


def test_dense_networks_that_look_at_others_are_checked_before_training():
    """`fair_before` constrains its dense networks alone."""
    settings = config.load(None, SMALL | {"retrain.methods": ("fair_before",)})
    experiment, plan = resolve(settings), plan_run(settings)
    check_methods(experiment, plan)
    train = experiment.dataset.train
    without = train._replace(weight=np.where(np.asarray(train.group) == 1, 0.0, np.asarray(train.weight)))
    lacking = replace(experiment, dataset=replace(experiment.dataset, train=without))
    with pytest.raises(UserError, match="group 1 has no training examples"):
        check_methods(lacking, plan)
