"""The answer: whom pruning hurts, and where networks stop working."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.numbers import count, listing, p_number, percent, plural
from jaxprune.quantities import QUANTITIES, Cell, amount, few_seeds
from jaxprune.reporting.group_display import ends_drawn
from jaxprune.reporting.page import Content, Figure, Folded, Paragraph, Section, Table
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.pruning_name import unit_name
from jaxprune.reporting.roles import headline
from jaxprune.reporting.sections import caveats
from jaxprune.reporting.sections.mitigation import after_retraining, clear_groups, what_helps
from jaxprune.reporting.style import WIDTH
from jaxprune.results import Results
from jaxprune.results.answer import Answer, GroupHarm, MeasureAnswer, answer_of

_MOST_GROUPS = 24  # in the figure
_CLEAR, _OTHER = "#D55E00", "#6E6E6E"
_PANELS = {"accuracy": ("accuracy lost", "points", 100), "loss": ("loss gained", "nats", 1)}
# Measure -> heading of its table, with the unit, and the quantity.
_TABLES = {
    "accuracy": ("Accuracy lost, points", "accuracy_drop"),
    "loss": ("Loss gained, R(a), nats", "excessive_loss"),
    "flips": ("Decisions changed, right or wrong, % of people", "signed_share"),
}


def section(results: Results) -> Section:
    """Whom pruning hurts, in sentences, a figure and tables."""
    split, sparsity = headline(results)
    over = "over people" if few_seeds(len(results.seeds)) else "over people and seeds"
    caption = (
        f"{results.title(results.pruned)} at {percent(sparsity)}, {split} split: how much more each group is hurt "
        f"than everybody else. Lines are 95 % intervals that hold for all groups and measures at once, {over}; orange "
        f"where p is below 0.05 after adjusting for all of them.{ends_drawn(results, _MOST_GROUPS)}"
    )
    details = (breaks(results), after_retraining(results), what_helps(results))
    few = few_seeds(len(results.seeds))
    return Section(
        "The answer",
        (
            *answer_sentences(results),
            answer_figure(results, "answer", caption),
            *(" ".join(sentences) for sentences in details if sentences),
            Paragraph(few, "soft") if few else None,
            Folded("Every group in numbers", answer_tables(results)),
            caveats.section(results),
        ),
        anchor="answer",
    )


def answer_sentences(results: Results) -> tuple[Content, ...]:
    """Whom pruning hurts, and for whom that is clear."""
    return (Paragraph(" ".join(who_is_hurt(results)), "answer"), Paragraph(" ".join(verdict(results)), "strong"))


def who_is_hurt(results: Results) -> list[str]:
    """Sentences on whom pruning hurts most, by accuracy and by loss."""
    answer = answer_of(results)
    accuracy, loss = (answer.measures[measure].worst for measure in ("accuracy", "loss"))
    what = f"Pruning {percent(answer.sparsity)} of the {unit_name(results)}"
    by_accuracy = f"{_points(accuracy.change)} of accuracy lost"
    by_loss = amount(loss.change, "excessive_loss")
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
        f"The {answer.split} split has {count(accuracy.people)} and {count(loss.people)} people of these groups.",
        "The measures differ because accuracy counts which answers are right and loss how sure the network was: a "
        "group predicted with confidence can gain loss and keep its decisions.",
    ]


def verdict(results: Results) -> list[str]:
    """Which groups are clearly hurt, and what else would have been seen."""
    answer = answer_of(results)
    accuracy, loss, flips = (answer.measures[measure] for measure in ("accuracy", "loss", "flips"))
    groups = len(accuracy.groups)
    if groups < 2:
        return ["There is one group, and nobody to compare it with."]
    if not accuracy.clear and not loss.clear:
        sentences = [f"No group of {groups} is clearly hurt more than the rest, by accuracy or by loss."]
    else:
        named = f"by accuracy, {clear_groups(accuracy)}; by loss, {clear_groups(loss)}"
        sentences = [f"Clearly hurt more than the rest: {named}."]
    if flips.clear:
        sentences.append(f"Decisions change clearly more often than those of the rest for {clear_groups(flips)}.")
    known = [group for group in accuracy.unclear if np.isfinite(group.smallest_visible) and group.smallest_visible > 0]
    if known:
        who = "Any other group" if accuracy.clear else "A group"
        visible = sorted(known, key=lambda group: group.smallest_visible)
        least, most = (_points(group.smallest_visible) for group in (visible[0], visible[-1]))
        lost = least if least == most else f"{least} ({visible[0].group}) to {most} ({visible[-1].group})"
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
    """The sparsity at which pruned networks break, and the first groups."""
    answer = answer_of(results)
    if answer.breaks is None:
        return [f"The pruned networks work at every sparsity up to {percent(results.sparsities[-1])}."]
    seeds, at = len(results.seeds), percent(answer.breaks.sparsity)
    which = "every seed" if answer.breaks.seeds == seeds else f"{answer.breaks.seeds} of {plural(seeds, 'seed')}"
    if answer.breaks.dense:
        return [
            f"The dense networks of {which} do no better than the commonest label, so that nothing can be said of "
            "whether pruned ones work: train longer (train.epochs)."
        ]
    sentences = []
    if not answer.works:
        sentences.append(
            f"Already at {at} the networks of some seed do not work: this answer is about partly broken networks."
        )
    title = results.title(results.pruned)
    sentences.append(f"At {at}, the networks “{title}” of {which} no longer work: {_reason(answer)}.")
    return sentences


def _reason(answer: Answer) -> str:
    assert answer.breaks is not None
    lost = answer.breaks.lost
    if lost:
        first = listing([*lost[:2], plural(len(lost) - 2, "more group")] if len(lost) > 2 else lost)
        return f"first for {first}, whose people all get one label or no right one"
    if answer.breaks.uniform:
        return "their labels have less than half of the dense networks’ diversity"
    return "less than half of what the dense networks gain over the commonest label is left"


def _points(share: float) -> str:
    return amount(share, "accuracy_spread")


def answer_tables(results: Results) -> tuple[Table, ...]:
    """A table of all groups for each measure, hurt most first."""
    measures = answer_of(results).measures
    return tuple(_table(found, *_TABLES[measure]) for measure, found in measures.items() if measure in _TABLES)


def _table(found: MeasureAnswer, heading: str, quantity: str) -> Table:
    number = QUANTITIES[quantity].text

    def row(group: GroupHarm) -> tuple[str | Cell, ...]:
        return (
            Cell(group.group, mark="worse" if group.clear else ""),
            count(group.people),
            number(group.change),
            number(group.excess),
            f"{number(group.low)} to {number(group.high)}",
            p_number(group.p),
            number(group.smallest_visible).removeprefix("+"),
        )

    return Table(
        ("group", "people", "change", "beyond the rest", "interval", "adjusted p", "would be seen"),
        tuple(row(group) for group in found.groups),
        f"{heading}. “Beyond the rest”: minus the mean of everybody else, with its simultaneous interval. “Would be "
        "seen”: the excess that would have been called clear in four of five samples.",
        from_worst=True,
    )


def answer_figure(results: Results, name: str, caption: str, by: str = "") -> Figure:
    """Each group's harm beyond the rest, with simultaneous intervals."""
    alternative = (
        "How much more accuracy and loss each group loses and gains than the rest, with simultaneous intervals"
    )
    return Figure(name, partial(_draw, drawn(results)), caption, alternative + by)


def _draw(results: Results) -> Drawing:
    answer = answer_of(results)
    names = _shown(answer)
    figure = Drawing((WIDTH, 1.5 + 0.34 * len(names)))
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, (measure, (words, unit, scale)) in zip(panels, _PANELS.items(), strict=True):
        groups = {group.group: group for group in answer.measures[measure].groups}
        for row, name in enumerate(names):
            if name in groups:
                _draw_group(axes, row, groups[name], scale)
        axes.axvline(0, color="#444444", lw=0.9)
        axes.set_title(f"{words} beyond the rest")
        axes.set_xlabel(f"{unit} (more hurt →)")
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    people = {group.group: group.people for group in answer.measures["accuracy"].groups}
    panels[0].set_yticks(range(len(names)), [f"{name}  (n = {count(people[name])})" for name in names])
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    marks = [
        Line2D([], [], color=_CLEAR, marker="o", ms=6, lw=1.8, label="clearly hurt more than the rest"),
        Line2D([], [], color=_OTHER, marker="o", mfc="white", ms=6, lw=1.4, label="not clear, or hurt less"),
    ]
    figure.legend(handles=marks, loc="outside upper center", ncols=2)
    return figure


def _shown(answer: Answer) -> list[str]:
    """The groups to draw, most accuracy lost first."""
    accuracy, loss = ([group.group for group in answer.measures[m].groups] for m in ("accuracy", "loss"))
    if len(accuracy) <= _MOST_GROUPS:
        return accuracy
    third = _MOST_GROUPS // 3
    chosen = {*accuracy[:third], *loss[:third], *accuracy[-third:]}
    return [name for name in accuracy if name in chosen]


def _draw_group(axes: Axes, row: int, group: GroupHarm, scale: float) -> None:
    colour = _CLEAR if group.clear else _OTHER
    axes.hlines(row, scale * group.low, scale * group.high, color=colour, lw=1.8 if group.clear else 1.4)
    face = colour if group.clear else "white"
    axes.scatter(scale * group.excess, row, s=40, color=face, edgecolor=colour, lw=1.4, zorder=3)
