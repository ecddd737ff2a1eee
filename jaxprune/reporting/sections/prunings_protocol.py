"""How criteria or structures were compared, and the data."""

from jaxprune.numbers import count, listing, plural
from jaxprune.reporting.page import Section, Table
from jaxprune.reporting.pruning_name import entry_unit
from jaxprune.reporting.pruning_words import pruning_sentences
from jaxprune.reporting.prunings import baseline_of, capital, title_of
from jaxprune.reporting.sections.experiment import data, reached
from jaxprune.reporting.training_words import began_from, retraining_epochs, rewound
from jaxprune.results import Results
from jaxprune.results.prunings import CRITERIA_AXIS, REESTIMATED, axis_of, knows_groups, prunings_of, stages_of


def section(results: Results) -> Section:
    """The networks, the scoring, the measures, what is compared, and the data."""
    return Section(
        "Protocol",
        (
            _networks(results),
            _scored(results) if axis_of(results) == CRITERIA_AXIS else None,
            reached(results),
            "ψ is the drop of a group’s accuracy from the dense network beyond the overall drop, in points: it counts "
            "decisions. R is the change of a group’s loss, in nats, and ξ is its spread over the groups.",
            "Intervals for all comparisons at once are Bonferroni’s, slightly wider than Holm’s test requires.",
            _criteria(results) if axis_of(results) == CRITERIA_AXIS else _structures(results),
            *data(results),
        ),
        anchor="protocol",
    )


def _criteria(results: Results) -> Table:
    return Table(
        headings=("criterion", "what it scores", "knows the groups"),
        rows=tuple(
            (title_of(results, name), _about(results, name), "yes" if knows_groups(name) else "no")
            for name in prunings_of(results)
        ),
        words=(0, 1, 2),
    )


def _structures(results: Results) -> Table:
    return Table(
        headings=("structure", "what is pruned together; shares of the layers", "the share pruned is of"),
        rows=tuple((title_of(results, name), _about(results, name), entry_unit(name)) for name in prunings_of(results)),
        words=(0, 1, 2),
    )


def _about(results: Results, pruning: str) -> str:
    """The line that describes a criterion or a structure."""
    return next((network.about for network in results.networks if network.name == pruning), "")


def _networks(results: Results) -> str:
    stages = stages_of(results)
    retrained = [stage.words for stage in stages if stage.retrained]
    measured = ["as it is"] if any(not stage.retrained for stage in stages) else []
    if any(stage.name == REESTIMATED for stage in stages):
        measured.append("with the statistics of its BatchNorm layers re-estimated on the training split")
    if retrained:
        epochs = plural(retraining_epochs(results), "epoch")
        measured.append(f"{listing(retrained)} for {epochs} with its masks fixed and the same order of examples")
    base = capital(baseline_of(results))
    return (
        f"For each of {plural(len(results.seeds), 'seed')}, one dense network was trained, the same for every "
        f"{axis_of(results).one}. {began_from(results)}{pruning_sentences(results)} {rewound(results)}Each pruned "
        f"network was measured {listing(measured)}. {base} is the baseline because the settings name it first."
    )


def _scored(results: Results) -> str:
    examples = results.settings["prune"]["examples"]
    return (
        f"Criteria that look at data score weights on at most {count(examples)} examples of each group of the training "
        "split, the same ones for every criterion. The criteria see neither the validation nor the test split, and "
        "nothing was chosen on them."
    )
