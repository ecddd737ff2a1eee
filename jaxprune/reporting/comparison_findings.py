"""What a comparison says, in sentences computed from its numbers."""

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.auditing.multiplicity import LEVEL
from jaxprune.reporting.comparison import BASELINE, BY_LOSS, FAIRNESS, MEASURES, Comparison
from jaxprune.reporting.comparison_verdicts import Outcome, Verdict
from jaxprune.reporting.numbers import PERCENT_LANDMARKS, fixed, listing, p_value, percent, plural, signed
from jaxprune.text import name_some

_WORDS = {
    "max_excess_accuracy_gap": "the largest ψ",
    "accuracy_spread": "the accuracy spread",
    "excessive_loss_spread": "the spread ξ",
    "worst_group_accuracy": "the accuracy of the worst group",
}
_AIM = 1 / 3  # of the largest ψ and of the accuracy spread
_AIMED = ("max_excess_accuracy_gap", "accuracy_spread")
_COST = 1.0  # point of accuracy
_FEW = 200  # test examples of a group
_HUGE = 100.0  # a multiplier beside which the loss itself, of weight 1, is nothing


def answer(comparison: Comparison) -> list[str]:
    """The answer, a paragraph each: each measure, the aim, new people, and what was tested."""
    if len(comparison.seeds) < 2:
        return ["One seed was run: no method can be said to help. Set seeds to 4 or more."]
    if not _rivals(comparison):
        return ["Plain fine-tuning alone was run: name other methods in compare.methods."]
    claims = [winner(comparison, measure) for measure in FAIRNESS]
    if len(comparison.seeds) >= MINIMUM_SEEDS:
        claims.append(aim(comparison))
    return [*claims, new_people(comparison), what_is_tested(comparison)]


def what_is_tested(comparison: Comparison) -> str:
    """How many comparisons the tests are adjusted for, and what they speak of."""
    seeds, methods = len(comparison.seeds), len(comparison.methods) - 1
    if seeds < MINIMUM_SEEDS:
        return (
            f"With {plural(seeds, 'seed')} there are no tests and no intervals, so no method can be said to help: set "
            f"seeds to {MINIMUM_SEEDS} or more. Means are given as a description of these networks."
        )
    return (
        f"At this sparsity there are {comparison.comparisons} comparisons: {plural(methods, 'method')}, each by "
        f"{len(FAIRNESS)} measures. A change counts as told from chance where p of its paired t-test over {seeds} "
        f"seeds is below {LEVEL:g} after Holm's correction for all of them. All seeds share the same test people: "
        "these tests speak of other initialisations and orders of the examples, not of other people. How far other "
        "people would move the figures was not measured in this comparison."
    )


def winner(comparison: Comparison, measure: str) -> str:
    """The affordable method that improves a measure most on the test split, if it can be told from chance."""
    words, (_, more, scale) = _WORDS[measure], MEASURES[measure]
    kind = "By loss" if measure in BY_LOSS else "By accuracy"
    sign, digits, unit = (1 if more else -1), (1 if scale == 100 else 3), ("points" if scale == 100 else "nats")
    level_unit = "%" if measure == "worst_group_accuracy" else unit
    base = _baseline(comparison, measure)
    verdicts = {method: _verdict(comparison, method, measure) for method in affordable(comparison)}
    gains = {method: sign * float(verdict.change.mean) for method, verdict in verdicts.items()}
    start = f"{base:.{digits}f} {level_unit} with plain fine-tuning"
    if not gains:
        return f"{kind}: every method costs more than one point of accuracy, so none is named for {words} ({start})."
    best = max(gains, key=gains.__getitem__)
    title, verdict = f"“{comparison.titles[best]}”", verdicts[best]
    reached = f"{base + float(verdict.change.mean):.{digits}f} {level_unit}"
    if gains[best] <= 0:
        return (
            f"{kind}: no method that costs at most one point of accuracy has a better mean of {words} than plain "
            f"fine-tuning ({base:.{digits}f} {level_unit})."
        )
    clear = [method for method in gains if verdicts[method].outcome is Outcome.BETTER]
    if best in clear:
        others = len(clear) - 1
        return (
            f"{kind}: {title} {'raises' if more else 'cuts'} {words} most, to {reached} ({start}). "
            f"{_size_of(verdict, digits, unit)} {_cost(comparison, best)}"
            + (f" {plural(others, 'other method')} also improve{'s' * (others == 1)} it." if others else "")
        )
    said = f"{kind}: {title} has the best mean of {words}, {reached} ({start}). {_doubt(verdict, digits, unit)}"
    if clear:
        also = listing([f"“{comparison.titles[method]}”" for method in clear])
        said += f" The smaller change by {also} is steadier and can be told from chance."
    return said


def _size_of(verdict: Verdict, digits: int, unit: str) -> str:
    """A change that can be told from chance, with the interval of its whole family."""
    low, high = (f"{float(end):+.{digits}f}" for end in (verdict.change.low, verdict.change.high))
    return (
        f"It changes by {low} to {high} {unit}, an interval for all comparisons at once. "
        f"Adjusted for {verdict.comparisons} comparisons, {p_value(verdict.adjusted_p)} (Holm)."
    )


def _doubt(verdict: Verdict, digits: int, unit: str) -> str:
    """Why a change is not claimed, and which would have been seen."""
    if verdict.same:
        return "The change is the same in every seed: no test."
    if not np.isfinite(verdict.adjusted_p):
        return "There are too few seeds for a test."
    return (
        f"After adjusting for {verdict.comparisons} comparisons this cannot be told from chance "
        f"({p_value(verdict.adjusted_p)}); the smallest change that could have been seen is "
        f"{verdict.smallest_visible:.{digits}f} {unit}."
    )


def _cost(comparison: Comparison, method: str) -> str:
    """What a method does to the accuracy of all."""
    cost = _verdict(comparison, method, "accuracy")
    return f"Accuracy over all people changes by {float(cost.change.mean):+.2f} points ({_short(cost)})."


def _short(verdict: Verdict) -> str:
    return f"Holm's {p_value(verdict.adjusted_p)}" if np.isfinite(verdict.adjusted_p) else verdict.tested


def aim(comparison: Comparison) -> str:
    """Whether a method cuts both the largest ψ and the accuracy spread by a third for at most a point of accuracy."""
    reached = {}
    for method in affordable(comparison):
        outcomes = [_verdict(comparison, method, measure).outcome for measure in _AIMED]
        cuts = _both(comparison, method)
        if min(cuts) >= _AIM and set(outcomes) == {Outcome.BETTER}:
            reached[method] = cuts
    where = f"At {percent(comparison.headline)}, on the test split and by accuracy"
    cost = "at a mean cost of at most one point of accuracy"
    test = f"Both changes must be told from chance, adjusted for {comparison.comparisons} comparisons."
    if reached:
        best = max(reached, key=lambda method: min(reached[method]))
        named = listing([f"“{comparison.titles[method]}”" for method in reached])
        psi, spread = reached[best]
        cuts = f"the largest ψ by {percent(psi, 2)}, the spread by {percent(spread, 2)}"
        most = f"“{comparison.titles[best]}” cuts both furthest: {cuts}."
        return (
            f"{where}, the largest ψ and the accuracy spread of plain fine-tuning are both cut by a third or more, "
            f"{cost}, by {named}. {test} {most} {levelling(comparison, best)}"
        )
    best = max(affordable(comparison) or _rivals(comparison), key=lambda method: min(_both(comparison, method)))
    psi, spread = _both(comparison, best)
    spreads = (100 * float(np.mean(comparison.dense["test"].accuracy_spread)), _baseline(comparison, "accuracy_spread"))
    dense, naive = (fixed(value, 1, landmarks=PERCENT_LANDMARKS) for value in spreads)
    return (
        f"{where}, no method is shown to cut both the largest ψ and the accuracy spread of plain fine-tuning by a "
        f"third {cost}. {test} By its means “{comparison.titles[best]}” comes nearest: {_percent(psi)} of ψ and "
        f"{_percent(spread)} of the spread. {levelling(comparison, best)} The dense networks themselves have an "
        f"accuracy spread of {dense} points, of the {naive} with plain "
        "fine-tuning: so much comes from elsewhere than pruning."
    )


def levelling(comparison: Comparison, method: str) -> str:
    """Whether the spread changed at its lower or at its upper end."""
    mine, base = (
        comparison.figures(comparison.chosen[name, comparison.headline], "test") for name in (method, BASELINE)
    )
    low, high = (
        100 * float(np.mean(mine[name] - base[name])) for name in ("worst_group_accuracy", "best_group_accuracy")
    )
    if high < 0 and -high > max(low, 0):
        how = "it levels down, more than it lifts"
    elif low > 0 and high > low:
        how = "it lifts the best more than the worst"
    elif low > 0:
        how = "it lifts the worst"
    elif high > 0:
        how = "it lifts only the best"
    else:
        how = "neither end gains"
    worst, best = (signed(change, 1, landmarks=PERCENT_LANDMARKS) for change in (low, high))
    return (
        f"With “{comparison.titles[method]}”, the worst group's accuracy changes by {worst} points and "
        f"the best group's by {best}, in the mean: {how}."
    )


def new_people(comparison: Comparison) -> str:
    """What is left on the test split of what the methods reach on the training split: a description, no test."""
    there = _rivals(comparison)
    cuts = np.array(
        [[_cut(comparison, m, "max_excess_accuracy_gap", split) for split in ("train", "test")] for m in there]
    )
    if not np.isfinite(cuts).all() or cuts[:, 0].max() <= 0:
        return (
            f"On the training split, too, no method cuts the largest ψ at {percent(comparison.headline)} in the mean."
        )
    best = int(cuts[:, 0].argmax())
    fitted, fresh = (int(np.sum(cuts[:, split] > 0)) for split in (0, 1))
    return (
        f"On the people trained on, “{comparison.titles[there[best]]}” does best on the largest ψ in the mean "
        f"({_percent(cuts[best, 0])}), a figure that gains from being the best of {len(there)}. On the test split, "
        f"which had no part in that choice, it is {_percent(cuts[best, 1])}. Of the methods, {fitted} cut it in the "
        f"mean on the training split and {fresh} on the test split: a description, not a test."
    )


def caveats(comparison: Comparison) -> list[str]:
    """What a careful reader must know."""
    notes = [
        f"{comparison.titles[t.method]} at {percent(t.sparsity)} with "
        f"{', '.join(f'{name} {value:g}' for name, value in t.values.items()) or 'its only setting'} diverged and is "
        f"left out: {t.trouble}"
        for t in comparison.trials
        if t.trouble
    ]
    for t in comparison.trials:
        largest = 0 if t.multipliers is None else float(np.max(np.abs(t.multipliers)))
        if not largest <= _HUGE:
            notes.append(
                f"{comparison.titles[t.method]} at {percent(t.sparsity)} with dual rate "
                f"{t.values.get('dual_rate', 0):g}: a multiplier reached {largest:.2g}, so that the constraint drowned "
                f"the loss; leave that rate out of compare.dual_rates"
                f"{' and mitigation.dual_rate' if t.method == 'configured' else ''}."
            )
    for method in comparison.methods:
        trial = comparison.chosen.get((method, comparison.headline))
        if trial is None or trial.multipliers is None or method not in comparison.inequality:
            continue
        size = np.abs(trial.multipliers).max(-1).mean(0)  # [points]
        if len(size) > 10 and size[-1] > 0.05 and size[-1] > 1.2 * size[int(0.8 * len(size))]:
            notes.append(
                f"{comparison.titles[method]}: a multiplier is still rising at the end ({size[-1]:.2g}): its "
                "constraint is not met, or the training was too short for it."
            )
    stuck = [
        f"“{comparison.titles[method]}” ({len(trial.works) - sum(trial.works)} of {len(trial.works)} seeds)"
        for method in comparison.methods
        if (trial := comparison.chosen.get((method, comparison.headline))) is not None and not all(trial.works)
    ]
    if stuck:
        notes.append(
            f"Networks that no longer work at {percent(comparison.headline)}, where figures tell which answer they are "
            f"stuck on: {', '.join(stuck)}."
        )
    small = [
        f"{name} ({n})"
        for name, n in zip(comparison.group_names, comparison.group_sizes["test"], strict=True)
        if n < _FEW
    ]
    if small:
        notes.append(
            f"The test split has few of {name_some(small)}: a largest and a smallest figure over the groups are then "
            "partly luck, and cannot be brought to 0 by any method."
        )
    return notes


def affordable(comparison: Comparison) -> list[str]:
    """Methods that cost at most a point of test accuracy in the mean."""
    return [m for m in _rivals(comparison) if _verdict(comparison, m, "accuracy").change.mean >= -_COST]


def _rivals(comparison: Comparison) -> list[str]:
    return [m for m in comparison.methods[1:] if (m, comparison.headline) in comparison.chosen]


def _verdict(comparison: Comparison, method: str, measure: str) -> Verdict:
    return comparison.verdicts[comparison.headline, method, measure]


def _baseline(comparison: Comparison, measure: str, split: str = "test") -> float:
    """The mean of plain fine-tuning, in the unit of the measure."""
    figures = comparison.figures(comparison.chosen[BASELINE, comparison.headline], split)
    return MEASURES[measure][2] * float(np.mean(figures[measure]))


def _cut(comparison: Comparison, method: str, measure: str, split: str = "test") -> float:
    """The share of the baseline's figure that a method takes away, by means; NaN where there is none to take."""
    base = _baseline(comparison, measure, split)
    change = comparison.difference(method, comparison.headline, split, measure).change
    return -float(change.mean) / base if base > 0 else float("nan")


def _both(comparison: Comparison, method: str) -> tuple[float, float]:
    psi, spread = (_cut(comparison, method, measure) for measure in _AIMED)
    return psi, spread


def _percent(share: float) -> str:
    return f"a cut of {percent(share, 2)}" if share >= 0 else f"a rise of {percent(-share, 2)}"
