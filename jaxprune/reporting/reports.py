"""The pages of `run`, `theory` and `compare`, each a tuple of sections."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxprune.numbers import listing, percent, plural
from jaxprune.reporting.page import Section, Table, render
from jaxprune.reporting.printable_names import shown
from jaxprune.reporting.pruning_name import part_name, pruning_name
from jaxprune.reporting.prunings import counted
from jaxprune.reporting.sections import (
    accuracy_against_fairness,
    answer,
    bound,
    boundary,
    constraints_met,
    dense_network,
    experiment,
    gradients,
    groups,
    layers,
    method_answer,
    method_caveats,
    method_changes,
    method_table,
    mitigation,
    multipliers,
    paper_figures,
    predictions,
    protocol,
    prunings_answer,
    prunings_caveats,
    prunings_front,
    prunings_protocol,
    prunings_table,
    reestimated,
    removed_channels,
    reproduce,
    spectra,
    statements,
    what_it_buys,
    whom_each_hurts,
    why,
)
from jaxprune.reporting.sections.caveats import overflow_warnings
from jaxprune.reporting.short_tables import short_comparison, short_prunings, short_summary
from jaxprune.reporting.theory_values import theory_of
from jaxprune.reporting.training_words import retraining_epochs
from jaxprune.results import Results
from jaxprune.results.comparison import compared
from jaxprune.results.prunings import prunings_of

MakeSection = Callable[[Results], Section | None]


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
      sections: What it is made of, in order.
      command: The command that makes it.
      title: Of the window.
      heading: Of the page.
      about: What was done, as words of a sentence.
      answer: The answer in sentences, the main one first, for notebooks.
      conclusion: The sentences that end the command in a terminal.
      short: The short table of notebooks and terminals; None for none.
    """

    sections: tuple[MakeSection, ...]
    command: str
    title: str
    heading: str
    about: Callable[[Results], str]
    answer: Callable[[Results], list[str]]
    conclusion: Callable[[Results], list[str]] = lambda results: []
    short: Callable[[Results], Table | None] = lambda results: None


# Subsections, shown where further measures of the theory were asked for.
THEORY_DETAILS: tuple[MakeSection, ...] = (
    paper_figures.sizes,
    paper_figures.measures,
    paper_figures.correlation,
    paper_figures.pruned,
    gradients.cosines,
    spectra.ends,
    spectra.density,
    gradients.members,
    boundary.distances,
    boundary.curvature,
    layers.attribution,
    layers.sparsities,
    statements.counts,
    statements.cases,
    bound.tightness,
    predictions.scores,
    predictions.orders,
)


def theory_details(results: Results) -> Section | None:
    """The theory in detail, a subsection for each measure."""
    if results.theory is None or not results.measures:
        return None
    return Section("The theory in detail", tuple(make(results) for make in THEORY_DETAILS), anchor="details")


def method_details(results: Results) -> Section | None:
    """The methods in detail, where others than the paper's models were run."""
    if not results.baseline or not any(network.values for network in results.networks):
        return None
    parts = (method_table.section(results), constraints_met.section(results), method_caveats.section(results))
    return Section("The methods in detail", parts, anchor="methods")


RUN: tuple[MakeSection, ...] = (
    answer.section,
    experiment.section,
    removed_channels.section,
    groups.section,
    reestimated.section,
    mitigation.section,
    what_it_buys.section,
    method_details,
    why.section,
    theory_details,
)
THEORY: tuple[MakeSection, ...] = (why.theory_answer, dense_network.section, theory_details)
COMPARE: tuple[MakeSection, ...] = (
    method_answer.section,
    method_changes.section,
    method_caveats.section,
    protocol.section,
    removed_channels.section,
    accuracy_against_fairness.section,
    what_it_buys.section,
    method_table.section,
    constraints_met.section,
    multipliers.section,
)
CRITERIA: tuple[MakeSection, ...] = (
    prunings_answer.section,
    prunings_caveats.section,
    prunings_front.section,
    what_it_buys.section,
    prunings_table.section,
    prunings_protocol.section,
    removed_channels.section,
)
STRUCTURES: tuple[MakeSection, ...] = (
    prunings_answer.section,
    prunings_caveats.section,
    whom_each_hurts.section,
    what_it_buys.section,
    prunings_front.section,
    prunings_table.section,
    prunings_protocol.section,
    removed_channels.section,
)


def render_page(
    kind: str,
    results: Results,
    environment: Mapping[str, Any],
    folder: Path | None,
    advance: Callable[[], None] = lambda: None,
) -> str:
    """Draw and render a page.

    Args:
      kind: A name in `PAGES`.
      results: Of the job.
      environment: Versions, devices and the command.
      folder: Where the figures go; None renders the page without figures.
      advance: Called after the figures of each section.

    Returns:
      The page as HTML.
    """
    page, named = PAGES[kind], shown(results)
    settings = named.settings
    sections = [*sections_of(results, page.sections), reproduce.section(settings, page.command, environment)]
    title, heading = (
        text.format(name=settings["name"], group=named.grouping, unit=part_name(named))
        for text in (page.title, page.heading)
    )
    data = f"{settings['data']['label']} predicted by {settings['model']['name']} on {settings['data']['name']}"
    made = f"Made by jaxprune {environment['jaxprune']}, {environment['time'][:16].replace('T', ' ')}."
    seeds = plural(len(results.seeds), "seed")
    return render(title, heading, f"{data}; {seeds}; {page.about(results)}. {made}", sections, folder, advance)


def sections_of(results: Results, sections: Sequence[MakeSection]) -> list[Section]:
    """The sections of a page with printable names; empty ones removed."""
    results = shown(results)
    return [section for make in sections if (section := make(results)) is not None]


def _pruning(results: Results) -> str:
    return pruning_name(results)


def _pruning_and_split(results: Results) -> str:
    split = theory_of(results).split
    return f"gradients and Hessians on the {split} split; {_pruning(results)} without retraining"


def _methods(results: Results) -> str:
    epochs = plural(retraining_epochs(results), "epoch")
    sparsities = listing([percent(sparsity) for sparsity in results.sparsities])
    return f"{len(results.methods)} ways of retraining for {epochs} at {sparsities}"


def _prunings(results: Results) -> str:
    sparsities = listing([percent(sparsity) for sparsity in results.sparsities])
    return f"{counted(results, len(prunings_of(results)))}, {pruning_name(results)} at {sparsities}"


def _whom(results: Results) -> list[str]:
    return [answer.who_is_hurt(results)[0], *answer.verdict(results)[:2]]


def _verdict(results: Results) -> list[str]:
    return [*answer.verdict(results), *mitigation.after_retraining(results)[:2]]


PAGES: Mapping[str, Page] = {
    "report": Page(
        RUN,
        "run",
        "jaxprune: {name}",
        "Whom does pruning hurt? {name}, by {group}",
        about=_pruning,
        answer=_whom,
        conclusion=_verdict,
        short=short_summary,
    ),
    "theory-page": Page(
        THEORY,
        "theory",
        "jaxprune, theory: {name}",
        "Why does pruning hurt these groups? {name}, by {group}",
        about=_pruning_and_split,
        answer=why.theory_sentences,
    ),
    "comparison-report": Page(
        COMPARE,
        "compare",
        "jaxprune: {name}, methods compared",
        "What helps? {name}, by {group}",
        about=_methods,
        answer=lambda results: method_answer.claims(compared(results)),
        short=short_comparison,
    ),
    "criteria-report": Page(
        CRITERIA,
        "compare",
        "jaxprune: {name}, criteria compared",
        "Which {unit} should go? {name}, by {group}",
        about=_prunings,
        answer=prunings_answer.claims,
        conclusion=prunings_answer.claims,
        short=short_prunings,
    ),
    "structures-report": Page(
        STRUCTURES,
        "compare",
        "jaxprune: {name}, structures compared",
        "Does the structure matter? {name}, by {group}",
        about=_prunings,
        answer=prunings_answer.claims,
        conclusion=prunings_answer.claims,
        short=short_prunings,
    ),
}


def warnings(results: Results) -> list[str]:
    """Warnings for the terminal about unreliable numbers of the theory."""
    return overflow_warnings(results)
