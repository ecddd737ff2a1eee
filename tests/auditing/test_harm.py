"""Tests of who is hurt: closed forms, exact permutations, and levels by simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats

from jaxprune.auditing import GroupCodes, Outcomes, changes_of, judge_networks, measure_harm, measure_spreads
from jaxprune.auditing.moderation import moderated
from jaxprune.auditing.permutation import centred, contrasts, crossed, group_totals, shuffled_totals, thinned


def grouped(sizes) -> GroupCodes:
    return GroupCodes(np.repeat(np.arange(len(sizes)), sizes), len(sizes))


def skewed(shape, seed: int) -> np.ndarray:
    """Changes as real ones are: most near 0, a few large."""
    rng = np.random.default_rng(seed)
    return rng.normal(scale=0.05, size=shape) + rng.lognormal(size=shape) * (rng.random(shape) < 0.1)


def test_contrasts_are_means_minus_those_of_the_rest() -> None:
    grouping, values = grouped((3, 40, 80)), skewed((123, 2), 0)
    found = contrasts(np.bincount(grouping.codes), group_totals(values, grouping), group_totals(values**2, grouping))
    for g in range(3):
        own, rest = values[grouping.codes == g], values[grouping.codes != g]
        np.testing.assert_allclose(found.value[g], own.mean(0) - rest.mean(0))


def test_the_variance_of_a_contrast_is_welchs_in_large_groups() -> None:
    """For two groups; the pooled variance that is mixed in counts for four people."""
    grouping, values = grouped((4000, 6000)), np.random.default_rng(1).normal(size=(10000, 1))
    values[:4000] *= 3
    sizes = np.bincount(grouping.codes)
    found = contrasts(sizes, group_totals(values, grouping), group_totals(values**2, grouping)).variance[:, 0]
    expected = values[:4000].var(ddof=1) / 4000 + values[4000:].var(ddof=1) / 6000
    np.testing.assert_allclose(found, expected, rtol=5e-3)


def test_a_group_that_is_empty_or_everybody_has_no_contrast() -> None:
    sizes = np.array([0, 5, 7])
    found = contrasts(sizes, np.ones((3, 1)), np.ones((3, 1)))
    assert np.isnan(found.value[0])
    assert np.isfinite(found.value[1:]).all()
    assert np.isnan(contrasts(np.array([9]), np.ones((1, 1)), np.ones((1, 1))).value).all()


@pytest.mark.parametrize("sizes", [(5, 7, 11), (2,) * 40], ids=["few groups", "many groups"])
def test_shuffled_totals_have_the_moments_of_sampling_without_replacement(sizes) -> None:
    grouping, values = grouped(sizes), skewed((sum(sizes), 1), 2)
    totals = shuffled_totals(values, grouping, 4000)[..., 0].astype(float)
    np.testing.assert_allclose(totals.sum(1), values.sum(), rtol=1e-4)
    n, people = np.array(sizes), sum(sizes)
    variance = n * (people - n) / people * values.var(ddof=1)
    error = np.sqrt(variance / 4000)
    assert (np.abs(totals.mean(0) - n * values.mean()) < 4.5 * error).all()
    np.testing.assert_allclose(totals.var(0), variance, rtol=0.25)


def test_equal_seeds_shuffle_people_alike_for_every_grouping() -> None:
    values = skewed((30, 1), 3)
    coarse = GroupCodes(np.arange(30) % 2, 2)
    fine = GroupCodes(np.arange(30) % 4, 4)
    by_fine = shuffled_totals(values, fine, 5)
    np.testing.assert_allclose(shuffled_totals(values, coarse, 5), by_fine[:, :2] + by_fine[:, 2:], rtol=1e-5)


def test_centred_values_have_equal_group_means_and_unbiased_variance() -> None:
    grouping, values = grouped((4, 9)), skewed((13, 1), 4)
    found = centred(values, grouping)
    np.testing.assert_allclose(group_totals(found, grouping), 0, atol=1e-12)
    for g, n in enumerate((4, 9)):
        own = values[grouping.codes == g]
        np.testing.assert_allclose((found[grouping.codes == g] ** 2).sum() / n, own.var(ddof=1))


def test_thinned_keeps_small_groups_whole() -> None:
    grouping = grouped((10, 500, 1000))
    kept = thinned(grouping, 410)
    np.testing.assert_array_equal(np.bincount(grouping.codes[kept]), (10, 200, 200))
    np.testing.assert_array_equal(thinned(grouping, 5000), np.arange(1510))


def test_crossed_is_finer_than_each() -> None:
    a, b = GroupCodes(np.array([0, 0, 1, 1]), 2), GroupCodes(np.array([0, 1, 1, 1]), 2)
    found = crossed([a, b])
    assert found.size == 3
    assert len(set(found.codes[2:])) == 1


def test_two_groups_have_the_p_of_the_exact_permutation_test() -> None:
    """All ways of choosing five of ten people, with the same studentised statistic."""
    values = np.array([0.1, 0.2, 0.9, 0.4, 0.5, -0.3, 0.0, 0.35, 0.15, -0.2])
    grouping = grouped((5, 5))
    (found,) = measure_harm([{"loss": values[None]}], [grouping], draws=20000)[0]

    def statistic(values: np.ndarray, own: tuple[int, ...]) -> float:
        codes = np.ones(10, int)
        codes[list(own)] = 0
        pair = GroupCodes(codes, 2)
        both = contrasts(
            np.array([5, 5]), group_totals(values[:, None], pair), group_totals(values[:, None] ** 2, pair)
        )
        return abs(float(both.value[0, 0])) / float(np.sqrt(both.variance[0, 0]))

    null = [statistic(values, own) for own in itertools.combinations(range(10), 5)]
    exact = np.mean(np.array(null) >= statistic(values, tuple(range(5))) - 1e-9)
    np.testing.assert_allclose(found["loss"].p, exact, atol=0.015)


def test_a_large_effect_is_clear_and_its_interval_holds_it() -> None:
    grouping, change = grouped((100, 300, 600)), skewed((5, 1000), 5)
    change[:, :100] += 1.0
    harm = measure_harm([{"loss": change}], [grouping])[0][0]["loss"]
    assert harm.clear().tolist() == [True, False, False]
    assert harm.p[0] == pytest.approx(1 / 2001)
    assert harm.low[0] <= 1.0 <= harm.high[0]
    np.testing.assert_allclose(harm.change, [change[:, grouping.codes == g].mean() for g in range(3)])
    np.testing.assert_array_equal(harm.people, (100, 300, 600))


def test_intervals_exclude_zero_exactly_where_p_is_below_the_level() -> None:
    for seed in range(8):
        change = skewed((5, 400), seed)
        change[:, :40] += 0.06 * seed
        harm = measure_harm([{"loss": change}], [grouped((40, 160, 200))], draws=500, seed=seed)[0][0]["loss"]
        np.testing.assert_array_equal((harm.low > 0) | (harm.high < 0), harm.p < 0.05)


def test_a_difference_between_seeds_alone_is_not_clear() -> None:
    """One seed hurts a group very much, the others do not: with people alone that would be clear."""
    change = 0.01 * np.random.default_rng(6).normal(size=(5, 400))
    change[0, :100] += 1.0
    five = measure_harm([{"loss": change}], [grouped((100, 300))], draws=500)[0][0]["loss"]
    one = measure_harm([{"loss": change[:1]}], [grouped((100, 300))], draws=500)[0][0]["loss"]
    assert not five.clear().any()
    assert one.clear()[0], "one network is taken as it is"


def test_families_grow_with_groupings_and_measures() -> None:
    change = skewed((1, 600), 7)
    change[:, :60] += 0.12
    own, coin = grouped((60, 540)), GroupCodes(np.random.default_rng(8).integers(0, 50, 600), 50)
    alone = measure_harm([{"loss": change}], [own])[0][0]["loss"]
    among = measure_harm([{"loss": change, "flips": skewed((1, 600), 9)}], [own, coin])[0][0]["loss"]
    assert among.p[0] > alone.p[0]
    np.testing.assert_allclose(among.excess, alone.excess)
    assert among.smallest_visible[0] > alone.smallest_visible[0]


def test_the_smallest_visible_harm_is_seen_four_times_in_five() -> None:
    grouping = grouped((100, 300))
    visible = measure_harm([{"loss": skewed((1, 400), 10)}], [grouping], draws=500)[0][0]["loss"].smallest_visible[0]
    seen = 0
    for seed in range(60):
        change = skewed((1, 400), 100 + seed)
        change[:, :100] += visible
        seen += measure_harm([{"loss": change}], [grouping], draws=200, seed=seed)[0][0]["loss"].clear()[0]
    assert 0.6 <= seen / 60 <= 0.95


def test_random_groups_are_seldom_clear_where_holm_on_welch_often_is() -> None:
    """Ten groups of 30 people and a large one, skewed: the rule that the report had before, and Holm's, fail."""
    sizes, ours, holm = (30,) * 10 + (700,), 0, 0
    for seed in range(100):
        change = np.where(skewed((1000,), seed) > 0.3, 1.0, 0.0) + 0.01 * skewed((1000,), 5000 + seed)
        grouping = grouped(sizes)
        harm = measure_harm([{"loss": change[None]}], [grouping], draws=200, seed=seed)[0][0]["loss"]
        ours += bool(harm.clear().any())
        p = [
            stats.ttest_ind(change[grouping.codes == g], change[grouping.codes != g], equal_var=False).pvalue
            for g in range(11)
        ]
        holm += bool(np.nanmin(p) * 11 < 0.05)
    assert ours / 100 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)
    assert holm > 2 * ours


def test_groups_without_examples_and_constant_changes_are_no_trouble() -> None:
    grouping = GroupCodes(np.repeat([0, 2], 20), 3)
    harm = measure_harm([{"loss": np.zeros((2, 40))}], [grouping], draws=50)[0][0]["loss"]
    assert np.isnan(harm.p[1])
    np.testing.assert_array_equal(harm.p[[0, 2]], 1)
    np.testing.assert_array_equal(harm.people, (20, 0, 20))


def test_changes_of_people() -> None:
    before = Outcomes(loss=np.array([[0.5, 0.1]], np.float32), wrong=np.array([[1, 0]]), label=np.array([[1, 1]]))
    after = Outcomes(loss=np.array([[0.75, 0.1]], np.float32), wrong=np.array([[1, 1]]), label=np.array([[2, 0]]))
    found = changes_of(before, after)
    np.testing.assert_allclose(found["loss"], [[0.25, 0]])
    np.testing.assert_array_equal(found["accuracy"], [[0, 1]])
    np.testing.assert_array_equal(found["flips"], [[1, 1]])


def test_spreads_of_random_groups_are_expected_and_of_real_ones_not() -> None:
    grouping, change = grouped((50, 50, 200)), skewed((4, 300), 11)
    chance, real = measure_spreads([change, change + (grouping.codes == 1)], grouping)
    means = np.stack([change[:, grouping.codes == g].mean(1) for g in range(3)], 1)
    assert chance.value == pytest.approx(np.ptp(means, 1).mean())
    assert chance.p > 0.05
    assert real.p == pytest.approx(1 / 2001)
    assert real.value > real.limit > real.expected > 0


def test_spreads_are_above_zero_under_chance_as_often_as_p_says() -> None:
    p = [measure_spreads([skewed((1, 120), seed)], grouped((20, 40, 60)), draws=100)[0].p for seed in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 1e-3


def test_networks_work_until_labels_or_groups_are_lost() -> None:
    rng = np.random.default_rng(12)
    y, group = rng.integers(0, 2, 400), np.repeat([0, 1], 200)
    dense = np.where(rng.random((1, 400)) < 0.9, y, 1 - y)
    share = max(np.mean(y), 1 - np.mean(y))

    def judge(labels: np.ndarray):
        return judge_networks(dense, labels, y, group, num_groups=2, commonest=share)

    assert judge(dense).works.all()
    np.testing.assert_allclose(judge(dense).skill, 1)
    np.testing.assert_allclose(judge(dense).diversity, 1)
    same = judge(np.zeros((1, 400), int))
    assert not same.works.any()
    assert same.diversity[0] == 0
    assert same.lost.all()
    one = dense.copy()
    one[:, :200] = 1
    assert judge(one).lost.tolist() == [[True, False]]
    assert not judge(one).works.any()
    noisy = np.where(rng.random((1, 400)) < 0.6, y, 1 - y)
    assert judge(noisy).skill[0] < 0.5
    assert not judge(noisy).works.any()


def test_a_class_as_its_own_group_is_lost_only_when_nobody_is_right() -> None:
    """Each group has one label, which a right network gives to all of it."""
    y = np.repeat([0, 1, 2], 40)
    never_two = np.where(y == 2, np.arange(120) % 2, y)[None]
    found = judge_networks(y[None], y[None], y, y, num_groups=3, commonest=1 / 3)
    assert found.works.all()
    found = judge_networks(y[None], never_two, y, y, num_groups=3, commonest=1 / 3)
    assert found.lost.tolist() == [[False, False, True]]


def test_moderated_variances_recover_what_the_groups_have_in_common() -> None:
    """Drawn from one variance they become nearly equal; from a scaled inverse χ², they keep its degrees."""
    rng = np.random.default_rng(13)
    drawn = 2.0 * rng.chisquare(4, (300, 1)) / 4
    alike, freedom = moderated(drawn, 4)
    np.testing.assert_allclose(alike.mean(), 2.0, rtol=0.1)
    assert np.log(alike).std() < 0.2 * np.log(drawn).std()
    assert freedom[0] > 20
    true = 6 / rng.chisquare(6, (2000, 1))
    drawn = true * rng.chisquare(4, (2000, 1)) / 4
    different, freedom = moderated(drawn, 4)
    np.testing.assert_allclose(freedom, 4 + 6, rtol=0.2)
    error = [np.mean((np.log(each) - np.log(true)) ** 2) for each in (different, drawn)]
    assert error[0] < 0.5 * error[1]


def test_two_groups_gain_nothing_from_moderation() -> None:
    variances = np.array([[0.5], [0.5]])
    moderate, freedom = moderated(variances, 4)
    np.testing.assert_array_equal(moderate, variances)
    np.testing.assert_array_equal(freedom, 4)


@pytest.mark.parametrize("seeds", [2, 5])
def test_a_change_that_everybody_of_a_group_shares_is_clear(seeds) -> None:
    """Every decision of one group becomes wrong, in every seed, and none of the other: there is no variance."""
    grouping = grouped((100, 1000))
    change = np.tile((grouping.codes == 0).astype(float), (seeds, 1))
    harm = measure_harm([{"accuracy": change}], [grouping], draws=200)[0][0]["accuracy"]
    assert harm.clear().tolist() == [True, False]
    assert harm.low[0] > 0


def test_groups_of_one_person_do_not_hide_the_others() -> None:
    """Ten of them, with changes so rare that the null quantile of such a group is near 0."""
    rng = np.random.default_rng(14)
    grouping = grouped((4490, 500, *(1,) * 10))
    share = np.where(grouping.codes == 1, 0.1, 0.01)
    change = (rng.random((1, 5000)) < share).astype(float)
    harm = measure_harm([{"accuracy": change}], [grouping], draws=500)[0][0]["accuracy"]
    assert harm.clear()[1]
    assert np.isfinite(harm.smallest_visible[:2]).all()
    assert np.isnan(harm.p[2:]).all(), "they are not tested"
    assert np.isfinite(harm.change).all()


def test_people_left_out_of_the_shuffles_leave_seeds_their_weight(monkeypatch) -> None:
    """With no effect and large differences between seeds, thinned to a thirtieth of the people."""
    monkeypatch.setattr("jaxprune.auditing.harm.thinned", lambda grouping: thinned(grouping, 200))
    clear = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        change = rng.normal(size=(1, 6000)) + np.zeros((4, 1))
        change[:, :3000] += 0.1 * rng.normal(size=(4, 1))
        harm = measure_harm([{"loss": change}], [grouped((3000, 3000))], draws=200, seed=seed)[0][0]["loss"]
        clear += bool((harm.p < 0.05).any())
    assert clear / 100 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_a_group_that_varies_more_is_no_spread() -> None:
    """30 people of deviation 2 and 1,500 of deviation 1, with equal means."""
    grouping, often = grouped((30, 1500)), 0
    for seed in range(60):
        values = np.random.default_rng(seed).normal(size=(1, 1530)) * np.where(grouping.codes == 0, 2, 1)
        often += measure_spreads([values], grouping, draws=200)[0].p < 0.05
    assert often / 60 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_a_group_that_gains_less_than_the_rest_is_not_hurt() -> None:
    change = skewed((1, 600), 15) - 2.0
    change[:, :100] += 1.0
    harm = measure_harm([{"loss": change}], [grouped((100, 500))], draws=200)[0][0]["loss"]
    assert harm.p[0] < 0.05
    assert not harm.clear().any()


def test_infinite_losses_are_large_changes() -> None:
    before = Outcomes(loss=np.zeros((1, 4)), wrong=np.zeros((1, 4)), label=np.zeros((1, 4), int))
    after = before._replace(loss=np.array([[np.inf, np.nan, 1.0, 2.0]]))
    np.testing.assert_array_equal(changes_of(before, after)["loss"], [[1e6, 1e6, 1.0, 2.0]])


def test_a_grouping_given_twice_costs_nothing() -> None:
    """The same people change places in every grouping, so that its copy has the same null statistics."""
    change, grouping = skewed((1, 300), 16), grouped((40, 260))
    (alone,) = measure_harm([{"loss": change}], [grouping], draws=300)[0]
    both = measure_harm([{"loss": change}], [grouping, grouping], draws=300)[0]
    for each in both:
        np.testing.assert_array_equal(each["loss"].p, alone["loss"].p)
        np.testing.assert_array_equal(each["loss"].low, alone["loss"].low)
