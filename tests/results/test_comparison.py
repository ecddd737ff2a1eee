"""Methods against the baseline: differences, verdicts and the headline, against scipy and brute force."""

from dataclasses import replace

import numpy as np
import pytest
from comparisons import (
    LEVEL,
    LIFT,
    NAIVE,
    NOISE,
    SIZES,
    Trial,
    compared_results,
    comparison,
    diverged,
    metrics,
    network,
    noisy,
    trial,
)
from scipy import stats

from jaxprune.auditing import GroupMetrics
from jaxprune.results import SPLITS
from jaxprune.results.comparison import FAIRNESS, Comparison, compared
from jaxprune.results.figures import counted
from jaxprune.results.verdicts import Change, Outcome, judge


def test_differences_are_paired_by_seed() -> None:
    c = comparison([trial("m", LIFT + 0.001 * NOISE)])
    mine, base = (100 * c.figures(c.chosen[name, 0.9], "test")["accuracy"] for name in ("m", "naive"))
    found = c.difference("m", 0.9, "test", "accuracy")
    expected = stats.ttest_1samp(mine - base, 0)
    assert found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    np.testing.assert_allclose(found.change, [np.mean(mine - base), low, high], rtol=1e-6)
    same = comparison([trial("m", NAIVE)]).difference("m", 0.9, "test", "accuracy")
    assert np.isnan(same.p)
    assert same.change.mean == 0


def test_only_chosen_networks_with_measurements_are_compared() -> None:
    tried = [trial("m", LIFT, {"rate": 1.0}, chosen=False), trial("m", LIFT, {"rate": 2.0}), diverged("x")]
    c = comparison(tried)
    assert c.chosen["m", 0.9].values == {"rate": 2.0}
    assert set(c.chosen) == {("naive", 0.9), ("m", 0.9)}
    assert (c.baseline, c.methods) == ("naive", ["naive", "m", "x"])
    assert [network.key for network in c.trials] == ["naive 0.9", "m 0.9 rate=1", "m 0.9 rate=2", "x 0.9"]


def test_every_method_and_fairness_measure_is_one_family() -> None:
    """Brute force: Holm by his definition over the p-values of scipy, methods that diverged counting."""
    c = comparison([trial("a", noisy(0.05, 0.002)), trial("b", noisy(0.02, 0.02, 1)), diverged("c")])
    assert c.comparisons == 3 * 4
    own = {}
    for method in "ab":
        for measure in FAIRNESS:
            mine, base = (c.figures(c.chosen[name, 0.9], "test")[measure] for name in (method, "naive"))
            own[method, measure] = stats.ttest_rel(mine, base).pvalue
    for (method, measure), p in own.items():
        smaller = [q for q in own.values() if q <= p]
        steps = [(12 - i) * q for i, q in enumerate(sorted(smaller))]
        assert c.verdicts[0.9, method, measure].adjusted_p == pytest.approx(min(1, max(steps)), rel=1e-6)
    assert not any(method == "c" for _, method, _ in c.verdicts)


def test_accuracy_is_a_family_of_its_own() -> None:
    c = comparison([trial("a", noisy(0.05, 0.01)), trial("b", noisy(0.02, 0.02, 1))])
    own = {method: c.difference(method, 0.9, "test", "accuracy").p for method in "ab"}
    smallest, largest = sorted(own, key=own.__getitem__)
    assert c.verdicts[0.9, smallest, "accuracy"].adjusted_p == pytest.approx(min(1, 2 * own[smallest]))
    expected = min(1, max(2 * own[smallest], own[largest]))
    assert c.verdicts[0.9, largest, "accuracy"].adjusted_p == pytest.approx(expected)


def test_the_interval_of_a_verdict_is_bonferronis_in_points() -> None:
    c = comparison([trial("a", noisy(0.05, 0.01)), trial("b", noisy(0.02, 0.02, 1))])
    mine, base = (100 * c.figures(c.chosen[name, 0.9], "test")["accuracy_spread"] for name in ("a", "naive"))
    expected = stats.ttest_1samp(mine - base, 0).confidence_interval(1 - 0.05 / 8)
    verdict = c.verdicts[0.9, "a", "accuracy_spread"]
    np.testing.assert_allclose(verdict.change[1:], expected, rtol=1e-6)
    assert verdict.smallest_visible == pytest.approx((expected.high - expected.low) / 2)


def test_a_clear_change_is_better_or_worse_by_the_direction_of_its_measure() -> None:
    c = comparison([trial("lift", LIFT + 0.2 * NOISE), trial("level", LEVEL + 0.2 * NOISE)])
    outcomes = {(method, measure): c.verdicts[0.9, method, measure].outcome for _, method, measure in c.verdicts}
    assert outcomes["lift", "worst_group_accuracy"] is outcomes["lift", "accuracy_spread"] is Outcome.BETTER
    assert outcomes["lift", "accuracy"] is Outcome.BETTER
    assert outcomes["level", "accuracy"] is Outcome.WORSE
    assert outcomes["level", "accuracy_spread"] is Outcome.BETTER


def test_a_change_that_may_be_chance_after_all_comparisons_is_not_clear() -> None:
    """Its own interval is clear of zero."""
    lucky = trial("lucky", noisy(0.05, 0.02, 5))
    assert comparison([lucky]).difference("lucky", 0.9, "test", "accuracy_spread").change.high < 0
    many = comparison([lucky, *(trial(f"m{i}", noisy(0, 0.02, i)) for i in range(9))])
    verdict = many.verdicts[0.9, "lucky", "accuracy_spread"]
    assert verdict.adjusted_p > 0.05
    assert verdict.outcome is Outcome.CHANCE


def as_stored(accuracy) -> GroupMetrics:
    """Metrics as a network gives them: numbers of people over sizes, in float32."""
    people = np.rint(np.asarray(accuracy) * SIZES)
    return GroupMetrics(*(np.asarray(leaf, np.float32) for leaf in metrics(people / SIZES)))


def test_the_same_change_in_every_seed_is_not_tested() -> None:
    """Numbers of people decide; in float32 the changes differ in their last digits, and the t-test has p = 1e-20."""
    uneven = NAIVE - np.array([[0, 0, 0.32], [0, 0, 0], [0, 0, 0.15], [0, 0, -0.08]])
    naive, mine = as_stored(uneven), as_stored(uneven + np.array([0, 0, 0.03]))
    assert np.ptp((mine.accuracy - naive.accuracy)[:, 2]) > 0
    assert np.ptp((counted(mine).accuracy - counted(naive).accuracy)[:, 2]) < 1e-15
    base, other = (Trial(network(name), dict.fromkeys(SPLITS, m)) for name, m in (("naive", naive), ("m", mine)))
    c = comparison([other], naive=base)
    for measure in ("accuracy", "worst_group_accuracy", "accuracy_spread"):
        assert np.isnan(c.difference("m", 0.9, "test", measure).p)
        verdict = c.verdicts[0.9, "m", measure]
        assert verdict.same
        assert np.isnan(verdict.adjusted_p)
        assert verdict.outcome is Outcome.CHANCE


@pytest.mark.parametrize("seeds", [1, 3])
def test_fewer_than_four_seeds_are_not_tested(seeds) -> None:
    c = comparison([trial("m", LIFT + 0.001 * NOISE)], seeds=seeds)
    assert len(c.verdicts) == 5
    for verdict in c.verdicts.values():
        assert np.isnan([verdict.p, verdict.adjusted_p, verdict.change.low, verdict.smallest_visible]).all()
        assert verdict.outcome is Outcome.CHANCE
        assert not verdict.same
    mine, base = (100 * c.figures(c.chosen[name, 0.9], "test")["accuracy"] for name in ("m", "naive"))
    assert c.verdicts[0.9, "m", "accuracy"].change.mean == pytest.approx(np.mean(mine - base))


def test_the_headline_is_the_largest_sparsity_at_which_the_baseline_works() -> None:
    """The verdicts of every sparsity stay."""

    def at(sparsity, *works):
        return trial("naive", NAIVE, works=works, sparsity=sparsity)

    m = [trial("m", noisy(0.05, 0.01), sparsity=sparsity) for sparsity in (0.5, 0.7)]
    for broken, expected in (((True,) * 4, 0.9), ((True, True, False, True), 0.7)):
        c = comparison([at(0.5, *[True] * 4), at(0.7, *[True] * 4), *m], naive=at(0.9, *broken))
        assert c.headline == expected
        assert {(s, name) for s, name, _ in c.verdicts} == {(0.5, "m"), (0.7, "m")}


def test_facts_of_a_method() -> None:
    held = [trial("ceag", LIFT, {"rate": rate}, held_out=True, chosen=rate == 1) for rate in (1.0, 2.0)]
    c = comparison([*held, trial("equal", LIFT)])
    assert c.held_out == ["ceag"]
    assert (c.is_inequality("ceag"), c.is_inequality("equal"), c.is_inequality("naive")) == (True, False, False)
    assert c.about("equal") == "equal."


def test_a_comparison_is_made_once_for_the_same_results() -> None:
    made = compared_results([trial("m", LIFT)])
    assert compared(made) is compared(made)
    assert compared(replace(made)) is not compared(made)
    assert Comparison(made).results is made


def test_more_comparisons_than_were_planned_are_refused() -> None:
    change = Change(np.ones(4), more_is_better=True, resolution=1e-10)
    with pytest.raises(ValueError, match="2 comparisons are given, more than the 1"):
        judge({"a": change, "b": change}, 1)
