"""What a comparison says, in sentences computed from its numbers."""

import numpy as np

from jaxprune.reporting.comparison import BASELINE, MEASURES, Comparison

FAIRNESS = ("max_excess_accuracy_gap", "accuracy_spread", "excessive_loss_spread", "worst_group_accuracy")
_WORDS = {
    "max_excess_accuracy_gap": "the largest ψ",
    "accuracy_spread": "the accuracy spread",
    "excessive_loss_spread": "the spread ξ",
    "worst_group_accuracy": "the accuracy of the worst group",
}
_AIM = 1 / 3  # of the largest ψ and of the accuracy spread
_COST = 1.0  # point of accuracy
_FEW = 200  # test examples of a group
_HUGE = 100.0  # a multiplier beside which the loss itself, of weight 1, is nothing


def answer(comparison: Comparison) -> list[str]:
    """The answer, a paragraph each: who wins by which measure, the aim, and whether it holds on new people."""
    if len(comparison.seeds) < 2:
        return [
            "One seed was run: there are no intervals and no tests, so no method can be said to help. Set seeds to 3 "
            "or more."
        ]
    if not _rivals(comparison):
        return ["Plain fine-tuning alone was run: name other methods in compare.methods."]
    won = [winner(comparison, measure) for measure in FAIRNESS]
    return [" ".join(won[:2]), " ".join(won[2:]), aim(comparison), new_people(comparison)]


def winner(comparison: Comparison, measure: str) -> str:
    """The affordable method that improves a measure most on the test split, or that none does."""
    sparsity, words = comparison.headline, _WORDS[measure]
    _, more, scale = MEASURES[measure]
    unit = "nats" if scale == 1 else "points"
    base = float(np.mean(comparison.figures(comparison.chosen[BASELINE, sparsity], "test")[measure])) * scale
    changes = {m: comparison.difference(m, sparsity, "test", measure) for m in affordable(comparison)}
    sign = 1 if more else -1
    clear = {m: d for m, d in changes.items() if sign * (d.change.low if more else d.change.high) > 0}
    digits = 1 if scale == 100 else 3
    if not clear:
        return f"Nothing clearly improves {words} ({base:.{digits}f} {unit} with plain fine-tuning)."
    best = max(clear, key=lambda m: sign * float(clear[m].change.mean))
    change, corrected = clear[best].change, comparison.adjusted(sparsity, "test", measure).get(best, np.nan)
    cost = comparison.difference(best, sparsity, "test", "accuracy").change
    low, high = sorted((abs(change.low), abs(change.high)))
    verb = "raises" if more else "cuts"
    others = len(clear) - 1
    also = f"; {others} other{'s' * (others > 1)} also clearly help{'s' * (others == 1)}" if others else ""
    doubt = "" if corrected < 0.05 else ", which could be chance among so many methods"
    return (
        f"“{comparison.titles[best]}” {verb} {words} most, from {base:.{digits}f} to "
        f"{base + float(change.mean):.{digits}f} {unit} (by {low:.{digits}f} to {high:.{digits}f}; "
        f"p = {corrected:.2g} after Holm's correction{doubt}), while accuracy changes by {cost.mean:+.2f} points "
        f"({cost.low:+.2f} to {cost.high:+.2f}){also}."
    )


def aim(comparison: Comparison) -> str:
    """Whether a method cuts both the largest ψ and the accuracy spread by a third for at most a point of accuracy."""
    sparsity = comparison.headline
    reached = []
    for method in affordable(comparison):
        cuts = [_cut(comparison, method, measure) for measure in ("max_excess_accuracy_gap", "accuracy_spread")]
        if all(share >= _AIM and clear for share, clear in cuts):
            reached.append((method, cuts))
    if reached:
        reached.sort(key=lambda pair: -min(share for share, _ in pair[1]))
        named = [f"“{comparison.titles[m]}” (by {psi[0]:.0%} and {spread[0]:.0%})" for m, (psi, spread) in reached]
        listed = named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"
        return (
            f"At {sparsity:.0%}, the largest ψ and the accuracy spread of plain fine-tuning on the test split are both "
            f"cut by a third or more, at a cost of at most one point of accuracy, by {listed}. "
            f"{levelling(comparison, reached[0][0])}"
        )
    best = max(affordable(comparison) or _rivals(comparison), key=lambda m: min(_both(comparison, m)))
    psi, spread = _both(comparison, best)
    dense, base = (
        100 * float(np.mean(metrics.accuracy_spread))
        for metrics in (comparison.dense["test"], comparison.chosen[BASELINE, sparsity].metrics["test"])
    )
    own = (
        f" The dense networks themselves have an accuracy spread of {dense:.1f} points, of the {base:.1f} with plain "
        "fine-tuning: so much is not the pruning's doing."
    )
    return (
        f"No method cuts both the largest ψ and the accuracy spread of plain fine-tuning by a third at "
        f"{sparsity:.0%} for "
        f"at most one point of accuracy, clear of zero. The one that comes nearest is “{comparison.titles[best]}” "
        f"({_percent(psi)} and {_percent(spread)}). {levelling(comparison, best)}{own}"
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
    return (
        f"With “{comparison.titles[method]}”, the worst group's accuracy changes by {low:+.1f} points and "
        f"the best group's by {high:+.1f}: {how}."
    )


def new_people(comparison: Comparison) -> str:
    """What is left on the test split of what the methods reach on the training split."""
    sparsity = comparison.headline
    there = _rivals(comparison)
    cuts = np.array(
        [[_cut(comparison, m, "max_excess_accuracy_gap", split)[0] for split in ("train", "test")] for m in there]
    )
    if not np.isfinite(cuts).all() or cuts[:, 0].max() <= 0:
        return f"On the training split, too, no method cuts the largest ψ at {sparsity:.0%}."
    best = int(cuts[:, 0].argmax())
    return (
        f"On the training split, “{comparison.titles[there[best]]}” does best on the largest ψ "
        f"({_percent(cuts[best, 0])}); on the test split, its change is {_percent(cuts[best, 1])}. Of "
        f"{len(there)} methods, "
        f"{int(np.sum(cuts[:, 0] > 0))} cut it on the training split and {int(np.sum(cuts[:, 1] > 0))} on the "
        f"test split, "
        "in the mean."
    )


def constraints_hold(comparison: Comparison) -> list[dict[str, str]]:
    """For each constrained method at the headline sparsity: the largest violation on each split, and where it held."""
    rows = []
    for method, inequality in comparison.inequality.items():
        trial = comparison.chosen.get((method, comparison.headline))
        if trial is None or not trial.violation:
            continue
        # An equality is missed on either side.
        worst = {s: np.max(v if inequality else np.abs(v), -1) for s, v in trial.violation.items()}
        row = {"title": comparison.titles[method], "kind": "inequality" if inequality else "equality"}
        for split, values in worst.items():
            found = comparison.interval(values)
            row[split] = f"{found.mean:+.4f}" if inequality else f"{found.mean:.4f}"
            row[f"{split}_held"] = f"{int(np.sum(values <= 0))} of {len(values)}" if inequality else "–"
        rows.append(row)
    return rows


def constraint_words(comparison: Comparison) -> str:
    """Whether the inequalities that held on the training split hold on the test split; "" without any."""
    if not any(comparison.inequality.values()):
        return ""
    held = missed = 0
    by: list[float] = []
    for method, inequality in comparison.inequality.items():
        trial = comparison.chosen.get((method, comparison.headline))
        if trial is None or not trial.violation or not inequality:
            continue
        worst = {split: np.max(values, -1) for split, values in trial.violation.items()}
        on_train = worst["train"] <= 0
        held += int(on_train.sum())
        missed += int((on_train & (worst["test"] > 0)).sum())
        by += worst["test"][on_train & (worst["test"] > 0)].tolist()
    if not held:
        return "In no seed did an inequality constraint hold on the whole training split."
    if not missed:
        return f"In all {held} cases (method, seed) where an inequality held on the training split, it does on test."
    return (
        f"Of {held} cases (method, seed) where an inequality held on the whole training split, it is broken on "
        f"the test "
        f"split in {missed}, by {np.median(by):.4f} in the median."
    )


def caveats(comparison: Comparison) -> list[str]:
    """What a careful reader must know."""
    notes = [
        f"{comparison.titles[t.method]} at {t.sparsity:.0%} with "
        f"{', '.join(f'{name} {value:g}' for name, value in t.values.items()) or 'its only setting'} diverged and is "
        f"left out: {t.trouble}"
        for t in comparison.trials
        if t.trouble
    ]
    for t in comparison.trials:
        largest = 0 if t.multipliers is None else float(np.max(np.abs(t.multipliers)))
        if not largest <= _HUGE:
            notes.append(
                f"{comparison.titles[t.method]} at {t.sparsity:.0%} with dual rate {t.values.get('dual_rate', 0):g}: a "
                f"multiplier reached {largest:.2g}, so that the constraint drowned the loss; leave that rate out of "
                f"compare.dual_rates{' and mitigation.dual_rate' if t.method == 'configured' else ''}."
            )
    for method in comparison.methods:
        trial = comparison.chosen.get((method, comparison.headline))
        if trial is None or trial.multipliers is None or method not in comparison.inequality:
            continue
        size = np.abs(trial.multipliers).max(-1).mean(0)  # [points]
        if len(size) > 10 and size[-1] > 0.05 and size[-1] > 1.2 * size[int(0.8 * len(size))]:
            notes.append(
                f"{comparison.titles[method]}: a multiplier is still rising at the end ({size[-1]:.2g}): its "
                f"constraint "
                "is not met, or the training was too short for it."
            )
    small = [
        f"{name} ({n})"
        for name, n in zip(comparison.group_names, comparison.group_sizes["test"], strict=True)
        if n < _FEW
    ]
    if small:
        notes.append(
            f"The test split has few of {', '.join(small)}: a largest and a smallest figure over the groups are then "
            "partly luck, and cannot be brought to 0 by any method."
        )
    return notes


def affordable(comparison: Comparison) -> list[str]:
    """Methods that cost at most a point of test accuracy in the mean."""
    at = comparison.headline
    return [m for m in _rivals(comparison) if comparison.difference(m, at, "test", "accuracy").change.mean >= -_COST]


def _rivals(comparison: Comparison) -> list[str]:
    return [m for m in comparison.methods[1:] if (m, comparison.headline) in comparison.chosen]


def _cut(comparison: Comparison, method: str, measure: str, split: str = "test") -> tuple[float, bool]:
    """The share of the baseline's figure that a method takes away, and whether its interval is clear of zero."""
    base = comparison.figures(comparison.chosen[BASELINE, comparison.headline], split)[measure]
    change = comparison.difference(method, comparison.headline, split, measure).change
    mean = float(np.mean(base)) * MEASURES[measure][2]
    return (-float(change.mean) / mean if mean > 0 else np.nan), bool(change.high < 0)


def _both(comparison: Comparison, method: str) -> tuple[float, float]:
    psi, spread = (_cut(comparison, method, m)[0] for m in ("max_excess_accuracy_gap", "accuracy_spread"))
    return psi, spread


def _percent(share: float) -> str:
    return f"a cut of {share:.0%}" if share >= 0 else f"a rise of {-share:.0%}"
