"""Caveats of a comparison of criteria or structures."""

from collections.abc import Iterator

from jaxprune.numbers import listing, percent, plural
from jaxprune.reporting.page import Bullets, Section
from jaxprune.reporting.pruning_words import further_training
from jaxprune.reporting.prunings import quoted, reported, where, working
from jaxprune.reporting.sections.dense_caveats import dense_learned, of_dense
from jaxprune.reporting.sections.method_caveats import of_groups, of_training
from jaxprune.results import Results
from jaxprune.results.comparison import compared
from jaxprune.results.prunings import prunings_of, stages_of


def section(results: Results) -> Section | None:
    """Troubled trainings, broken networks, empty layers, small groups."""
    comparison = compared(results)
    further = (*of_dense(results), *further_training(results))
    notes = (*of_training(comparison), *further, *_broken(results), *_emptied(results), *of_groups(comparison))
    return Section("Read with care", (Bullets(notes),)) if notes else None


def _broken(results: Results) -> Iterator[str]:
    """Prunings whose networks no longer work, at each stage."""
    if not dense_learned(results).any():
        return
    for stage in stages_of(results):
        sparsity = stage.comparison(results).headline
        tried, able = reported(results, stage, sparsity), working(results, stage, sparsity)
        if broken := [pruning for pruning in tried if pruning not in able]:
            yield (
                f"Networks that no longer work in some seed ({where(results, stage, sparsity)}): "
                f"{quoted(results, broken)}. In such seeds the figures show mostly which labels are left, so a small ψ "
                "or ξ means nothing."
            )


def _emptied(results: Results) -> Iterator[str]:
    """Prunings that cut a layer entirely."""
    for pruning in prunings_of(results):
        emptied = {
            network.sparsity: network.empty_layers
            for network in results.networks
            if network.name == pruning and network.empty_layers
        }
        if emptied:
            layers = sorted({path for paths in emptied.values() for path in paths})
            more = f" and {plural(len(layers) - 3, 'more layer')}" if len(layers) > 3 else ""
            yield (
                f"{quoted(results, [pruning])} prunes {', '.join(layers[:3])}{more} entirely in some seed, at "
                f"{listing([percent(sparsity) for sparsity in emptied])}."
            )
