"""What the numbers say, in sentences computed from them."""

from typing import NamedTuple

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS, Interval, mean_interval
from jaxprune.auditing.multiplicity import holm, paired_p_value, simultaneous_interval
from jaxprune.reporting.answer import LEVEL, Answer, MeasureAnswer, answer_of, headline_sparsity
from jaxprune.reporting.numbers import PERCENT_LANDMARKS, fixed, listing, p_value, percent, plural, signed
from jaxprune.reporting.results import MODEL_NAMES, Results, answered_split
from jaxprune.reporting.tables import empty_layers, overall_figures

# What a constrained model may narrow, and the unit of what is stored times the factor.
_NARROWED = {
    "loss_gap": ("the largest gap between a group’s loss and the overall loss", "nats", 1),
    "excessive_loss_spread": ("the spread ξ of the losses", "nats", 1),
    "accuracy_spread": ("the spread of the accuracies", "points", 100),
}


class Headline(NamedTuple):
    """Where the answer is read off: a split and a sparsity."""

    split: str
    sparsity: float


def headline(results: Results) -> Headline:
    """The answered split and the largest sparsity at which networks work."""
    return Headline(answered_split(results.splits), headline_sparsity(results))


def interval(results: Results, values: np.ndarray, axis: int = 0) -> Interval:
    """Mean over seeds with the interval that the settings ask for."""
    return mean_interval(values, axis, results.settings["audit"]["confidence"])


def who_is_hurt(results: Results) -> list[str]:
    """Whom pruning without retraining hurts most, by accuracy and by loss, with counts of people."""
    answer = answer_of(results)
    accuracy, loss = (answer.measures[measure].worst for measure in ("accuracy", "loss"))
    what = f"Pruning {percent(answer.sparsity)} of the weights"
    by_accuracy = f"{_points(accuracy.change)} of accuracy lost"
    by_loss = f"{signed(loss.change)} nats"
    named = [group for group in (accuracy, loss) if group.hurt]
    if not named:
        return [f"{what} hurts no group: none loses accuracy or gains loss on the {answer.split} split."]
    if not accuracy.hurt:
        sentence = f"{what} costs no group accuracy; by loss, it hurts {loss.group} most ({by_loss})."
    elif not loss.hurt:
        sentence = f"{what} raises no group’s loss; by accuracy, it hurts {accuracy.group} most ({by_accuracy})."
    elif answer.agree:
        sentence = f"{what} hurts {loss.group} most, by accuracy ({by_accuracy}) and by loss ({by_loss})."
    else:
        sentence = (
            f"{what} hurts {accuracy.group} most by accuracy ({by_accuracy}) and {loss.group} most by loss ({by_loss})."
        )
    if len({group.group for group in named}) == 1:
        people = plural(named[0].people, "person", "people")
        return [sentence, f"{named[0].group} has {people} in the {answer.split} split."]
    return [
        sentence,
        f"The {answer.split} split has {accuracy.people:,} and {loss.people:,} people of these groups.",
        "The measures differ because accuracy counts which answers are right and loss how sure the network was: a "
        "group predicted with confidence can gain loss and keep its decisions.",
    ]


def verdict(results: Results, model: str = "pruned") -> list[str]:
    """Which groups are clearly hurt, and what else would have been seen."""
    answer = answer_of(results, model)
    accuracy, loss, flips = (answer.measures[measure] for measure in ("accuracy", "loss", "flips"))
    groups = len(accuracy.groups)
    if groups < 2:
        return ["There is one group, and nobody to compare it with."]
    if not accuracy.clear and not loss.clear:
        sentences = [f"No group of {groups} is clearly hurt more than the rest, by accuracy or by loss."]
    else:
        sentences = [f"Clearly hurt more than the rest: by accuracy, {_named(accuracy)}; by loss, {_named(loss)}."]
    if flips.clear:
        sentences.append(f"Decisions change clearly more often than those of the rest for {_named(flips)}.")
    known = [group for group in accuracy.unclear if np.isfinite(group.smallest_visible) and group.smallest_visible > 0]
    if known:
        who = "Any other group" if accuracy.clear else "A group"
        visible = sorted(known, key=lambda group: group.smallest_visible)
        least, most = visible[0], visible[-1]
        lost = f"{_points(least.smallest_visible)} ({least.group}) to {_points(most.smallest_visible)} ({most.group})"
        if _points(least.smallest_visible) == _points(most.smallest_visible):
            lost = _points(least.smallest_visible)
        sentences.append(
            f"{who} would have had to lose {lost} of accuracy more than the rest to be seen in four of five samples."
        )
    if (seeds := len(results.seeds)) < MINIMUM_SEEDS:
        sentences.append(
            f"With {plural(seeds, 'seed')} this speaks of these networks alone; {MINIMUM_SEEDS} are needed to speak of "
            "others trained alike."
        )
    return sentences


def breaks(results: Results) -> list[str]:
    """Where pruned networks stop working, and for whom first."""
    answer = answer_of(results)
    if answer.breaks is None:
        return [f"The pruned networks work at every sparsity up to {percent(results.sparsities[-1])}."]
    seeds, at = len(results.seeds), percent(answer.breaks.sparsity)
    which = "every seed" if answer.breaks.seeds == seeds else f"{answer.breaks.seeds} of {plural(seeds, 'seed')}"
    sentences = []
    if not answer.works:
        sentences.append(
            f"Already at {at} the networks of some seed do not work: this answer is about partly broken networks."
        )
    sentences.append(f"At {at} and without retraining, the networks of {which} no longer work: {_reason(answer)}.")
    return sentences


def _reason(answer: Answer) -> str:
    assert answer.breaks is not None
    if answer.breaks.dense:
        return "the dense networks themselves do no better than the commonest label"
    lost = answer.breaks.lost
    if lost:
        first = listing([*lost[:2], plural(len(lost) - 2, "more group")] if len(lost) > 2 else lost)
        return f"first for {first}, whose people all get one label or no right one"
    if answer.breaks.uniform:
        return "their labels have less than half of the dense networks’ diversity"
    return "less than half of what the dense networks gain over the commonest label is left"


def after_retraining(results: Results) -> list[str]:
    """What plain retraining leaves, where retrained networks still work."""
    if "none" not in results.models:
        return []
    answer = answer_of(results, "none")
    accuracy, loss = answer.measures["accuracy"], answer.measures["loss"]
    lost = signed(-100 * accuracy.worst.change, 1, landmarks=PERCENT_LANDMARKS)
    points, nats = f"{lost} points", f"{signed(loss.worst.change)} nats"
    at = f"Retrained with {percent(answer.sparsity)} pruned"
    if not accuracy.worst.hurt and not loss.worst.hurt:
        sentences = [f"{at}, no group is hurt."]
    elif not accuracy.worst.hurt:
        sentences = [f"{at}, no group has lost accuracy; {loss.worst.group} is worst off by loss ({nats})."]
    elif not loss.worst.hurt:
        sentences = [f"{at}, no group’s loss has risen; {accuracy.worst.group} is worst off by accuracy ({points})."]
    elif answer.agree:
        sentences = [f"{at}, {loss.worst.group} is worst off, by accuracy ({points}) and by loss ({nats})."]
    else:
        worst = f"{accuracy.worst.group} by accuracy ({points}) and {loss.worst.group} by loss ({nats})"
        sentences = [f"{at}, the groups that are worst off are {worst}."]
    if accuracy.clear or loss.clear:
        sentences.append(f"Clearly worse than the rest: by accuracy, {_named(accuracy)}; by loss, {_named(loss)}.")
    elif accuracy.worst.hurt or loss.worst.hurt:
        sentences.append("No group is then clearly worse off than the rest.")
    for name, words, scale, unit in (
        ("excessive_loss_spread", "spread ξ of the losses", 1, "nats"),
        ("accuracy_spread", "spread of the accuracies", 100, "points"),
    ):
        spread = results.tested["none", answer.sparsity, answer.split].spreads[name]
        digits, landmarks = (1, PERCENT_LANDMARKS) if scale == 100 else (3, ())
        value, expected = (fixed(scale * v, digits, landmarks=landmarks) for v in (spread.value, spread.expected))
        sentences.append(
            f"The {words} is then {value} {unit}; random groups of these sizes show {expected} ({p_value(spread.p)})."
        )
    return sentences


def what_helps(results: Results) -> list[str]:
    """Whether a constrained model does better than no mitigation, adjusted for all that were compared.

    At the largest sparsity at which networks retrained without mitigation still work.
    """
    fair = [model for model in results.models if model not in ("pruned", "none")]
    if "none" not in results.models or not fair:
        return []
    if (seeds := len(results.seeds)) < MINIMUM_SEEDS:
        return [f"With {plural(seeds, 'seed')}, the constrained models cannot be compared with no mitigation."]
    split, sparsity = answered_split(results.splits), headline_sparsity(results, "none")
    figures = {model: overall_figures(results, model, sparsity, split) for model in ("none", *fair)}
    pairs = [(model, measure) for measure in _NARROWED for model in fair]
    changes = {pair: figures[pair[0]][pair[1]] - figures["none"][pair[1]] for pair in pairs}
    adjusted = dict(zip(pairs, holm([paired_p_value(changes[pair], 1e-7) for pair in pairs]), strict=True))
    sentences, failed = [], []
    for measure, (words, unit, scale) in _NARROWED.items():
        best = min(fair, key=lambda model, measure=measure: float(np.mean(figures[model][measure])))
        p, digits = adjusted[best, measure], 1 if scale == 100 else 3
        change = simultaneous_interval(scale * changes[best, measure], len(pairs))
        if p < LEVEL and change.mean < 0:
            sentences.append(
                f"At that sparsity, “{MODEL_NAMES[best]}” narrows {words} by "
                f"{fixed(-float(change.mean), digits)} {unit} ({p_value(p)}, adjusted for {len(pairs)} comparisons)."
            )
        else:
            failed.append(words)
    if failed:
        sentences.append(f"At that sparsity, no constrained model clearly narrows {listing(failed, 'or')}.")
    sentences.append(
        "The constraint asks for equal losses, not equal accuracies. These tests are over seeds, with the same people."
    )
    return sentences


def caveats(results: Results) -> list[str]:
    """What a careful reader must know of the audit; of the theory, `theory_findings.caveats` tells."""
    notes = [warning[0].upper() + warning[1:] + "." for warning in results.warnings]
    for model, sparsity in results.layers:
        for path in empty_layers(results, model, sparsity):
            notes.append(
                f"{MODEL_NAMES[model]} at {percent(sparsity)}: layer {path} was cut to nothing in some seed; the "
                "network then predicts the same for everyone, so equal group figures mean nothing."
            )
    broken: dict[str, list[str]] = {}
    for (model, sparsity, _), tested in results.tested.items():
        count = int(np.sum(np.asarray(tested.working.works, float) == 0))
        if count:
            some = "" if count == len(results.seeds) else f" ({count} of {len(results.seeds)} seeds)"
            broken.setdefault(model, []).append(f"{percent(sparsity)}{some}")
    if broken:
        named = "; ".join(f"{MODEL_NAMES[model].lower()} at {listing(where)}" for model, where in broken.items())
        notes.append(f"Networks that no longer work, where harm tells which answer they are stuck on: {named}.")
    return notes


def _named(found: MeasureAnswer) -> str:
    """The groups for which harm is clear; of many, the first five."""
    names = [group.group for group in found.clear]
    if not names:
        return "none"
    more = f" and {plural(len(names) - 5, 'more group')}" if len(names) > 5 else ""
    return f"{listing(names[:5])}{more}" if not more else f"{', '.join(names[:5])}{more}"


def _points(share: float) -> str:
    text = fixed(100 * share, 1, landmarks=PERCENT_LANDMARKS)
    return f"{text} point{'' if text == '1.0' else 's'}"
