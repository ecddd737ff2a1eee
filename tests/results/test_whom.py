"""Whom compared structures hurt, against the first one, on results made by hand."""

import numpy as np
import pytest
from comparisons import SIZES
from made_criteria import made_structures
from scipy import stats

from jaxprune.results.prunings import CRITERIA_AXIS, STRUCTURES_AXIS, axis_of, prunings_of, stages_of
from jaxprune.results.verdicts import Outcome
from jaxprune.results.whom import HARMS, harm_of, hurt_most, likeness, overall_harm, shifts

CHANNELS = "channels:cost=parameters"


@pytest.fixture(scope="module")
def made():
    return made_structures()


def test_the_axis_is_read_from_the_settings(made) -> None:
    assert axis_of(made) == STRUCTURES_AXIS
    assert prunings_of(made) == ("weights", "n_m", CHANNELS)
    assert CRITERIA_AXIS.setting == "prune.criteria"


def test_the_group_hurt_most_is_that_of_the_largest_mean(made) -> None:
    network = made.network(CHANNELS, 0.9)
    lost = harm_of(made, network, "accuracy")
    most = hurt_most(made, network, "accuracy")
    assert most.group == lost.mean(0).argmax() == 0
    assert most.change == pytest.approx(lost.mean(0).max())
    assert most.seeds == 4
    assert hurt_most(made, made.network("weights", 0.9), "loss").group == 2


def test_the_harm_of_all_people_is_the_mean_over_them(made) -> None:
    network = made.network("n_m", 0.9)
    for measure in HARMS:
        by_people = harm_of(made, network, measure) @ (SIZES / SIZES.sum())
        np.testing.assert_allclose(overall_harm(made, network, measure), by_people, atol=1e-12)


def test_likeness_is_the_correlation_over_groups(made) -> None:
    weights, channels = made.network("weights", 0.9), made.network(CHANNELS, 0.9)
    means = [harm_of(made, one, "loss").mean(0) for one in (channels, weights)]
    assert likeness(made, channels, weights, "loss") == pytest.approx(stats.pearsonr(*means).statistic)
    assert likeness(made, weights, weights, "loss") == pytest.approx(1)


def test_a_shift_is_a_paired_test_of_the_harm_beyond_all_people(made) -> None:
    stage = stages_of(made)[0]
    verdicts = shifts(made, stage, 0.9)
    assert len(verdicts) == 2 * len(HARMS) * 3
    beyond = [
        harm_of(made, made.network(name, 0.9), "accuracy")
        - overall_harm(made, made.network(name, 0.9), "accuracy")[:, None]
        for name in (CHANNELS, "weights")
    ]
    verdict = verdicts[CHANNELS, "accuracy", 0]
    p = stats.ttest_1samp(beyond[0][:, 0] - beyond[1][:, 0], 0).pvalue
    assert verdict.p == pytest.approx(p)
    assert verdict.comparisons == 12
    assert p < verdict.adjusted_p <= 12 * p
    assert verdict.outcome is Outcome.WORSE
    assert verdicts[CHANNELS, "accuracy", 2].outcome is Outcome.BETTER
    assert verdicts["n_m", "accuracy", 1].outcome is Outcome.CHANCE


def test_a_network_without_measurements_has_no_shift() -> None:
    broken = made_structures(trouble=[f"{CHANNELS}+naive"])
    verdicts = shifts(broken, stages_of(broken)[1], 0.9)
    assert {name for name, _, _ in verdicts} == {"n_m"}
    assert {verdict.comparisons for verdict in verdicts.values()} == {12}
