"""Simulations of audits in which the truth is known."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from jaxprune.auditing.harm import MEASURES, Changes, Harm, measure_harm
from jaxprune.auditing.permutation import GroupCodes

LEVEL = 0.05
Pool = Mapping[str, Changes]  # network -> measure -> [S, N] change of each person by compression


class Variant(NamedTuple):
    """One audit that is simulated on the people of a draw.

    Attributes:
      network: The compressed network, a key of the pool.
      seeds: How many seeds are drawn.
      shift: Loss added to each person of the target, in standard errors of its contrast with the rest.
      target: The group that is shifted; 0 is the largest, -1 the last.
      seed_noise: Standard deviation over seeds of what each group gains, in standard errors of its mean over people.
    """

    network: str
    seeds: int
    shift: float = 0.0
    target: int = -1
    seed_noise: float = 0.0


class Rates(NamedTuple):
    """Shares of the repetitions of one variant.

    Attributes:
      false_clear: Some group without an effect was called clearly hurt.
      holm_false_clear: The same by Holm on Welch tests.
      covered: Every interval held its true excess at once.
      power: The shifted group was called clearly hurt; NaN where none is.
      holm_power: The same by Holm on Welch tests.
      repetitions: How many there were.
    """

    false_clear: float
    holm_false_clear: float
    covered: float
    power: float
    holm_power: float
    repetitions: int


class _Audit(NamedTuple):
    """Changes of one simulated audit, and the truth about them.

    Attributes:
      changes: Measure -> [R, N].
      truth: Measure -> [G] true excess.
      unaffected: Measure -> [G] bool, groups without an effect on the measure.
    """

    changes: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    unaffected: dict[str, np.ndarray]


def equal_sizes(groups: int, people: int) -> np.ndarray:
    """[G] groups of one size."""
    return np.full(groups, people // groups)


def long_tailed_sizes(groups: int, people: int) -> np.ndarray:
    """[G] groups, each 0.6 times as large as the one before, of 10 at least."""
    weights = 0.6 ** np.arange(groups)
    return np.maximum((weights / weights.sum() * people * 0.95).astype(int), 10)


def small_sizes(groups: int, people: int) -> np.ndarray:
    """[G] groups of 30 beside one that holds everybody else."""
    return np.array([people - 30 * (groups - 1)] + [30] * (groups - 1))


def skewed_pool(people: int, seeds: int, seed: int = 0) -> Pool:
    """Synthetic changes that most people hardly have and a few have strongly, alike over seeds.

    Args:
      people: N.
      seeds: S.
      seed: Of the draw.

    Returns:
      The pool of one network, "skewed".
    """
    rng = np.random.default_rng(seed)
    touched = rng.random(people) < 0.15
    size = touched * rng.lognormal(0, 1, people)
    loss = size * rng.lognormal(0, 0.5, (seeds, people)) + rng.normal(0, 0.01, (seeds, people))
    wrong = np.float64(loss > 1.5) - (rng.random((seeds, people)) < 0.02)
    return {"skewed": {"loss": loss, "accuracy": wrong, "flips": np.abs(wrong)}}


def holm_welch(changes: Changes, grouping: GroupCodes) -> tuple[np.ndarray, np.ndarray]:
    """Welch's test of each group against the rest on means over seeds, with Holm's adjustment over all measures.

    Args:
      changes: Measure -> [R, N].
      grouping: The groups.

    Returns:
      [M, G] adjusted p, and [M, G] statistics.
    """
    n = np.bincount(grouping.codes, minlength=grouping.size)
    rest = n.sum() - n
    statistics, p = [], []
    for values in changes.values():
        mean = values.mean(0)
        sums, squares = (np.bincount(grouping.codes, each, grouping.size) for each in (mean, mean**2))
        other, other_squares = sums.sum() - sums, squares.sum() - squares
        own = np.maximum(squares - sums**2 / n, 0) / (n - 1) / n
        others = np.maximum(other_squares - other**2 / rest, 0) / (rest - 1) / rest
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (sums / n - other / rest) / np.sqrt(own + others)
            freedom = (own + others) ** 2 / (own**2 / (n - 1) + others**2 / (rest - 1))
            statistics.append(t)
            p.append(np.nan_to_num(2 * stats.t.sf(np.abs(t), freedom), nan=1.0))
    flat = np.concatenate(p)
    order = np.argsort(flat)
    steps = (len(flat) - np.arange(len(flat))) * flat[order]
    adjusted = np.empty(len(flat))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted.reshape(len(p), -1), np.stack(statistics)


def simulate(
    pool: Pool,
    sizes: Sequence[int] | np.ndarray,
    variants: Sequence[Variant],
    *,
    repetitions: int,
    draws: int,
    seed: int = 0,
) -> list[Rates]:
    """Audit groups that are made up of people drawn at random, and count how often the audit is right.

    People and seeds come from the pool without replacement, so groups differ by chance alone, but for what a variant
    adds. All variants see the same people.

    Args:
      pool: Changes of people.
      sizes: [G] people in each group.
      variants: The audits.
      repetitions: Draws of people.
      draws: Shuffles of `measure_harm`.
      seed: Of the simulation.

    Returns:
      The rates of each variant.
    """
    rng = np.random.default_rng(seed)
    sizes = np.asarray(sizes)
    grouping = GroupCodes(codes=np.repeat(np.arange(len(sizes)), sizes), size=len(sizes))
    counts = np.zeros((len(variants), 5))
    count, everybody = next(iter(pool.values()))["loss"].shape
    for repetition in range(repetitions):
        rows = rng.permutation(everybody)[: sizes.sum()]
        order = rng.permutation(count)
        audits = [_audit(pool[each.network], each, order[: each.seeds], rows, sizes, rng) for each in variants]
        harms = measure_harm([audit.changes for audit in audits], [grouping], draws=draws, seed=repetition)
        for k, (variant, audit) in enumerate(zip(variants, audits, strict=True)):
            counts[k] += _outcome(variant, audit, harms[k][0], grouping)
    shares = counts / repetitions
    return [
        Rates(
            false_clear=row[0],
            holm_false_clear=row[1],
            covered=row[2],
            power=row[3] if variant.shift else np.nan,
            holm_power=row[4] if variant.shift else np.nan,
            repetitions=repetitions,
        )
        for row, variant in zip(shares, variants, strict=True)
    ]


def _audit(
    changes: Changes, variant: Variant, seeds: np.ndarray, rows: np.ndarray, sizes: np.ndarray, rng: np.random.Generator
) -> _Audit:
    """The changes of the people drawn, with the effects of a variant."""
    codes = np.repeat(np.arange(len(sizes)), sizes)
    drawn = {measure: np.asarray(changes[measure][np.ix_(seeds, rows)], np.float64) for measure in MEASURES}
    truth = {measure: np.zeros(len(sizes)) for measure in MEASURES}
    unaffected = {measure: np.ones(len(sizes), bool) for measure in MEASURES}
    if variant.seed_noise:
        for measure, values in drawn.items():
            error = values.mean(0).std() / np.sqrt(sizes)
            shared = rng.normal(size=(len(seeds), len(sizes))) * variant.seed_noise * error
            drawn[measure] = values + shared[:, codes]
    if variant.shift:
        own, rest = sizes[variant.target], sizes.sum() - sizes[variant.target]
        error = drawn["loss"].mean(0).std() * np.sqrt(1 / own + 1 / rest)
        means = np.zeros(len(sizes))
        means[variant.target] = variant.shift * error
        drawn["loss"] = drawn["loss"] + means[codes]
        total = np.sum(means * sizes)
        truth["loss"] = means - (total - means * sizes) / (sizes.sum() - sizes)
        unaffected["loss"][variant.target] = False
    return _Audit(changes=drawn, truth=truth, unaffected=unaffected)


def _outcome(variant: Variant, audit: _Audit, harm: Mapping[str, Harm], grouping: GroupCodes) -> list[bool]:
    """What `Rates` counts, of one audit."""
    p, statistics = holm_welch(audit.changes, grouping)
    clear = np.stack([harm[measure].clear(LEVEL) for measure in MEASURES])
    holm_clear = (p < LEVEL) & (statistics > 0)
    unaffected = np.stack([audit.unaffected[measure] for measure in MEASURES])
    covered = all(bool(np.all((harm[m].low <= audit.truth[m]) & (audit.truth[m] <= harm[m].high))) for m in MEASURES)
    loss = MEASURES.index("loss")
    return [
        bool((clear & unaffected).any()),
        bool((holm_clear & unaffected).any()),
        covered,
        bool(clear[loss, variant.target]),
        bool(holm_clear[loss, variant.target]),
    ]


def standard_error(share: float, repetitions: int) -> float:
    """Standard error of a share of independent repetitions."""
    return float(np.sqrt(share * (1 - share) / repetitions))


def percent(share: float, repetitions: int) -> str:
    """A share with its simulation error, in percent."""
    return f"{100 * share:.1f} ± {100 * standard_error(share, repetitions):.1f}"


def markdown_rows(pool: str, sizes: str, variants: Iterable[Variant], rates: Iterable[Rates]) -> list[str]:
    """Rows of a Markdown table: one for each variant."""
    rows = []
    for variant, rate in zip(variants, rates, strict=True):
        n = rate.repetitions
        cells = [pool, sizes, variant.network, str(variant.seeds)]
        if variant.shift:
            place = "large" if variant.target == 0 else "small"
            cells += [f"{variant.shift:g}, {place} group", percent(rate.power, n), percent(rate.holm_power, n)]
        else:
            cells += [f"{variant.seed_noise:g}"]
        cells += [percent(rate.false_clear, n), percent(rate.holm_false_clear, n), percent(rate.covered, n)]
        rows.append("| " + " | ".join(cells) + " |")
    return rows
