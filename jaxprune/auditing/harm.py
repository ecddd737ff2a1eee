"""Tests over people and seeds for groups hurt more than others."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxprune.auditing.example_outcomes import Outcomes
from jaxprune.auditing.intervals import MINIMUM_SEEDS
from jaxprune.auditing.moderation import moderated
from jaxprune.auditing.permutation import (
    GroupCodes,
    contrasts,
    crossed,
    group_totals,
    shuffled_totals,
    thinned,
)
from jaxprune.losses import excessive_loss

FEWEST_PEOPLE = 5  # smaller groups are not tested: a single change would be many standard errors
_MOST_LOSS = 1e6  # nats of one person
POWER = 0.8  # the chance with which the smallest visible harm would have been called clear

MEASURES = ("loss", "accuracy", "flips")  # nats; share of people no longer right; share whose decision changed

Changes = Mapping[str, np.ndarray]  # measure -> [R, N] change of each person by compression; more is worse


class Harm(NamedTuple):
    """The change of one measure in every group, each [G].

    A group without examples has NaN, one of fewer than `FEWEST_PEOPLE` has no test.

    Attributes:
      people: Examples in the group.
      change: Mean change over the group and the seeds, such as R(a), eq. (2) of Tran et al. 2022.
      excess: The same minus the mean change of everybody else.
      low: Lower end of the simultaneous interval of `excess`.
      high: Its upper end.
      p: Two-sided, adjusted for every group and measure that was looked at.
      smallest_visible: The excess that would have been called clear with a probability of `POWER`.
    """

    people: np.ndarray
    change: np.ndarray
    excess: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    smallest_visible: np.ndarray

    def clear(self, level: float = 0.05) -> np.ndarray:
        """[G] bool, True for groups clearly hurt more than the rest."""
        return (self.p < level) & (self.excess > 0) & (self.change > 0)


def changes_of(before: Outcomes, after: Outcomes) -> Changes:
    """Compute the change of each person by compression, on every measure.

    Args:
      before: Leaves [R, N], of the dense networks.
      after: Leaves [R, N], of the compressed networks on the same people.

    Returns:
      Measure -> [R, N]: the rise of the loss in nats, 1 for a decision that became wrong and -1 for one that became
      right, and 1 for any other decision than before. Losses above 1e6 nats, also those that are not finite, count as
      1e6.
    """
    return {
        "loss": np.asarray(excessive_loss(_finite(np.asarray(before.loss)), _finite(np.asarray(after.loss)))),
        "accuracy": np.asarray(after.wrong, np.float64) - np.asarray(before.wrong, np.float64),
        "flips": np.asarray(np.asarray(after.label) != np.asarray(before.label), np.float64),
    }


def _finite(loss: np.ndarray) -> np.ndarray:
    return np.minimum(np.nan_to_num(np.asarray(loss, np.float64), nan=_MOST_LOSS, posinf=_MOST_LOSS), _MOST_LOSS)


class _Pivot(NamedTuple):
    """Contrasts of every group with the rest, and their null inputs.

    Attributes:
      change: [G, M] mean changes.
      excess: [G, M] contrasts.
      error: [G, M] their standard errors, over people and seeds.
      seeds: [G, M] the part of the error that is due to seeds.
      noise: [n, M] changes of the people that the null distribution is drawn from, their mean taken out.
      freedom: [M] degrees of freedom of `seeds`.
      thinned: True if some people were left out of the null distribution.
    """

    change: np.ndarray
    excess: np.ndarray
    error: np.ndarray
    seeds: np.ndarray
    noise: np.ndarray
    freedom: np.ndarray
    thinned: bool


class _Scaled(NamedTuple):
    """Contrasts in units of their own null quantiles.

    Attributes:
      observed: [G, M] the statistic, on the side where it is larger.
      largest: [draws] the largest statistic over groups and measures under the null.
      upper: [G, M] upper null quantile, in the unit of the contrast.
      lower: [G, M] lower null quantile, as a positive number.
      slack: [G, M] what a true excess must have beyond the critical value to be seen with probability `POWER`.
    """

    observed: np.ndarray
    largest: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    slack: np.ndarray


def measure_harm(
    networks: Iterable[Changes],
    groupings: Sequence[GroupCodes],
    *,
    draws: int = 2000,
    level: float = 0.05,
    seed: int = 0,
) -> list[list[dict[str, Harm]]]:
    """Test every group against the rest on every measure.

    Each compressed network is a family of tests of its own. The statistic of a group is its mean change minus that of
    everybody else, averaged over seeds, divided by its standard error over people and, from four seeds on, over seeds.
    Its null distribution comes from shuffling the people, plus Student's t for what differs between seeds; with one
    seed and no effect the test is exact. The largest statistic over all groups, groupings and measures of a network,
    each divided by a null quantile of its own, gives adjusted p and simultaneous intervals (Westfall and Young 1993);
    these exclude zero where p is below the level.

    Args:
      networks: For each network, measure -> [R, N] change of each person.
      groupings: Divisions of the N people, tested as one family.
      draws: Shuffles that p is counted on; p is at least 1 / (draws + 1). Half as many more give the quantiles.
      level: Of the tests; the intervals cover all contrasts of a network at once with probability 1 - level.
      seed: Of the shuffles.

    Returns:
      For each network and grouping, measure -> results.
    """
    rows = thinned(crossed(groupings))
    parts = [GroupCodes(grouping.codes[rows], grouping.size) for grouping in groupings]
    names: list[str] = []
    pivots = []
    for changes in networks:
        names = list(changes)
        values = np.stack([np.asarray(change, np.float64) for change in changes.values()], -1)  # [R, N, M]
        pivots.append([_pivot(values, grouping, rows) for grouping in groupings])
    # One seed for all groupings: the same people change places in each, so that what the groupings share stays.
    generator = np.random.Generator(np.random.PCG64([seed, 1]))
    scaled = [
        _scale([pivot[i] for pivot in pivots], part, draws, level, seed, generator) for i, part in enumerate(parts)
    ]
    return [
        _conclude(names, groupings, pivot, [scaled[i][k] for i in range(len(groupings))], draws, level)
        for k, pivot in enumerate(pivots)
    ]


def _pivot(values: np.ndarray, grouping: GroupCodes, rows: np.ndarray) -> _Pivot:
    """Contrast one network by one grouping, from changes [R, N, M]."""
    means = values.mean(0)
    sizes = np.bincount(grouping.codes, minlength=grouping.size)
    totals = group_totals(means, grouping)
    people = contrasts(sizes, totals, group_totals(means**2, grouping))
    seeds, freedom = _seed_variance(values, grouping)
    return _Pivot(
        change=totals / np.where(sizes > 0, sizes, np.nan)[:, None],
        excess=people.value,
        error=np.where(sizes[:, None] < FEWEST_PEOPLE, np.nan, np.sqrt(people.variance + seeds)),
        seeds=np.sqrt(seeds),
        noise=(means[rows] - means[rows].mean(0)).astype(np.float32),
        freedom=freedom,
        thinned=len(rows) < len(means),
    )


def _seed_variance(values: np.ndarray, grouping: GroupCodes) -> tuple[np.ndarray, np.ndarray]:
    """Compute variances [G, M] of mean contrasts over seeds.

    Their degrees of freedom [M] are returned as well. Contrasts of single seeds also differ because each person's
    change differs between seeds. That part is in the variance over people already, so it is subtracted. With few seeds
    the variance is 0.
    """
    count, _, measures = values.shape
    if count < MINIMUM_SEEDS:
        return np.zeros((grouping.size, measures)), np.ones(measures)
    sizes = np.bincount(grouping.codes, minlength=grouping.size)
    totals = np.stack([group_totals(each, grouping) for each in values])  # [R, G, M]
    between = contrasts(sizes, totals, np.zeros_like(totals)).value.var(0, ddof=1)
    between, freedom = moderated(between, count - 1)
    means = values.mean(0)
    squares = np.sum([group_totals((each - means) ** 2, grouping) for each in values], 0)
    # What all people of a group share in a seed is the difference between seeds itself, and not noise of persons.
    shifts = (totals - totals.mean(0)) / np.maximum(sizes, 1)[:, None]
    persons = np.maximum(squares - sizes[:, None] * np.sum(shifts**2, 0), 0) / (count - 1)
    explained = contrasts(sizes, np.zeros_like(persons), persons).variance
    return np.maximum(between - explained, 0) / count, freedom


def _scale(
    pivots: Sequence[_Pivot], part: GroupCodes, draws: int, level: float, seed: int, generator: np.random.Generator
) -> list[_Scaled]:
    """Divide both tails of every null distribution by their quantiles.

    The quantiles come from shuffles of their own: the observed statistic and those that p is counted on then stand
    alike to them, and the test is exact where people are exchangeable.
    """
    measures = pivots[0].noise.shape[1]
    sizes = np.bincount(part.codes, minlength=part.size)
    noise = np.concatenate([pivot.noise for pivot in pivots], 1)
    scale = np.maximum(noise.std(0, dtype=np.float64), np.finfo(np.float32).tiny)
    noise = noise / scale.astype(np.float32)  # near 1, so that sums of squares keep their digits
    trial = draws // 2
    totals = shuffled_totals(np.concatenate([noise, noise**2], 1), part, trial + draws, seed)
    own = contrasts(sizes, group_totals(noise, part), group_totals(noise**2, part)).variance
    scaled = []
    for k, pivot in enumerate(pivots):
        first, last = k * measures, (k + 1) * measures
        of_squares = slice(noise.shape[1] + first, noise.shape[1] + last)
        drawn = contrasts(sizes, totals[..., first:last].astype(float), totals[..., of_squares].astype(float))
        value, variance, spread = drawn.value, drawn.variance, pivot.seeds / scale[first:last]
        if spread.any():
            # People who were left out of the shuffles make the part of the people smaller beside that of the seeds.
            people = np.maximum((pivot.error / scale[first:last]) ** 2 - spread**2, 0)
            smaller = np.minimum(people / own[:, first:last], 1) if pivot.thinned else 1.0
            value = value * np.sqrt(smaller) + spread * generator.standard_t(pivot.freedom, value.shape)
            variance = variance * smaller
        with np.errstate(invalid="ignore", divide="ignore"):  # of changes that are all the same
            null = value / np.sqrt(variance + spread**2)
        scaled.append(_scale_one(pivot, null[:trial], null[trial:], level))
    return scaled


def _scale_one(pivot: _Pivot, trial: np.ndarray, null: np.ndarray, level: float) -> _Scaled:
    usable = np.isfinite(pivot.excess) & np.isfinite(pivot.error) & np.isfinite(trial).all(0)
    trial, null = np.where(usable, trial, 0), np.where(usable, null, 0)
    # At least those of a normal distribution: in a tiny group where changes are rare they can be near 0.
    least = stats.norm.isf(level / 2)
    upper = np.maximum(np.quantile(trial, 1 - level / 2, 0), least)
    lower = np.maximum(-np.quantile(trial, level / 2, 0), least)
    slack = np.maximum(-np.quantile(trial, 1 - POWER, 0), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        sure = np.where(pivot.excess == 0, 0, np.copysign(np.inf, pivot.excess))  # everybody changes alike
        statistic = np.where(pivot.error == 0, sure, pivot.excess / pivot.error)
    return _Scaled(
        observed=np.maximum(statistic / upper, -statistic / lower),
        largest=np.maximum(null / upper, -null / lower).max((1, 2)),
        upper=upper * pivot.error,
        lower=lower * pivot.error,
        slack=slack * pivot.error,
    )


def _conclude(
    names: Sequence[str],
    groupings: Sequence[GroupCodes],
    pivots: Sequence[_Pivot],
    scaled: Sequence[_Scaled],
    draws: int,
    level: float,
) -> list[dict[str, Harm]]:
    """Adjusted p and simultaneous intervals of one network, over all its groupings."""
    largest = np.max([each.largest for each in scaled], 0)
    critical = np.sort(largest)[min(int(np.ceil((1 - level) * (draws + 1))) - 1, draws - 1)]
    results = []
    for grouping, pivot, each in zip(groupings, pivots, scaled, strict=True):
        p = (1 + np.sum(largest[:, None, None] >= each.observed, 0)) / (draws + 1)
        columns = {
            "change": pivot.change,
            "excess": pivot.excess,
            "low": pivot.excess - critical * each.upper,
            "high": pivot.excess + critical * each.lower,
            "p": np.where(np.isfinite(pivot.excess) & np.isfinite(pivot.error), p, np.nan),
            "smallest_visible": critical * each.upper + each.slack,
        }
        people = np.bincount(grouping.codes, minlength=grouping.size)
        results.append({
            name: Harm(people=people, **{n: column[:, m] for n, column in columns.items()})
            for m, name in enumerate(names)
        })  # fmt: skip
    return results
