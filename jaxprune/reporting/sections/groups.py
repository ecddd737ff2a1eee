"""Each group: excessive loss and accuracy at every sparsity, by every grouping."""

from functools import partial

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure as Drawing

from jaxprune.files import safe_name
from jaxprune.numbers import NONE, count, p_number, percent, share_pruned
from jaxprune.quantities import cell, few_seeds, seed_means
from jaxprune.reporting.charts import draw_band, keep_in_range, over_seeds, percent_axis
from jaxprune.reporting.group_charts import sparsity_axis
from jaxprune.reporting.group_display import MOST_LABELS, ends_drawn, group_colours, groups_to_draw, order_of_groups
from jaxprune.reporting.page import Bullets, Figure, Folded, Paragraph, Section, Table
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.pruning_name import unit_name
from jaxprune.reporting.roles import audit_of, before_and_after, dense_metrics, headline
from jaxprune.reporting.sections.answer import answer_figure, answer_sentences, answer_tables
from jaxprune.reporting.style import GREY, WIDTH, label_ends
from jaxprune.results import Results

_HARM = "Excessive loss of each group over the share pruned, before and after retraining"


def section(results: Results) -> Section:
    """Figures and tables of every group, by every grouping."""
    split = headline(results).split
    return Section(
        "Each group",
        (
            Figure("harm", partial(_draw_harm, drawn(results)), _harm_caption(results), _HARM),
            Figure(
                "accuracy",
                partial(_draw_accuracy, drawn(results)),
                f"Accuracy of each group on the {split} split, means over seeds. Diamonds are the dense network; "
                f"circles darken with the share of {unit_name(results)} pruned.{ends_drawn(results)}",
                "Accuracy of each group, dense and at every sparsity, before and after retraining",
            ),
            Paragraph(_note(results), "soft"),
            *_tables(results),
            *(_by_another_grouping(results.by(name)) for name in results.further),
        ),
        anchor="groups",
    )


def _harm_caption(results: Results) -> str:
    few, seeds = few_seeds(len(results.seeds)), len(results.seeds)
    bands = "" if few else f", bands their {percent(results.settings['audit']['confidence'])} intervals"
    lines = f" Lines are means over {seeds} seeds{bands}." if seeds > 1 else ""
    many = len(results.group_names) > MOST_LABELS
    named = " Lines of the groups hurt most and least are coloured and named." if many else ""
    return (
        "Excessive loss R(a): how much the mean loss of a group rises from the dense to the pruned network."
        f"{lines} Zero is the dense network.{named}"
    )


def _note(results: Results) -> str:
    few = few_seeds(len(results.seeds))
    spread = "" if few else f", ± its {percent(results.settings['audit']['confidence'])} interval over seeds"
    return Markup(
        "R is the excessive loss in nats{}; ψ is the accuracy drop in points beyond the overall drop. “p” tests the "
        "harm beyond that of everybody else, two-sided, over {}, adjusted for all groups and measures of a network. "
        "<code>harm.csv</code> beside this report has every test, <code>groups.csv</code> has every figure of every "
        "seed."
    ).format(spread.replace(" %", "\u202f%"), "people" if few else "people and seeds")


def _by_another_grouping(results: Results) -> Section:
    name, file = results.grouping, safe_name(results.grouping)
    sparsity = headline(results).sparsity
    caption = f"The same networks, {share_pruned(sparsity)}, by {name}."
    again = f"Excessive loss R(a) of the same networks, by {name}."
    return Section(
        f"By {name}",
        (
            Bullets(tuple(results.warnings)) if results.warnings else None,
            *answer_sentences(results),
            answer_figure(results, f"{file}-answer", caption, f", by {name}"),
            Folded("Every group in numbers", answer_tables(results)),
            Figure(f"{file}-harm", partial(_draw_harm, drawn(results)), again, f"{_HARM}, by {name}"),
            *_tables(results),
        ),
    )


def _tables(results: Results) -> list[Folded]:
    """Every group at each sparsity; the answered one is open."""
    split, at = headline(results)
    return [Folded(share_pruned(s), (_table(results, s, split),), open=s == at) for s in results.sparsities]


def _table(results: Results, sparsity: float, split: str) -> Table:
    """Every group at one sparsity, for every network."""
    dense, rows = dense_metrics(results, split), []
    for g in order_of_groups(results):
        row = [
            results.group_names[g],
            count(results.group_sizes[split][g]),
            cell(results, dense.accuracy[:, g], "accuracy"),
            cell(results, dense.loss[:, g], "loss"),
        ]
        for network in results.models:
            impact = audit_of(results, network, sparsity, split).impact
            row.append(cell(results, impact.excessive_loss[:, g], "excessive_loss"))
            if network == results.pruned:
                gap = cell(results, impact.excess_accuracy_gap[:, g], "excess_accuracy_gap")
                row += [_adjusted(results, network, sparsity, split, "loss", g), gap]
                row.append(_adjusted(results, network, sparsity, split, "accuracy", g))
        rows.append(tuple(row))
    columns = [("R", "p of R", "ψ", "p of ψ") if network == results.pruned else ("R",) for network in results.models]
    above = [(results.title(network), len(names)) for network, names in zip(results.models, columns, strict=True)]
    return Table(
        ("group", "n", "accuracy %", "loss", *(name for names in columns for name in names)),
        tuple(rows),
        above=(("", 1), ("", 1), ("Dense", 2), *above),
        from_worst=True,
    )


def _adjusted(results: Results, network: str, sparsity: float, split: str, measure: str, group: int) -> str:
    tests = results.tests(network, sparsity, split)
    return NONE if tests is None else p_number(float(tests.harm[measure].p[group]))


def _draw_harm(results: Results) -> Drawing:
    split = headline(results).split
    networks = before_and_after(results)
    figure = Drawing((WIDTH, 3.7))
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    colours = group_colours(results)
    ends = []
    for axes, network in zip(panels, networks, strict=True):
        x = range(len(results.sparsities) + 1)  # evenly spaced: what happens is at the high end
        values = np.stack(
            [np.zeros((len(results.seeds), len(results.group_names)))]
            + [audit_of(results, network, s, split).impact.excessive_loss for s in results.sparsities]
        )
        found = over_seeds(results, values, "excessive_loss", axis=1)
        for g in sorted(range(len(colours)), key=lambda g: colours[g] != GREY):
            if colours[g] != GREY:
                draw_band(axes, x, found.at(g), colours[g])
            axes.plot(x, found.mean[:, g], color=colours[g], marker="o", ms=3.5, lw=1.8 if colours[g] != GREY else 1.1)
        axes.axhline(0, color="#666666", lw=0.8)
        axes.set_title(results.title(network) if network == results.pruned else "retrained (a scale of its own)")
        sparsity_axis(axes, results.sparsities, unit_name(results), dense=True)
        ends.append(found.mean[-1])
    panels[0].set_ylabel(f"excessive loss R(a), {split} split (nats)")
    every = len(colours) <= MOST_LABELS
    labels = [n if every or c != GREY else "" for n, c in zip(results.group_names, colours, strict=True)]
    for axes, heights in zip(panels, ends, strict=True):
        label_ends(axes, len(results.sparsities), heights, labels, colours)
    return figure


def _draw_accuracy(results: Results) -> Drawing:
    split = headline(results).split
    networks, groups = before_and_after(results), groups_to_draw(results)
    figure = Drawing((WIDTH, 1.3 + 0.36 * len(groups)))
    panels = figure.subplots(1, len(networks), sharey=True, sharex=True, squeeze=False)[0]
    shades = mpl.colormaps["YlOrRd"](np.linspace(0.3, 1, len(results.sparsities)))
    dense = seed_means(dense_metrics(results, split).accuracy)[groups]
    rows = np.arange(len(groups))
    look = {"s": 34, "zorder": 3, "clip_on": False, "edgecolor": "#555555", "lw": 0.4}
    for axes, network in zip(panels, networks, strict=True):
        means = [seed_means(audit_of(results, network, s, split).metrics.accuracy)[groups] for s in results.sparsities]
        axes.hlines(rows, np.minimum(dense, np.min(means, 0)), np.maximum(dense, np.max(means, 0)), color=GREY, lw=1)
        for mean, s, shade in zip(means, results.sparsities, shades, strict=True):
            axes.scatter(mean, rows, color=shade, label=share_pruned(s), **look)
        axes.scatter(dense, rows, color="#0072B2", marker="D", s=34, zorder=4, label="dense", clip_on=False)
        axes.set_title(results.title(network) if network == results.pruned else "retrained, no mitigation")
        axes.set_xlabel(f"accuracy, {split} split")
        percent_axis(axes.xaxis)
    keep_in_range(panels[0], "x", "accuracy")
    names, sizes = results.group_names, results.group_sizes[split]
    panels[0].set_yticks(rows, [f"{names[g]}\n(n = {count(sizes[g])})" for g in groups])
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[-1:] + handles[:-1], labels[-1:] + labels[:-1], loc="outside upper center", ncols=7)
    return figure
