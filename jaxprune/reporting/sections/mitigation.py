"""Retraining and constraints compared: the section on what helps."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.auditing import MINIMUM_SEEDS
from jaxprune.auditing.multiplicity import holm, paired_p_value, simultaneous_interval
from jaxprune.numbers import listing, p_value, percent, plural
from jaxprune.quantities import amount, cell, few_seeds
from jaxprune.reporting.charts import draw_bars, keep_in_range, over_seeds, percent_axis
from jaxprune.reporting.page import Figure, Section, Table, rules
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.pruning_name import unit_name
from jaxprune.reporting.roles import colour, figures_of, headline, in_order
from jaxprune.reporting.sections import multipliers
from jaxprune.reporting.style import WIDTH
from jaxprune.results import Results
from jaxprune.results.answer import LEVEL, MeasureAnswer, answer_of, headline_sparsity
from jaxprune.results.figures import figures as figures_at

# What a constrained network may narrow.
_NARROWED = {
    "loss_gap": "the largest gap between a group’s loss and the overall loss",
    "excessive_loss_spread": "the spread ξ of the losses",
    "accuracy_spread": "the spread of the accuracies",
}
_COLUMNS = {
    "accuracy": "accuracy",
    "worst_group_accuracy": "worst group",
    "accuracy_spread": "accuracy spread",
    "loss": "loss",
    "loss_gap": "loss gap",
    "max_excessive_loss": "largest R",
    "excessive_loss_spread": "spread ξ",
    "max_excess_accuracy_gap": "largest ψ",
}
_PANELS = {
    "accuracy": "overall accuracy ↑",
    "accuracy_spread": "accuracy spread ↓",
    "excessive_loss_spread": "spread ξ of R, nats ↓",
}


def section(results: Results) -> Section:
    """All networks beside each other, and the multipliers of the constrained ones."""
    split = headline(results).split
    confidence = percent(results.settings["audit"]["confidence"])
    seeds = "" if len(results.seeds) == 1 else " Small points are seeds."
    if not few_seeds(len(results.seeds)):
        seeds = f" Bars are {confidence} intervals over seeds."
    figure = Figure(
        "mitigation",
        partial(_draw, drawn(results)),
        f"Retrained models on the {split} split.{seeds}",
        "Overall accuracy, accuracy spread and spread ξ of the retrained models at every sparsity",
    )
    return Section("What helps", (figure, _table(results, split), multipliers.section(results)), anchor="mitigation")


def _table(results: Results, split: str) -> Table:
    rows = []
    for network in in_order(results):
        figures = figures_at(results, network, split)
        rows.append(
            (percent(network.sparsity), network.title, *(cell(results, figures[name], name) for name in _COLUMNS))
        )
    return Table(
        ("pruned", "model", *_COLUMNS.values()),
        tuple(rows),
        f"All models on the {split} split; accuracies in percent. Spreads are between the best and the worst group; "
        "the loss gap is the largest |J_a − J|, which the constraint “equal loss” asks to be zero.",
        words=(0, 1),
        ruled=rules(rows),
    )


def _draw(results: Results) -> Drawing | None:
    split = headline(results).split
    networks = results.methods
    if not networks:
        return None
    figure = Drawing((WIDTH, 3.4))
    panels = figure.subplots(1, len(_PANELS))
    positions = np.arange(len(results.sparsities))
    for axes, (measure, words) in zip(panels, _PANELS.items(), strict=True):
        for i, network in enumerate(networks):
            values = np.stack([figures_of(results, network, s, split)[measure] for s in results.sparsities])
            found = over_seeds(results, values, measure, axis=1)
            at = positions + 0.16 * (i - (len(networks) - 1) / 2)
            draw_bars(axes, "y", at, found, colour(results, network), lw=1.4, alpha=0.7)
            axes.plot(
                at, found.mean, "o", color=colour(results, network), ms=5, label=results.title(network), clip_on=False
            )
        keep_in_range(axes, "y", measure)
        axes.set_xticks(positions, [percent(s) for s in results.sparsities])
        axes.set_xlabel(f"share of {unit_name(results)} pruned")
        axes.set_title(words, fontsize=9.5)
    percent_axis(panels[0].yaxis)
    percent_axis(panels[1].yaxis)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(networks))
    return figure


def clear_groups(found: MeasureAnswer) -> str:
    """The groups for which harm is clear; of many, the first five."""
    names = [group.group for group in found.clear]
    if len(names) > 5:
        return f"{', '.join(names[:5])} and {plural(len(names) - 5, 'more group')}"
    return listing(names) or "none"


def after_retraining(results: Results) -> list[str]:
    """Whom plain retraining leaves worst off, where retrained networks still work."""
    network = results.baseline
    if not network or results.tests(network, results.sparsities[0]) is None:
        return []
    answer = answer_of(results, network)
    accuracy, loss = answer.measures["accuracy"], answer.measures["loss"]
    points, nats = amount(-accuracy.worst.change, "accuracy_drop"), amount(loss.worst.change, "excessive_loss")
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
        named = f"by accuracy, {clear_groups(accuracy)}; by loss, {clear_groups(loss)}"
        sentences.append(f"Clearly worse than the rest: {named}.")
    elif accuracy.worst.hurt or loss.worst.hurt:
        sentences.append("No group is then clearly worse off than the rest.")
    tests = results.tests(network, answer.sparsity)
    assert tests is not None
    spreads = tests.spreads
    for name, words in (
        ("excessive_loss_spread", "spread ξ of the losses"),
        ("accuracy_spread", "spread of the accuracies"),
    ):
        value, expected = amount(spreads[name].value, name), amount(spreads[name].expected, name).split()[0]
        sentences.append(
            f"The {words} is then {value}; random groups of these sizes show {expected} ({p_value(spreads[name].p)})."
        )
    return sentences


def what_helps(results: Results) -> list[str]:
    """Sentences on what constrained networks narrow beyond chance.

    At the largest sparsity at which networks retrained without mitigation still work.
    """
    plain, fair = results.baseline, results.rivals
    if not plain or not fair:
        return []
    if (seeds := len(results.seeds)) < MINIMUM_SEEDS:
        return [f"With {plural(seeds, 'seed')}, the constrained models cannot be compared with no mitigation."]
    split, sparsity = results.answered_split, headline_sparsity(results, plain)
    figures = {network: figures_of(results, network, sparsity, split) for network in (plain, *fair)}
    pairs = [(network, measure) for measure in _NARROWED for network in fair]
    changes = {pair: figures[pair[0]][pair[1]] - figures[plain][pair[1]] for pair in pairs}
    adjusted = dict(zip(pairs, holm([paired_p_value(changes[pair], 1e-7) for pair in pairs]), strict=True))
    sentences, failed = [], []
    for measure, words in _NARROWED.items():
        best = min(fair, key=lambda network, measure=measure: float(np.mean(figures[network][measure])))
        p, change = adjusted[best, measure], simultaneous_interval(changes[best, measure], len(pairs))
        if p < LEVEL and change.mean < 0:
            sentences.append(
                f"At that sparsity, “{results.title(best)}” narrows {words} by {amount(-change.mean, measure)} "
                f"({p_value(p)}, adjusted for {len(pairs)} comparisons)."
            )
        else:
            failed.append(words)
    if failed:
        sentences.append(f"At that sparsity, no constrained model clearly narrows {listing(failed, 'or')}.")
    sentences.append(
        "The constraint asks for equal losses, not equal accuracies. These tests are over seeds, with the same people."
    )
    return sentences
