"""Which methods help, by each measure of fairness, in sentences."""

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.auditing.multiplicity import LEVEL
from jaxprune.numbers import p_value, percent, plural
from jaxprune.quantities import QUANTITIES, few_seeds
from jaxprune.reporting.methods import change_text, change_unit, changes_of, level_text, rivals, titles_of, values_of
from jaxprune.reporting.page import Paragraph, Section
from jaxprune.results import Results
from jaxprune.results.comparison import FAIRNESS, MEASURES, Comparison, compared
from jaxprune.results.verdicts import Outcome, Verdict

_NAMES = {
    "max_excess_accuracy_gap": "the largest ψ",
    "accuracy_spread": "the accuracy spread",
    "excessive_loss_spread": "the spread ξ",
    "worst_group_accuracy": "the accuracy of the worst group",
}
_AIM = 1 / 3  # of each of these two measures
_AIMED = ("max_excess_accuracy_gap", "accuracy_spread")
_COST = 1.0  # point of accuracy


def section(results: Results) -> Section:
    """The claims that the tests allow."""
    comparison = compared(results)
    answer = [Paragraph(claim, "answer") for claim in claims(comparison)]
    few = few_seeds(len(comparison.results.seeds))
    notes = [tests_note(comparison) if rivals(comparison) else None, Paragraph(few, "soft") if few else None]
    return Section("The answer", (*answer, *notes), anchor="answer")


def claims(comparison: Comparison) -> list[str]:
    """A paragraph for each measure of fairness, the aim, and new people."""
    if not rivals(comparison):
        return ["Plain fine-tuning alone was run: name other methods in retrain.methods."]
    if len(comparison.results.seeds) < 2:
        return [f"One seed was run: no method can be said to help. Set seeds to {MINIMUM_SEEDS} or more."]
    by_measure = [best_method(comparison, measure) for measure in FAIRNESS]
    both = [aim(comparison)] if len(comparison.results.seeds) >= MINIMUM_SEEDS else []
    return [*by_measure, *both, new_people(comparison)]


def tests_note(comparison: Comparison) -> str:
    """The tests of changes, and their limits."""
    seeds, methods = len(comparison.results.seeds), len(comparison.methods) - 1
    if seeds < MINIMUM_SEEDS:
        return (
            f"With {plural(seeds, 'seed')} there are no tests and no intervals, so no method can be said to help: set "
            f"seeds to {MINIMUM_SEEDS} or more. The means describe these networks only."
        )
    return (
        f"There are {comparison.comparisons} comparisons at this sparsity: {plural(methods, 'method')} by "
        f"{len(FAIRNESS)} measures. A change is called clear if its paired t-test over {seeds} seeds has p below "
        f"{LEVEL:g} after Holm’s correction for all of them. All seeds share the same test people, so these tests "
        "cover other initialisations and orders of the examples, not other people. How much the figures would differ "
        "for other people was not measured."
    )


def best_method(comparison: Comparison, measure: str) -> str:
    """Say which affordable method improves a measure most.

    The sentence is about the test split, and says whether the improvement is clear.
    """
    name, more = _NAMES[measure], MEASURES[measure].more_is_better
    by = "By loss" if MEASURES[measure].by_loss else "By accuracy"
    plain = f"{level_text(comparison, comparison.baseline, measure)} with plain fine-tuning"
    verdicts = {method: _verdict(comparison, method, measure) for method in affordable(comparison)}
    if not verdicts:
        return f"{by}: every method costs more than one point of accuracy, so none is named for {name} ({plain})."
    gains = {method: (1 if more else -1) * float(verdict.change.mean) for method, verdict in verdicts.items()}
    best = max(gains, key=gains.__getitem__)
    if gains[best] <= 0:
        return f"{by}: no method that costs at most one point of accuracy improves the mean of {name} ({plain})."
    title, reached = titles_of(comparison, [best]), f"{level_text(comparison, best, measure)} ({plain})"
    clear = [method for method in gains if verdicts[method].outcome is Outcome.BETTER]
    if best not in clear:
        steadier = f" The smaller change by {titles_of(comparison, clear)} varies less and is clear." if clear else ""
        return f"{by}: {title} has the best mean of {name}, {reached}. {_doubt(verdicts[best], measure)}{steadier}"
    others = len(clear) - 1
    also = f" {plural(others, 'other method')} also clearly improve{'s' * (others == 1)} it." if others else ""
    return (
        f"{by}: {title} {'raises' if more else 'cuts'} {name} most, to {reached}. The change is clear, "
        f"{_range(verdicts[best], measure)}. {_cost(comparison, best)}{also}"
    )


def _range(verdict: Verdict, measure: str) -> str:
    """A clear change as an interval."""
    low, high = (change_text(end, measure) for end in (verdict.change.low, verdict.change.high))
    return f"{low} to {high} {change_unit(measure)} (an interval for all comparisons at once; {verdict.tested})"


def _doubt(verdict: Verdict, measure: str) -> str:
    """Say why a change is unclear, and the smallest clear one."""
    if not np.isfinite(verdict.adjusted_p):
        return f"This change is not clear ({verdict.tested})."
    visible = change_text(verdict.smallest_visible, measure).removeprefix("+")
    return (
        f"This change may be chance ({verdict.tested}); with these seeds, a clear change would have had to be about "
        f"{visible} {change_unit(measure)}."
    )


def _cost(comparison: Comparison, method: str) -> str:
    """The change of overall accuracy by a method."""
    cost = _verdict(comparison, method, "accuracy")
    tested = f"Holm’s {p_value(cost.adjusted_p)}" if np.isfinite(cost.adjusted_p) else cost.tested
    return f"Overall accuracy changes by {change_text(cost.change.mean, 'accuracy', 2)} points ({tested})."


def aim(comparison: Comparison) -> str:
    """Which methods meet the aim: less unfairness at little cost.

    The aim is to cut the largest ψ and the accuracy spread by a third for at most a point of accuracy.
    """
    cuts = {method: [_cut(comparison, method, measure) for measure in _AIMED] for method in rivals(comparison)}
    cheap = affordable(comparison)
    reached = [
        method
        for method in cheap
        if min(cuts[method]) >= _AIM
        and all(_verdict(comparison, method, measure).outcome is Outcome.BETTER for measure in _AIMED)
    ]
    best = max(reached or cheap or cuts, key=lambda method: min(cuts[method]))
    where = f"At {percent(comparison.headline)}, on the test split and by accuracy,"
    both = "both the largest ψ and the accuracy spread of plain fine-tuning"
    cost = "at a mean cost of at most one point of accuracy"
    if not np.isfinite(cuts[best]).all():
        return f"{where} plain fine-tuning leaves no largest ψ or no accuracy spread to cut."
    title, how = titles_of(comparison, [best]), levelling(comparison, best)
    if reached:
        psi, spread = (percent(cut, 2) for cut in cuts[best])
        return (
            f"{where} {titles_of(comparison, reached)} clearly cut{'s' * (len(reached) == 1)} {both} by a third or "
            f"more, {cost}. {title} cuts them most: the largest ψ by {psi}, the spread by {spread}. {how}"
        )
    psi, spread = map(_cut_text, cuts[best])
    dense = QUANTITIES["accuracy_spread"].text(np.mean(_dense_spread(comparison)))
    return (
        f"{where} no method clearly cuts {both} by a third {cost}. By its means {title} comes nearest: {psi} of ψ and "
        f"{spread} of the spread. {how} The dense networks already have an accuracy spread of {dense} points, of the "
        f"{level_text(comparison, comparison.baseline, 'accuracy_spread')} with plain fine-tuning: that part is not "
        "caused by pruning."
    )


def levelling(comparison: Comparison, method: str) -> str:
    """A method's change of the worst and of the best group's accuracy."""
    low, high = (
        100 * float(np.mean(changes_of(comparison, method, end)))
        for end in ("worst_group_accuracy", "best_group_accuracy")
    )
    if high < 0 and -high > max(low, 0):
        how = "it levels down more than it lifts"
    elif low > 0:
        how = "it lifts the best more than the worst" if high > low else "it lifts the worst"
    else:
        how = "it lifts only the best" if high > 0 else "it lifts neither"
    worst, best = (change_text(change, "accuracy") for change in (low, high))
    return (
        f"With {titles_of(comparison, [method])}, the mean accuracy of the worst group changes by {worst} points and "
        f"that of the best group by {best}: {how}."
    )


def new_people(comparison: Comparison) -> str:
    """The part of the training split's gain left on the test split."""
    train, test = (
        {method: _cut(comparison, method, "max_excess_accuracy_gap", split) for method in rivals(comparison)}
        for split in ("train", "test")
    )
    best = max(train, key=train.__getitem__)
    if not np.isfinite([*train.values(), *test.values()]).all() or train[best] <= 0:
        at = percent(comparison.headline)
        return f"On the training split, too, no method cuts the mean of the largest ψ at {at}."
    fitted, fresh = (sum(cut > 0 for cut in cuts.values()) for cuts in (train, test))
    return (
        f"On the training split, {titles_of(comparison, [best])} does best on the mean of the largest ψ "
        f"({_cut_text(train[best])}), which is flattered by being the best of {len(train)}. On the test split, which "
        f"had no part in that choice, it is {_cut_text(test[best])}. The mean is cut by {fitted} of the methods on the "
        f"training split and by {fresh} on the test split: a description, not a test."
    )


def _dense_spread(comparison: Comparison) -> np.ndarray:
    """[R] the accuracy spread of the dense networks on the test split."""
    return comparison.figures(comparison.results.dense, "test")["accuracy_spread"]


def affordable(comparison: Comparison) -> list[str]:
    """Methods that cost at most a point of mean test accuracy."""
    return [m for m in rivals(comparison) if _verdict(comparison, m, "accuracy").change.mean >= -_COST]


def _verdict(comparison: Comparison, method: str, measure: str) -> Verdict:
    return comparison.verdicts[comparison.headline, method, measure]


def _cut(comparison: Comparison, method: str, measure: str, split: str = "test") -> float:
    """The share of the baseline's mean that a method removes.

    It is NaN where that mean is 0.
    """
    base = float(np.mean(values_of(comparison, comparison.baseline, measure, split)))
    return -float(np.mean(changes_of(comparison, method, measure, split))) / base if base > 0 else float("nan")


def _cut_text(share: float) -> str:
    return f"a cut of {percent(share, 2)}" if share >= 0 else f"a rise of {percent(-share, 2)}"
