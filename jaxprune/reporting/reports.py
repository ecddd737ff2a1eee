"""The pages of `run`, `theory` and `compare`, each a tuple of sections."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxprune.numbers import listing, percent, plural
from jaxprune.reporting.page import Section, render
from jaxprune.reporting.sections.accuracy_against_fairness import accuracy_against_fairness
from jaxprune.reporting.sections.answer import answer, verdict, who_is_hurt
from jaxprune.reporting.sections.bound import bound_tightness
from jaxprune.reporting.sections.boundary_distances import boundary_distances
from jaxprune.reporting.sections.caveats import overflow_warnings
from jaxprune.reporting.sections.constraints_met import constraints_met
from jaxprune.reporting.sections.dense_measures import dense_measures
from jaxprune.reporting.sections.dense_network import dense_network
from jaxprune.reporting.sections.experiment import experiment
from jaxprune.reporting.sections.gradient_cosines import gradient_cosines
from jaxprune.reporting.sections.gradient_curvature import gradient_curvature
from jaxprune.reporting.sections.group_sizes import group_sizes
from jaxprune.reporting.sections.groups import groups
from jaxprune.reporting.sections.layer_attribution import layer_attribution
from jaxprune.reporting.sections.layer_sparsities import layer_sparsities
from jaxprune.reporting.sections.member_gradients import member_gradients
from jaxprune.reporting.sections.method_answer import claims, method_answer
from jaxprune.reporting.sections.method_caveats import method_caveats
from jaxprune.reporting.sections.method_changes import method_changes
from jaxprune.reporting.sections.method_table import method_table
from jaxprune.reporting.sections.mitigation import after_retraining, mitigation
from jaxprune.reporting.sections.multipliers import multipliers
from jaxprune.reporting.sections.output_curvature import output_curvature
from jaxprune.reporting.sections.predictions import predicted_orders, prediction_scores
from jaxprune.reporting.sections.protocol import protocol
from jaxprune.reporting.sections.pruned_networks import pruned_networks
from jaxprune.reporting.sections.reproduce import reproduce
from jaxprune.reporting.sections.spectra import spectra
from jaxprune.reporting.sections.spectral_density import spectral_density
from jaxprune.reporting.sections.statements import statement_cases, statements
from jaxprune.reporting.sections.why import theory_answer, theory_sentences, why
from jaxprune.reporting.short import ShortTable, short_comparison, short_summary
from jaxprune.reporting.shown import shown
from jaxprune.reporting.theory_values import theory_of
from jaxprune.results import Results
from jaxprune.results.comparison import compared

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
    short: Callable[[Results], ShortTable | None] = lambda results: None


# Subsections, shown where further measures of the theory were asked for.
THEORY_DETAILS: tuple[MakeSection, ...] = (
    group_sizes,
    dense_measures,
    gradient_curvature,
    pruned_networks,
    gradient_cosines,
    spectra,
    spectral_density,
    member_gradients,
    boundary_distances,
    output_curvature,
    layer_attribution,
    layer_sparsities,
    statements,
    statement_cases,
    bound_tightness,
    prediction_scores,
    predicted_orders,
)


def theory_details(results: Results) -> Section | None:
    """The theory in detail, a subsection for each measure."""
    if results.theory is None or not results.measures:
        return None
    return Section("The theory in detail", tuple(make(results) for make in THEORY_DETAILS), anchor="laboratory")


def method_details(results: Results) -> Section | None:
    """The methods in detail, where others than the paper's models were run."""
    if not any(network.values for network in results.networks):
        return None
    parts = (method_table(results), constraints_met(results), method_caveats(results))
    return Section("The methods in detail", parts, anchor="methods")


RUN: tuple[MakeSection, ...] = (
    answer,
    experiment,
    groups,
    mitigation,
    method_details,
    why,
    theory_details,
)
THEORY: tuple[MakeSection, ...] = (theory_answer, dense_network, theory_details)
COMPARE: tuple[MakeSection, ...] = (
    method_answer,
    method_changes,
    method_caveats,
    protocol,
    accuracy_against_fairness,
    method_table,
    constraints_met,
    multipliers,
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
    sections = [*sections_of(results, page.sections), reproduce(settings, page.command, environment)]
    title, heading = (text.format(name=settings["name"], group=named.grouping) for text in (page.title, page.heading))
    data = f"{settings['data']['label']} predicted by {settings['model']['name']} on {settings['data']['name']}"
    made = f"Made by jaxprune {environment['jaxprune']}, {environment['time'][:16].replace('T', ' ')}."
    seeds = plural(len(results.seeds), "seed")
    return render(title, heading, f"{data}; {seeds}; {page.about(results)}. {made}", sections, folder, advance)


def sections_of(results: Results, sections: Sequence[MakeSection]) -> list[Section]:
    """The sections of a page that have something to show, with names made printable."""
    results = shown(results)
    return [section for make in sections if (section := make(results)) is not None]


def _pruning(results: Results) -> str:
    pruning = results.settings["prune"]
    return f"{pruning['scope']} {pruning['criterion']} pruning"


def _pruning_and_split(results: Results) -> str:
    split = theory_of(results).split
    return f"gradients and Hessians on the {split} split; {_pruning(results)} without retraining"


def _methods(results: Results) -> str:
    epochs = plural(results.settings["retrain"]["epochs"], "epoch")
    sparsities = listing([percent(sparsity) for sparsity in results.sparsities])
    return f"{len(results.methods)} ways of retraining for {epochs} at {sparsities}"


def _whom(results: Results) -> list[str]:
    return [who_is_hurt(results)[0], *verdict(results)[:2]]


def _verdict(results: Results) -> list[str]:
    return [*verdict(results), *after_retraining(results)[:2]]


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
        answer=theory_sentences,
    ),
    "comparison-report": Page(
        COMPARE,
        "compare",
        "jaxprune: {name}, methods compared",
        "What helps? {name}, by {group}",
        about=_methods,
        answer=lambda results: claims(compared(results)),
        short=short_comparison,
    ),
}


def warnings(results: Results) -> list[str]:
    """Warnings for the terminal: numbers of the theory that are not to be trusted."""
    return overflow_warnings(results)
