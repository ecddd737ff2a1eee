"""The chapter of the report on the theory in detail: what was measured, in sentences and tables."""

from collections.abc import Callable

from jaxprune.reporting.laboratory_values import Section
from jaxprune.reporting.laboratory_verdicts import cases, statements, tightness
from jaxprune.reporting.layer_sections import attribution, sparing
from jaxprune.reporting.network_sections import cosines, density, distances, examples, outputs, spectra
from jaxprune.reporting.paper_sections import causes, correlation, pruned, sizes
from jaxprune.reporting.prediction_sections import orders, scores
from jaxprune.reporting.results import Results

# Measure -> its section.
_OF_MEASURES: dict[str, Callable[[Results], Section]] = {
    "pruned": pruned,
    "cosines": cosines,
    "spectra": spectra,
    "density": density,
    "examples": examples,
    "distances": distances,
    "outputs": outputs,
    "attribution": attribution,
    "sparing": sparing,
}


def chapter(results: Results) -> list[Section]:
    """The sections for what was measured; none where no further measure was asked for."""
    if results.theory is None or not results.laboratory:
        return []
    measured = [_OF_MEASURES[name](results) for name in results.laboratory if name in _OF_MEASURES]
    found = [sizes(results), causes(results), correlation(results), *measured]
    return [*found, statements(results), cases(results), tightness(results), scores(results), orders(results)]
