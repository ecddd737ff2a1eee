"""Which criteria keep accuracy and are fair, in sentences."""

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.auditing.multiplicity import LEVEL
from jaxprune.numbers import listing, p_value, plural
from jaxprune.quantities import amount, few_seeds
from jaxprune.reporting.criteria import (
    RANKED,
    SHORT_NAMES,
    baseline_of,
    capital,
    gain,
    has_baseline,
    quoted,
    title_of,
    values_at,
    verdict_of,
    where,
    working,
)
from jaxprune.reporting.methods import change_text, change_unit
from jaxprune.reporting.page import Bullets, Paragraph, Section
from jaxprune.reporting.sections import criteria_with_groups
from jaxprune.results import Results
from jaxprune.results.comparison import FAIRNESS
from jaxprune.results.criteria import Stage, criteria_of, stages_of
from jaxprune.results.verdicts import Outcome, Verdict

_COST = 1.0  # point of accuracy


def section(results: Results) -> Section:
    """The claims that the tests allow, and the best criteria."""
    few = few_seeds(len(results.seeds))
    stages = []
    for stage in stages_of(results):
        if not has_baseline(results, stage):
            continue
        words = where(results, stage)
        stages += [Paragraph(f"{capital(words)}:", "strong"), Bullets(tuple(best(results, stage)))]
    return Section(
        "The answer",
        (
            *(Paragraph(claim, "answer") for claim in claims(results)),
            *stages,
            criteria_with_groups.section(results),
            tests_note(results),
            Paragraph(few, "soft") if few else None,
        ),
        anchor="answer",
    )


def claims(results: Results) -> list[str]:
    """Whether a criterion is fairer, and whether knowing groups helps."""
    seeds = len(results.seeds)
    if len(criteria_of(results)) < 2:
        return ["One criterion was run: name others in prune.criteria.", *without_baseline(results)]
    if seeds < MINIMUM_SEEDS:
        return [
            f"With {plural(seeds, 'seed')}, no criterion can be said to be fairer than another: set seeds to "
            f"{MINIMUM_SEEDS} or more.",
            *without_baseline(results),
        ]
    return [fairer(results), *criteria_with_groups.claims(results)]


def fairer(results: Results) -> str:
    """Say which criteria are clearly fairer at equal accuracy, at each stage."""
    stages = [stage for stage in stages_of(results) if has_baseline(results, stage)]
    answers = [f"{where(results, stage)}: {_fairer_at(results, stage)}" for stage in stages]
    incomparable = without_baseline(results)
    if not answers:
        return " ".join(incomparable)
    question = f"Is any criterion fairer than {baseline_of(results)} at equal accuracy?"
    return " ".join([question, *map(capital, answers), *incomparable])


def without_baseline(results: Results) -> list[str]:
    """A sentence on stages at which the baseline works nowhere."""
    broken = [stage.words for stage in stages_of(results) if not has_baseline(results, stage)]
    if not broken:
        return []
    return [
        f"{capital(listing(broken))}: the networks of {baseline_of(results)}, the baseline, work at no sparsity, so "
        "that nothing can be compared with them; lower prune.sparsities, train longer, or name another criterion first "
        "in prune.criteria."
    ]


def _fairer_at(results: Results, stage: Stage) -> str:
    equal = [name for name in working(results, stage) if _cost(results, stage, name) <= _COST]
    better = {name: measures for name in equal if (measures := clear_measures(results, stage, name, Outcome.BETTER))}
    if not equal:
        return "every other criterion whose networks work costs more than one point of accuracy."
    if not better:
        return (
            f"no. Of the {plural(len(equal), 'other criterion', 'other criteria')} that cost at most one point of "
            "accuracy, none is clearly better by any measure of fairness."
        )
    by_all = [name for name, measures in better.items() if len(measures) == len(FAIRNESS)]
    by_some = [name for name in better if name not in by_all]
    parts = [f"by all {len(FAIRNESS)} measures of fairness, {quoted(by_all)}"] if by_all else []
    some = "by some of them" if by_all else "by some measure of fairness"
    parts += [f"{some}, {quoted(by_some)}"] if by_some else []
    worse = [name for name in better if clear_measures(results, stage, name, Outcome.WORSE)]
    also = f" By another one, {quoted(worse)} {'is' if len(worse) == 1 else 'are'} clearly worse." if worse else ""
    return f"yes; {'; '.join(parts)}.{also}"


def clear_measures(results: Results, stage: Stage, criterion: str, outcome: Outcome) -> list[str]:
    """The measures of fairness with this clear outcome for a criterion."""
    verdicts = {measure: verdict_of(results, stage, criterion, measure) for measure in FAIRNESS}
    return [SHORT_NAMES[measure] for measure, verdict in verdicts.items() if verdict and verdict.outcome is outcome]


def best(results: Results, stage: Stage) -> list[str]:
    """Say which criterion is best by each measure, and what is clear.

    The baseline works at this stage.
    """
    return [_best(results, stage, measure, name) for measure, name in RANKED.items()]


def _best(results: Results, stage: Stage, measure: str, name: str) -> str:
    base, able = next(iter(stage.networks)), working(results, stage)
    means = {one: float(np.mean(values_at(results, stage, one, measure))) for one in able}
    winner = max(means, key=lambda one: gain(measure, means[one]))
    text = f"{capital(name)}: {quoted([winner])} is best ({amount(means[winner], measure)}"
    if winner == base:
        text += ")."
    else:
        verdict = verdict_of(results, stage, winner, measure)
        text += f"; {title_of(base)}: {amount(means[base], measure)}){_surely(verdict, measure)}."
    for outcome, words in ((Outcome.BETTER, "Also clearly better"), (Outcome.WORSE, "Clearly worse")):
        others = [
            one
            for one in able
            if one != winner and (v := verdict_of(results, stage, one, measure)) and v.outcome is outcome
        ]
        if others:
            first = words if outcome is Outcome.WORSE or _is_clear(results, stage, winner, measure) else words[5:]
            text += f" {capital(first)} than {title_of(base)}: {quoted(others)}."
    return text


def _is_clear(results: Results, stage: Stage, criterion: str, measure: str) -> bool:
    verdict = verdict_of(results, stage, criterion, measure)
    return verdict is not None and verdict.outcome is Outcome.BETTER


def _surely(verdict: Verdict | None, measure: str) -> str:
    """Say whether the difference of the best criterion is clear."""
    if verdict is None or not np.isfinite(verdict.adjusted_p):
        return "" if verdict is None or not verdict.same else ", the same difference in every seed"
    if verdict.outcome is Outcome.CHANCE:
        return f", which may be chance ({p_value(verdict.adjusted_p)})"
    low, high = (change_text(end, measure) for end in (verdict.change.low, verdict.change.high))
    return f", which is clear: {low} to {high} {change_unit(measure)} ({p_value(verdict.adjusted_p)})"


def tests_note(results: Results) -> str | None:
    """The tests of differences, and their limits."""
    seeds, others = len(results.seeds), len(criteria_of(results)) - 1
    families = []
    if others and any(has_baseline(results, stage) for stage in stages_of(results)):
        families.append(
            f"At each sparsity, without and with retraining apart, {plural(others, 'criterion', 'criteria')} by "
            f"{len(FAIRNESS)} measures of fairness are one family of tests, and their accuracy is another."
        )
    if criteria_with_groups.has_controls(results):
        families.append(
            "The tests of criteria that read the groups against the same ones without groups are families of their own."
        )
    if seeds < MINIMUM_SEEDS or not families:
        return None
    return (
        f"{' '.join(families)} A difference is called clear if its paired t-test over {seeds} seeds has p below "
        f"{LEVEL:g} after Holm’s correction for its family; intervals hold for the whole family at once. Networks that "
        "no longer work are not named as best. All seeds share the same test people, so these tests cover other "
        "initialisations, not other people."
    )


def _cost(results: Results, stage: Stage, criterion: str) -> float:
    """Points of accuracy that a criterion costs; infinite for the baseline."""
    verdict = verdict_of(results, stage, criterion, "accuracy")
    return float("inf") if verdict is None else -float(verdict.change.mean)
