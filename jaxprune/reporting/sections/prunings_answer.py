"""Which criteria or structures keep accuracy and are fair, in sentences."""

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.auditing.multiplicity import LEVEL
from jaxprune.numbers import listing, p_value, plural
from jaxprune.quantities import amount, few_seeds
from jaxprune.reporting.methods import change_text, change_unit
from jaxprune.reporting.page import Bullets, Paragraph, Section
from jaxprune.reporting.prunings import (
    RANKED,
    SHORT_NAMES,
    baseline_of,
    capital,
    counted,
    gain,
    has_baseline,
    quoted,
    title_of,
    values_at,
    verdict_of,
    where,
    working,
)
from jaxprune.reporting.sections import criteria_with_groups, whom_each_hurts
from jaxprune.results import Results
from jaxprune.results.comparison import FAIRNESS
from jaxprune.results.prunings import STRUCTURES_AXIS, Stage, axis_of, prunings_of, stages_of
from jaxprune.results.verdicts import Outcome, Verdict

_COST = 1.0  # point of accuracy


def section(results: Results) -> Section:
    """The claims that the tests allow, and the best prunings."""
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
    """Whether one is fairer, whom each hurts, and whether knowing groups helps."""
    seeds, axis = len(results.seeds), axis_of(results)
    if len(prunings_of(results)) < 2:
        return [f"One {axis.one} was run: name others in {axis.setting}.", *without_baseline(results)]
    if seeds < MINIMUM_SEEDS:
        return [
            f"With {plural(seeds, 'seed')}, no {axis.one} can be said to be fairer than another: set seeds to "
            f"{MINIMUM_SEEDS} or more.",
            *without_baseline(results),
        ]
    of_structures = whom_each_hurts.claims(results) if axis == STRUCTURES_AXIS else []
    return [fairer(results), *of_structures, *criteria_with_groups.claims(results)]


def fairer(results: Results) -> str:
    """Say what is clearly fairer at equal accuracy, at each stage."""
    stages = [stage for stage in stages_of(results) if has_baseline(results, stage)]
    answers = [f"{where(results, stage)}: {_fairer_at(results, stage)}" for stage in stages]
    incomparable = without_baseline(results)
    if not answers:
        return " ".join(incomparable)
    question = f"Is any {axis_of(results).one} fairer than {baseline_of(results)} at equal accuracy?"
    return " ".join([question, *map(capital, answers), *incomparable])


def without_baseline(results: Results) -> list[str]:
    """A sentence on stages at which the baseline works nowhere."""
    broken = [stage.words for stage in stages_of(results) if not has_baseline(results, stage)]
    if not broken:
        return []
    axis = axis_of(results)
    return [
        f"{capital(listing(broken))}: the networks of {baseline_of(results)}, the baseline, work at no sparsity, so "
        f"that nothing can be compared with them; lower prune.sparsities, train longer, or name another {axis.one} "
        f"first in {axis.setting}."
    ]


def _fairer_at(results: Results, stage: Stage) -> str:
    equal = [name for name in working(results, stage) if _cost(results, stage, name) <= _COST]
    better = {name: measures for name in equal if (measures := clear_measures(results, stage, name, Outcome.BETTER))}
    if len(working(results, stage)) < 2:
        return f"no other {axis_of(results).one} has networks that work."
    if not equal:
        return f"every other {axis_of(results).one} whose networks work costs more than one point of accuracy."
    if not better and len(equal) == 1:
        return (
            f"no. {capital(quoted(results, equal))}, which costs at most one point of accuracy, is not clearly better "
            "by any measure of fairness."
        )
    if not better:
        return (
            f"no. Of the {counted(results, len(equal), 'other ')} that cost at most one point of accuracy, none is "
            "clearly better by any measure of fairness."
        )
    by_all = [name for name, measures in better.items() if len(measures) == len(FAIRNESS)]
    by_some = [name for name in better if name not in by_all]
    parts = [f"by all {len(FAIRNESS)} measures of fairness, {quoted(results, by_all)}"] if by_all else []
    some = "by some of them" if by_all else "by some measure of fairness"
    parts += [f"{some}, {quoted(results, by_some)}"] if by_some else []
    worse = [name for name in better if clear_measures(results, stage, name, Outcome.WORSE)]
    also = (
        f" By another one, {quoted(results, worse)} {'is' if len(worse) == 1 else 'are'} clearly worse."
        if worse
        else ""
    )
    return f"yes; {'; '.join(parts)}.{also}"


def clear_measures(results: Results, stage: Stage, pruning: str, outcome: Outcome) -> list[str]:
    """The measures of fairness with this clear outcome for a pruning."""
    verdicts = {measure: verdict_of(results, stage, pruning, measure) for measure in FAIRNESS}
    return [SHORT_NAMES[measure] for measure, verdict in verdicts.items() if verdict and verdict.outcome is outcome]


def best(results: Results, stage: Stage) -> list[str]:
    """Say which pruning is best by each measure, and what is clear.

    The baseline works at this stage.
    """
    return [_best(results, stage, measure, name) for measure, name in RANKED.items()]


def _best(results: Results, stage: Stage, measure: str, name: str) -> str:
    base, able = next(iter(stage.networks)), working(results, stage)
    means = {one: float(np.mean(values_at(results, stage, one, measure))) for one in able}
    winner = max(means, key=lambda one: gain(measure, means[one]))
    text = f"{capital(name)}: {quoted(results, [winner])} is best ({amount(means[winner], measure)}"
    if winner == base:
        text += ")."
    else:
        verdict = verdict_of(results, stage, winner, measure)
        text += f"; {title_of(results, base)}: {amount(means[base], measure)}){_surely(verdict, measure)}."
    for outcome, words in ((Outcome.BETTER, "Also clearly better"), (Outcome.WORSE, "Clearly worse")):
        others = [
            one
            for one in able
            if one != winner and (v := verdict_of(results, stage, one, measure)) and v.outcome is outcome
        ]
        if others:
            first = words if outcome is Outcome.WORSE or _is_clear(results, stage, winner, measure) else words[5:]
            text += f" {capital(first)} than {title_of(results, base)}: {quoted(results, others)}."
    return text


def _is_clear(results: Results, stage: Stage, pruning: str, measure: str) -> bool:
    verdict = verdict_of(results, stage, pruning, measure)
    return verdict is not None and verdict.outcome is Outcome.BETTER


def _surely(verdict: Verdict | None, measure: str) -> str:
    """Say whether the difference of the best pruning is clear."""
    if verdict is None or not np.isfinite(verdict.adjusted_p):
        return "" if verdict is None or not verdict.same else ", the same difference in every seed"
    if verdict.outcome is Outcome.CHANCE:
        return f", which may be chance ({p_value(verdict.adjusted_p)})"
    low, high = (change_text(end, measure) for end in (verdict.change.low, verdict.change.high))
    return f", which is clear: {low} to {high} {change_unit(measure)} ({p_value(verdict.adjusted_p)})"


def tests_note(results: Results) -> str | None:
    """The tests of differences, and their limits."""
    seeds, others = len(results.seeds), len(prunings_of(results)) - 1
    families = []
    if others and any(has_baseline(results, stage) for stage in stages_of(results)):
        families.append(
            f"At each sparsity, without and with retraining apart, {counted(results, others)} by {len(FAIRNESS)} "
            "measures of fairness are one family of tests, and their accuracy is another."
        )
        if axis_of(results) == STRUCTURES_AXIS:
            families.append(whom_each_hurts.TESTED)
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


def _cost(results: Results, stage: Stage, pruning: str) -> float:
    """Points of accuracy that a pruning costs; infinite for the baseline."""
    verdict = verdict_of(results, stage, pruning, "accuracy")
    return float("inf") if verdict is None else -float(verdict.change.mean)
