"""Training, choice and tests of the methods, with their descriptions."""

from jaxprune.numbers import plural, points
from jaxprune.reporting.methods import titles_of
from jaxprune.reporting.page import Section, Table
from jaxprune.reporting.pruning_words import pruning_sentences
from jaxprune.reporting.sections.experiment import data
from jaxprune.reporting.training_words import began_from, retraining_epochs, rewound
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
    results = comparison.results
    choice = results.settings["choice"]
    own = "or the criterion of a method that has one"
    measure = choice["measure"]
    kind = "loss" if MEASURES[measure].by_loss else "accuracy"
    return (
        f"For each of {plural(len(results.seeds), 'seed')}, one dense network was trained plainly. "
        f"{began_from(results)}{pruning_sentences(results, own=own)} {rewound(results)}Every method retrained the "
        f"pruned networks for {plural(retraining_epochs(results), 'epoch')}, with the same order of examples. Of the "
        "candidates for the hyperparameters of a method, one was chosen on the validation split alone: of those that "
        f"cost at most {points(choice['max_cost'])} of accuracy against naive, the one that is best by {kind}: "
        f"{MEASURES[measure].title.partition(',')[0]}, the same for all seeds. The test split was not used for any "
        "choice."
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
