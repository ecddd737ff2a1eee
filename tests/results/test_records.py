"""The records of results: networks by name, audits by split, and views by another grouping."""

from dataclasses import replace

import numpy as np
import pytest
from comparisons import LIFT, compared_results, diverged, trial
from made_results import made_results, with_further

from jaxprune.results import Network
from jaxprune.results.records import audited


def test_keys_are_unique_and_name_the_candidate() -> None:
    made = compared_results([trial("m", LIFT, {"rate": 0.1, "tolerance": 0.0}), trial("m", LIFT, {"rate": 1e-5})])
    keys = [network.key for network in made.networks]
    assert keys == ["dense", "pruned 0.9", "naive 0.9", "m 0.9 rate=0.1 tolerance=0", "m 0.9 rate=1e-05"]
    assert {key for key, _ in made.audits} == set(keys)


def test_reported_networks_are_the_chosen_ones_that_have_measurements() -> None:
    made = compared_results(
        [
            trial("m", LIFT, {"rate": 1.0}, chosen=False),
            trial("m", LIFT, {"rate": 2.0}),
            diverged("broken", {"rate": 9.0}),
        ]
    )
    assert made.network("m", 0.9).values == {"rate": 2.0}
    assert set(made.reported) == {("dense", 0.0), ("pruned", 0.9), ("naive", 0.9), ("m", 0.9)}
    for name, sparsity in (("broken", 0.9), ("m", 0.5), ("unknown", 0.9)):
        with pytest.raises(KeyError):
            made.network(name, sparsity)


def test_networks_by_role() -> None:
    made = made_results(sparsities=(0.9, 0.5))
    assert (made.dense.name, made.pruned, made.baseline) == ("dense", "pruned", "none")
    assert (made.methods, made.rivals) == (["none", "fair_after"], ["fair_after"])
    assert made.models == ["pruned", "none", "fair_after"]
    assert made.sparsities == [0.5, 0.9]
    assert made.title("fair_after") == "Fair after pruning"
    alone = replace(made, networks=tuple(n for n in made.networks if n.role != "retrained"))
    assert (alone.methods, alone.baseline, alone.rivals) == ([], "", [])


def test_the_baseline_comes_first_and_is_retrained_plainly_from_the_plain_dense_network() -> None:
    fair = Network("fair_before", "Fair before pruning", "retrained", 0.9, dense="fair_dense")
    made = compared_results([trial("m", LIFT)])
    dense, pruned, naive, m = made.networks
    made = replace(made, networks=(dense, pruned, fair, m, naive))
    assert (made.baseline, made.methods) == ("naive", ["naive", "fair_before", "m"])


def test_layers_pruned_entirely_in_some_seed() -> None:
    layers = [{"path": "a", "size": 4, "kept": [1, 0]}, {"path": "b", "size": 4, "kept": [1, 2]}]
    assert Network("pruned", "", "compressed", 0.9, layers=layers).empty_layers == ["a"]
    assert Network("dense", "", "dense", layers=layers).empty_layers == []


def test_audits_and_tests_of_a_network() -> None:
    made = made_results(seeds=2, noise=0.0)
    audit = made.audit(made.network("pruned", 0.5), "test")
    np.testing.assert_allclose(audit.impact.excessive_loss, [[0.05, 0.25]] * 2)
    np.testing.assert_allclose(audit.metrics.accuracy, [[0.9 - 0.015, 0.9 - 0.075]] * 2)
    assert made.tests("pruned", 0.5) is audit.tests
    assert made.tests("pruned", 0.5, "train") is made.tests("pruned", 0.7) is None
    with pytest.raises(KeyError):
        made.audit(made.dense, "train")


def test_the_answer_is_about_the_test_split_where_it_was_audited() -> None:
    made = made_results(seeds=2)
    assert (made.splits, made.answered_split) == (["test"], "test")
    train = replace(made, audits={(key, "train"): audit for (key, _), audit in made.audits.items()})
    assert (train.splits, train.answered_split) == (["train"], "train")
    both = compared_results([])
    assert (both.splits, both.answered_split) == (["train", "validation", "test"], "test")


def test_views_by_each_grouping() -> None:
    made = with_further(made_results())
    assert made.groupings == ["town", "sex<>"]
    assert made.by("town").group_names == made.group_names
    view = made.by("sex<>")
    assert (view.grouping, view.group_names, view.warnings) == ("sex<>", ["f", "m", "x"], ["the test split lacks x"])
    assert view.audits is made.further["sex<>"].audits
    assert view.group_sizes["train"] == [600, 200, 3]
    assert (view.theory, view.measures, view.further) == (None, None, {})
    assert [n.layers for n in view.networks] == [n.layers for n in made.networks]
    assert all(network.multipliers is None for network in view.networks)
    assert made.grouping == "town", "the results themselves stay as they are"
    with pytest.raises(KeyError):
        made.by("age")


def test_audits_go_in_the_order_of_the_networks() -> None:
    made = compared_results([trial("m", LIFT)])
    shuffled = dict(reversed(made.audits.items()))
    keys = [network.key for network, _, _ in audited(made.networks, shuffled)]
    assert keys == [network.key for network in made.networks for _ in range(3)]


def test_repr_is_short() -> None:
    assert len(repr(with_further(made_results()))) < 200
    assert repr(made_results().network("pruned", 0.9)) == "Network(pruned 0.9)"
