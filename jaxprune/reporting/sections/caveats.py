"""Caveats: small groups, broken networks and unreliable numbers."""

import numpy as np

from jaxprune.numbers import listing, percent
from jaxprune.reporting.page import Bullets, Section
from jaxprune.reporting.pruning_words import further_training
from jaxprune.reporting.roles import in_order
from jaxprune.reporting.sections.dense_caveats import dense_learned, of_dense
from jaxprune.reporting.theory_values import not_converged, overflowed, present
from jaxprune.results import Results
from jaxprune.text import name_some


def section(results: Results) -> Section | None:
    """The remarks of the audit and of the theory."""
    notes = audit_caveats(results) + theory_caveats(results)
    return Section("Read with care", (Bullets(tuple(notes)),)) if notes else None


def audit_caveats(results: Results) -> list[str]:
    """Small groups, layers cut to nothing, and networks that no longer work."""
    notes = [warning[0].upper() + warning[1:] + "." for warning in results.warnings]
    notes += [*of_dense(results), *further_training(results)]
    learned = dense_learned(results)
    broken: dict[str, list[str]] = {}
    for network in in_order(results):
        at = percent(network.sparsity)
        for path in network.empty_layers:
            notes.append(
                f"{network.title} at {at}: layer {path} was pruned entirely in some seed; the network then predicts "
                "the same for everyone, so equal group figures mean nothing."
            )
        tests = results.tests(network.name, network.sparsity)
        seeds = 0 if tests is None else int(np.sum((np.asarray(tests.working.works, float) == 0) & learned))
        if seeds:
            some = "" if seeds == len(results.seeds) else f" ({seeds} of {len(results.seeds)} seeds)"
            broken.setdefault(network.title, []).append(f"{at}{some}")
    if broken:
        named = "; ".join(f"{title.lower()} at {listing(where)}" for title, where in broken.items())
        notes.append(
            f"Networks that no longer work; their harm shows only which answer they give to everyone: {named}."
        )
    return notes


def overflow_warnings(results: Results) -> list[str]:
    """Warnings of networks that overflowed, also for the terminal."""
    names = [] if results.theory is None else overflowed(results, results.theory.eigenvalue)
    if not names:
        return []
    return [f"λ is not finite for {name_some(names)}: the network overflowed; lower train.learning_rate"]


def theory_caveats(results: Results) -> list[str]:
    """Caveats of the theory's numbers."""
    theory = results.theory
    if theory is None:
        return []
    notes = []
    if empty := [n for n, there in zip(results.group_names, present(results), strict=True) if not there]:
        notes.append(f"No examples on the {theory.split} split, so no gradients and no curvature: {name_some(empty)}.")
    notes += [warning + "." for warning in overflow_warnings(results)]
    missed = not_converged(results, theory.eigenvalue, theory.converged)
    if missed.any():
        notes.append(
            f"{int(missed.sum())} of {len(results.seeds) * int(present(results).sum())} eigenvalues did not reach "
            "their tolerance and are marked; raise theory.max_iterations."
        )
    if np.any(theory.eigenvalue < 0):
        notes.append("Some largest eigenvalue is negative: the bound then need not grow with the sparsity.")
    share = theory.overall_gradient_norm / np.where(present(results), theory.gradient_norm, -np.inf).max(-1)
    if np.isfinite(share).any():
        notes.append(
            f"The dense networks are not exactly stationary: the gradient of the whole loss is "
            f"{percent(np.median(share[np.isfinite(share)]), 2)} of the largest group gradient (median over seeds). "
            "Proposition 1 of the paper assumes that it is zero."
        )
    return notes
