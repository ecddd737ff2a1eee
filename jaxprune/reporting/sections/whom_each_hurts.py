"""Whom each of the compared structures hurts."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from jaxprune.numbers import listing, p_value, plural, signed
from jaxprune.quantities import QUANTITIES, Cell, amount, cell
from jaxprune.reporting.group_display import order_of_groups
from jaxprune.reporting.page import Bullets, Folded, Paragraph, Section, Table
from jaxprune.reporting.prunings import (
    answered,
    baseline_of,
    capital,
    has_baseline,
    quoted,
    reported,
    title_of,
    where,
    working,
)
from jaxprune.results import Network, Results
from jaxprune.results.prunings import Stage, axis_of, prunings_of, stages_of
from jaxprune.results.verdicts import Outcome, Verdict
from jaxprune.results.whom import HARMS, harm_of, hurt_most, likeness, overall_harm, shifts

TESTED = (
    "Whether they differ in whom they hurt is a family of its own at each sparsity and stage: the harm of every group "
    "minus that of all people, by accuracy and by loss, against the baseline’s."
)
_QUANTITIES = {"accuracy": "accuracy_drop", "loss": "excessive_loss"}
_SEVERAL = 3  # groups of one sentence
_HURT = 5e-4  # the least harm that is written as one


def section(results: Results) -> Section | None:
    """The groups hurt most, the differences, and every group in numbers."""
    stages = [stage for stage in stages_of(results) if has_baseline(results, stage)]
    if not stages:
        return None
    contents = []
    for stage in stages:
        at = where(results, stage)
        contents += [
            Paragraph(f"{capital(at)}:", "strong"),
            Bullets(tuple(_sentences(results, stage))),
            Folded(f"Every group, {at}", (_table(results, stage),)),
        ]
    return Section(f"Whom each {axis_of(results).one} hurts", tuple(contents), anchor="whom")


def claims(results: Results) -> list[str]:
    """Say at each stage whether any hurts others than the baseline."""
    stages = [stage for stage in stages_of(results) if has_baseline(results, stage)]
    if not stages or len(prunings_of(results)) < 2:
        return []
    answers = [f"{capital(where(results, stage))}: {_differ(results, stage)}" for stage in stages]
    return [f"Do they differ from {baseline_of(results)} in whom they hurt, beyond all people? {' '.join(answers)}"]


def _sentences(results: Results, stage: Stage) -> list[str]:
    """The group hurt most by each pruning, and how alike they are."""
    base, sentences = next(iter(stage.networks)), []
    for name in working(results, stage):
        most = _most(results, _network(results, stage, name))
        alike = "" if name == base else _alike(results, stage, name)
        sentences.append(f"{capital(quoted(results, [name]))} {most} {alike}".rstrip())
    return sentences


def _most(results: Results, network: Network) -> str:
    """The groups hurt most by accuracy and by loss, with their harm."""
    seeds, words = len(results.seeds), {}
    for measure in HARMS:
        most = hurt_most(results, network, measure)
        quantity = _QUANTITIES[measure]
        if most.change < _HURT:
            words[measure] = "nobody"
            continue
        size, everybody = (
            amount(value, quantity).removeprefix("+")
            for value in (most.change, float(np.mean(overall_harm(results, network, measure))))
        )
        sure = "every seed" if most.seeds == seeds else f"{most.seeds} of {seeds} seeds"
        words[measure] = f"{results.group_names[most.group]}, by {size} (all people: {everybody}; most in {sure})"
    return f"hurts most by accuracy: {words['accuracy']}; by loss: {words['loss']}."


def _alike(results: Results, stage: Stage, name: str) -> str:
    base = _network(results, stage, next(iter(stage.networks)))
    numbers = [likeness(results, _network(results, stage, name), base, measure) for measure in HARMS]
    if not np.isfinite(numbers).all():
        return ""
    accuracy, loss = (signed(number, 2) for number in numbers)
    return (
        f"Over the groups, its harms correlate with those of {baseline_of(results)} by {accuracy} (accuracy) and "
        f"{loss} (loss)."
    )


def _differ(results: Results, stage: Stage) -> str:
    """Which prunings clearly hurt other groups than the baseline."""
    others = [name for name in working(results, stage) if name != next(iter(stage.networks))]
    if not others:
        return f"no other {axis_of(results).one} has networks that work."
    verdicts = shifts(results, stage, answered(results, stage))
    clear = {name: {key: v for key, v in verdicts.items() if key[0] == name and v.outcome.value} for name in others}
    same = [name for name in others if not clear[name]]
    parts = [_shift(results, name, mine) for name, mine in clear.items() if mine]
    if same:
        verb = "hurts" if len(same) == 1 else "hurt"
        parts.append(f"{quoted(results, same)} {verb} no group clearly more or less")
    return f"{'; '.join(parts)}."


def _shift(results: Results, name: str, clear: dict[tuple[str, str, int], Verdict]) -> str:
    """The groups that a pruning clearly hurts more or less."""
    parts = []
    for outcome, word in ((Outcome.WORSE, "more"), (Outcome.BETTER, "less")):
        by_group: dict[int, dict[str, Verdict]] = {}
        for (_, measure, group), verdict in clear.items():
            if verdict.outcome is outcome:
                by_group.setdefault(group, {})[measure] = verdict
        order = sorted(by_group, key=lambda group: min(v.adjusted_p for v in by_group[group].values()))
        if order:
            named = [f"{results.group_names[group]} ({_by(by_group[group])})" for group in order[:_SEVERAL]]
            rest = [plural(len(order) - _SEVERAL, "other group")] if len(order) > _SEVERAL else []
            parts.append(f"clearly {word}: {listing([*named, *rest])}")
    return f"{quoted(results, [name])} hurts {', and '.join(parts)}"


def _by(verdicts: Mapping[str, Verdict]) -> str:
    """By how much a group is hurt more, by each clear measure."""
    sizes = []
    for measure, verdict in verdicts.items():
        size = amount(abs(float(verdict.change.mean)), _QUANTITIES[measure]).removeprefix("+")
        sizes.append(f"{size} of {measure}, {p_value(verdict.adjusted_p)}")
    return f"by {'; by '.join(sizes)}"


def _network(results: Results, stage: Stage, name: str) -> Network:
    return results.network(stage.networks[name], answered(results, stage))


def _table(results: Results, stage: Stage) -> Table:
    """Every group's harm by every pruning, marked where it differs."""
    sparsity, able = answered(results, stage), working(results, stage)
    names = list(reported(results, stage, sparsity))
    verdicts = shifts(results, stage, sparsity)
    networks = {name: _network(results, stage, name) for name in names}
    everybody: list[str | Cell] = ["all people"]
    for name in names:
        everybody += [
            cell(results, overall_harm(results, networks[name], measure), _QUANTITIES[measure]) for measure in HARMS
        ]
    rows = [tuple(everybody)]
    for group in order_of_groups(results):
        row: list[str | Cell] = [results.group_names[group]]
        for name in names:
            for measure in HARMS:
                values = harm_of(results, networks[name], measure)[:, group]
                verdict = verdicts.get((name, measure, group)) if name in able else None
                number = cell(results, values, _QUANTITIES[measure])
                row.append(number if verdict is None else _marked(number, verdict, measure))
        rows.append(tuple(row))
    titles = [title_of(results, name) + ("" if name in able else " (broken)") for name in names]
    return Table(
        ("group", *("accuracy lost", "R, nats") * len(names)),
        tuple(rows),
        f"{results.answered_split.capitalize()} split: accuracy lost in points and loss gained (R) of every group, "
        f"means over seeds. Blue: clearly less hurt than by {baseline_of(results)}, both beyond all people; orange: "
        "clearly more. Hold the pointer over a number for its test.",
        above=(("", 1), *((title, len(HARMS)) for title in titles)),
        ruled=frozenset({1}),
    )


def _marked(number: Cell, verdict: Verdict, measure: str) -> Cell:
    form = QUANTITIES[_QUANTITIES[measure]]
    low, mean, high = (form.text(end) for end in (verdict.change.low, verdict.change.mean, verdict.change.high))
    between = f" ({low} to {high})" if np.isfinite(verdict.change.low) else ""
    return replace(number, mark=verdict.outcome.value, note=f"beyond all people: {mean}{between}; {verdict.tested}")
