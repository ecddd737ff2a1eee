"""Training, choice and tests of the methods, with their descriptions."""

from jaxprune.numbers import plural, points
from jaxprune.reporting.methods import titles_of
from jaxprune.reporting.page import Section, Table
from jaxprune.reporting.sections.experiment import data
from jaxprune.results import Results
from jaxprune.results.comparison import MEASURES, Comparison, compared


def section(results: Results) -> Section:
    """The training, the choice, the measures, and the methods."""
    comparison = compared(results)
    return Section(
        "Protocol",
        (
            _trained_and_chosen(comparison),
            _held_out(comparison),
            "ψ is the drop of a group’s accuracy from the dense network beyond the overall drop, in points: it counts "
            "decisions. R is the change of a group’s loss, in nats, and ξ is its spread over the groups. A network may "
            "narrow the one and widen the other.",
            "Intervals for all comparisons at once are Bonferroni’s, slightly wider than Holm’s test requires.",
            Table(
                headings=("method", "what it does"),
                rows=tuple(
                    (comparison.results.title(method), comparison.about(method)) for method in comparison.methods
                ),
                words=(0, 1),
            ),
            *data(results),
        ),
        anchor="protocol",
    )


def _trained_and_chosen(comparison: Comparison) -> str:
    choice = comparison.results.settings["choice"]
    measure = choice["measure"]
    kind = "loss" if MEASURES[measure].by_loss else "accuracy"
    return (
        f"For each of {plural(len(comparison.results.seeds), 'seed')}, one dense network was trained plainly, pruned "
        "(by its own criterion where a method has one), and retrained by every method, with the same order of examples "
        "and the same number of epochs. Of the candidates for the hyperparameters of a method, one was chosen on the "
        f"validation split alone: of those that cost at most {points(choice['max_cost'])} of accuracy against naive, "
        f"the one that is best by {kind}: {MEASURES[measure].title.partition(',')[0]}, the same for all seeds. The "
        "test split was not used for any choice."
    )


def _held_out(comparison: Comparison) -> str | None:
    """Which methods use half of the validation split."""
    if not comparison.held_out:
        return None
    return (
        f"The multipliers of {titles_of(comparison, comparison.held_out)} are moved by people of the validation split. "
        "The split is therefore cut in two halves, alike in groups and labels: one moves them, and the other chooses, "
        "for all methods. “Validation” below is the half that chooses."
    )
