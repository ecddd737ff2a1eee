"""The theory's numbers as rows: one for each seed, group, sparsity and quantity."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxprune.reporting.results import Results
from jaxprune.reporting.tables import Row
from jaxprune.reporting.theory_findings import theory_of

_DENSE = ("gradient_norm", "eigenvalue", "residual", "converged", "matvecs", "margin", "closeness")
_ALONG = ("first_order", "second_order", "observed", "bound")
_ALONG_MEASURES = ("pruned", "attribution", "sparing")  # whose values are [S, R, G]
_NOT_GROUPS = ("density", "Proposition 3")  # whose second axis is not that of the groups


def theory_rows(results: Results) -> Iterator[Row]:
    """One row for each seed, group, sparsity (0 for the dense network) and quantity.

    The quantities are the fields of `TheoryResults`, and those of the measures with the measure's name before them,
    such as `spectra.largest.value`. What is of pairs of groups, of layers or of examples is in `theory.json` alone.
    """
    theory = theory_of(results)
    for name in _DENSE:
        yield from _rows(results, name, [0.0], np.asarray(getattr(theory, name), float)[None])
    for name in _ALONG:
        yield from _rows(results, name, theory.sparsities, np.asarray(getattr(theory, name), float))
    lengths = np.broadcast_to(theory.distance[..., None], theory.observed.shape)
    yield from _rows(results, "distance", theory.sparsities, lengths)
    for measure, values in (results.laboratory or {}).items():
        for name, array in _arrays(measure, values):
            if measure in _ALONG_MEASURES and array.shape == theory.observed.shape:
                yield from _rows(results, name, theory.sparsities, array)
            elif measure not in _ALONG_MEASURES and array.shape == theory.gradient_norm.shape:
                yield from _rows(results, name, [0.0], array[None])


def _arrays(name: str, values: Any) -> Iterator[tuple[str, np.ndarray]]:
    """What holds numbers, by dotted names."""
    if any(part in name for part in _NOT_GROUPS):
        return
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _arrays(f"{name}.{key}", value)
        return
    try:
        yield name, np.array(values, dtype=float)
    except (TypeError, ValueError):  # names, or lists of unequal lengths
        return


def _rows(results: Results, quantity: str, sparsities: Any, values: np.ndarray) -> Iterator[Row]:
    """From values [S, R, G]; nine digits, and nothing for what is not finite."""
    for s, r, g in np.ndindex(values.shape):
        value = values[s, r, g]
        yield {
            "seed": results.seeds[r],
            "group": results.group_names[g],
            "sparsity": float(sparsities[s]),
            "quantity": quantity,
            "value": f"{value:.9g}" if np.isfinite(value) else "",
        }
