"""Criteria by stage, and their verdicts against the baseline and against themselves without groups."""

from dataclasses import replace

import numpy as np
import pytest
from comparisons import LIFT, NAIVE, compared_results, trial
from made_criteria import SHIFTS, made_criteria
from made_results import made_results
from scipy import stats

from jaxprune.components import CRITERIA, WITHOUT_GROUPS
from jaxprune.results import COLUMNS, TABLES
from jaxprune.results.comparison import FAIRNESS, MEASURES, Comparison
from jaxprune.results.figures import figures
from jaxprune.results.prunings import (
    against_controls,
    comparisons_of,
    knows_groups,
    prunings_of,
    reestimated_name,
    stages_of,
)


def stages(results):
    return {stage.name: stage for stage in stages_of(results)}


def test_the_networks_of_every_stage_are_found_by_name() -> None:
    made = stages(made_criteria(reestimate=True))
    assert list(made) == ["pruned", "pruned_reestimated", "naive"]
    assert list(made["pruned"].networks.items())[:2] == [("magnitude", "magnitude"), ("random", "random")]
    assert made["pruned_reestimated"].networks["random"] == "random_reestimated"
    assert made["naive"].networks["fairprune"] == "fairprune+naive"
    assert [stage.retrained for stage in made.values()] == [False, False, True]
    assert made["naive"].words == "retrained (naive fine-tuning)"


def test_other_jobs_have_no_stages() -> None:
    run, methods = made_results(theory=False), compared_results([trial("m", LIFT)])
    for results in (run, methods):
        assert prunings_of(results) == ()
        assert stages_of(results) == []
        [comparison] = comparisons_of(results)
        assert (comparison.names, comparison.methods) == ((), results.methods)


def test_a_further_way_of_retraining_is_a_stage() -> None:
    made = made_criteria()
    networks = tuple(
        replace(network, name=network.name.replace("naive", "ceag"), method="ceag", title=f"{network.title} by CEAG")
        for network in made.networks
        if network.role == "retrained"
    )
    audits = {(key.replace("naive", "ceag"), split): audit for (key, split), audit in made.audits.items()}
    retrain = made.settings["retrain"] | {"methods": ["ceag"]}
    more = replace(
        made,
        networks=(*made.networks, *networks),
        audits=audits | dict(made.audits),
        settings=made.settings | {"retrain": retrain},
    )
    stage = stages(more)["ceag"]
    assert (stage.networks["random"], stage.words) == ("random+ceag", "retrained (naive fine-tuning by CEAG)")
    assert len(comparisons_of(more)) == 3


def test_criteria_are_compared_with_the_first_at_their_own_stage() -> None:
    made = made_criteria()
    for stage in stages_of(made):
        comparison = stage.comparison(made)
        assert comparison.baseline == stage.networks["magnitude"]
        assert comparison.comparisons == (len(SHIFTS) - 1) * len(FAIRNESS)
        for criterion, network in list(stage.networks.items())[1:]:
            for measure in ("accuracy", "excessive_loss_spread"):
                mine, base = (
                    MEASURES[measure].scale * figures(made, made.network(name, 0.5), "test")[measure]
                    for name in (network, stage.networks["magnitude"])
                )
                verdict = comparison.verdicts[0.5, network, measure]
                assert verdict.change.mean == pytest.approx(np.mean(mine - base))
                if not verdict.same:
                    assert verdict.p == pytest.approx(stats.ttest_rel(mine, base).pvalue, rel=1e-6), criterion


def test_the_headline_is_that_of_the_baseline_at_its_stage() -> None:
    made = made_criteria(broken=[("magnitude", 0.9), ("random+naive", 0.5)])
    assert [stage.comparison(made).headline for stage in stages_of(made)] == [0.5, 0.9]


def test_compressed_networks_can_be_compared() -> None:
    one = trial("a", NAIVE - 0.05)
    one.network = replace(one.network, role="compressed")
    made = compared_results([one])
    comparison = Comparison(made, ("pruned", "a"))
    assert (comparison.baseline, comparison.methods) == ("pruned", ["pruned", "a"])
    assert {name for name, _ in comparison.chosen} == {"pruned", "a"}
    assert comparison.difference("a", 0.9, "test", "accuracy").change.mean == pytest.approx(5)


def test_group_aware_criteria_are_those_that_read_the_groups() -> None:
    assert {name for name in CRITERIA if knows_groups(name)} >= {"worst_group_curvature", "fairprune", "fairgrape"}
    assert not any(knows_groups(name) for name in ("magnitude", "random", "curvature", "not installed"))
    for criterion, control in WITHOUT_GROUPS.items():
        if criterion in CRITERIA:
            assert (knows_groups(criterion), knows_groups(control)) == (True, False)


def test_a_group_aware_criterion_is_tested_against_itself_without_groups() -> None:
    made = made_criteria()
    stage = stages(made)["naive"]
    verdicts = against_controls(made, stage)
    assert {key[:2] for key in verdicts} == {("worst_group_curvature", "curvature")}
    assert {key[2] for key in verdicts} == {*FAIRNESS, "accuracy"}
    mine, control = (
        100 * figures(made, made.network(f"{name}+naive", 0.9), "test")["worst_group_accuracy"]
        for name in ("worst_group_curvature", "curvature")
    )
    verdict = verdicts["worst_group_curvature", "curvature", "worst_group_accuracy"]
    assert verdict.change.mean == pytest.approx(np.mean(mine - control))
    assert verdict.comparisons == len(FAIRNESS)
    assert verdicts["worst_group_curvature", "curvature", "accuracy"].comparisons == 1


def test_criteria_without_measurements_are_left_out() -> None:
    made = made_criteria(trouble=["curvature+naive"])
    assert against_controls(made, stages(made)["naive"]) == {}
    assert against_controls(made, stages(made)["pruned"]) != {}


def test_every_csv_names_the_criteria() -> None:
    made = made_criteria(reestimate=True)
    names = {network for stage in stages_of(made) for network in stage.networks.values()}
    for table in ("groups", "summary"):
        found = {row["network"]: row["role"] for row in TABLES[table](made)}
        assert set(found) == names | {"dense"}
        assert (found["random"], found["random_reestimated"], found["random+naive"]) == (
            "compressed", "compressed", "retrained",
        )  # fmt: skip
    rows = list(TABLES["methods"](made))
    assert all(list(row) == list(COLUMNS["methods"]) for row in rows)
    baselines = {row["network"]: row["baseline"] for row in rows}
    assert set(baselines) == names - {"magnitude", "magnitude_reestimated", "magnitude+naive"}
    assert baselines["random"] == "magnitude"
    assert baselines["random_reestimated"] == "magnitude_reestimated"
    assert baselines["random+naive"] == "magnitude+naive"
    stage = stages(made)["pruned"]
    [row] = [
        row
        for row in rows
        if (row["network"], row["sparsity"], row["split"], row["measure"]) == ("random", 0.5, "test", "accuracy")
    ]
    verdict = stage.comparison(made).verdicts[0.5, "random", "accuracy"]
    assert (row["change"], row["p_adjusted"]) == (verdict.change.mean / 100, verdict.adjusted_p)


def test_networks_with_statistics_re_estimated_are_found() -> None:
    assert reestimated_name(made_criteria()) == ""
    assert reestimated_name(made_criteria(reestimate=True)) == "magnitude_reestimated"
    assert reestimated_name(made_results(theory=False)) == ""
    assert reestimated_name(made_results(theory=False, reestimated=(0.1, 0.4))) == "pruned_reestimated"
