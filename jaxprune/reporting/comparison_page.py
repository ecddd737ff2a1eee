"""The report of a comparison: one HTML page that needs no other file and no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.reporting import comparison_findings as findings
from jaxprune.reporting.cells import cell
from jaxprune.reporting.comparison import BASELINE, BY_LOSS, MEASURES, Comparison, figures_of
from jaxprune.reporting.comparison_constraints import constraint_words, constraints_hold
from jaxprune.reporting.numbers import PERCENT_LANDMARKS, signed
from jaxprune.reporting.page import config_text, image_of, templates
from jaxprune.reporting.quantities import QUANTITIES

_ALTERNATIVES = {
    "changes": "Each method's difference from plain fine-tuning in accuracy, worst group, spread, largest ψ and ξ",
    "pareto": "Accuracy against the largest ψ and against the accuracy spread of every method",
    "generalisation": "Largest violation of each constraint on the training, validation and test split",
    "trajectories": "Multipliers of each group over the retraining, by method",
}


def render_comparison(comparison: Comparison, figures: Path, environment: Mapping[str, Any]) -> str:
    """The report as HTML.

    Args:
      comparison: What was found.
      figures: A folder with the figures as SVG; those that are not there are left out.
      environment: Versions, devices and the command.

    Returns:
      The page.
    """
    there = {name: figures / f"{name}.svg" for name in _ALTERNATIVES}
    return templates().get_template("compare.html.j2").render(
        name=comparison.settings["name"],
        settings=comparison.settings,
        comparison=comparison,
        sparsity=comparison.headline,
        answer=findings.answer(comparison),
        caveats=findings.caveats(comparison),
        constraints=constraints_hold(comparison),
        constraint_words=constraint_words(comparison) if comparison.inequality else "",
        images={name: image_of(path) for name, path in there.items() if path.exists()},
        alternatives=_ALTERNATIVES,
        chosen_by=_with_kind(comparison.settings["compare"]["choose_by"]),
        tests=findings.what_is_tested(comparison),
        dense=_dense(comparison),
        measures=[words for words, _, _ in MEASURES.values()],
        tables=[_table(comparison, sparsity) for sparsity in reversed(comparison.sparsities)],
        tried=_tried(comparison),
        config=config_text(comparison.settings),
        environment=environment,
    )  # fmt: skip


def _table(comparison: Comparison, sparsity: float) -> dict[str, Any]:
    """Every chosen trial at one sparsity, train and test."""
    rows = []
    for method in comparison.methods:
        trial = comparison.chosen.get((method, sparsity))
        if trial is None:
            continue
        row: dict[str, Any] = {"title": comparison.titles[method], "values": _values(trial.values), "splits": {}}
        for split in ("train", "test"):
            row["splits"][split] = [_cell(comparison, method, sparsity, split, measure) for measure in MEASURES]
        rows.append(row)
    return {"sparsity": sparsity, "rows": rows}


def _dense(comparison: Comparison) -> dict[str, list[str]]:
    """The figures of the dense networks, by split."""
    found = {}
    for split in ("train", "test"):
        figures = figures_of(comparison.dense[split], comparison.dense[split])
        found[split] = [QUANTITIES[name].text(np.mean(figures[name])) for name in MEASURES]
    return found


def _cell(comparison: Comparison, method: str, sparsity: float, split: str, measure: str) -> dict[str, str]:
    """A mean with the half width of its interval, and how it compares with the baseline."""
    scale = MEASURES[measure][2]
    digits = 1 if scale == 100 else 3
    values = comparison.figures(comparison.chosen[method, sparsity], split)[measure]
    written = cell(comparison, values, measure)
    verdict, notes = "", [f"seeds: {written.seeds}"] if written.seeds else []
    if method != BASELINE:
        adjusted = comparison.verdicts.get((sparsity, method, measure)) if split == "test" else None
        change = adjusted.change if adjusted else comparison.difference(method, sparsity, split, measure).change
        verdict = adjusted.outcome.value if adjusted else ""
        low, mean, high = (
            signed(float(v), digits, landmarks=PERCENT_LANDMARKS if scale == 100 else ())
            for v in (change.low, change.mean, change.high)
        )
        ends = f" ({low} to {high})" if np.isfinite(change.low) else ""
        tested = adjusted.tested if adjusted else "not tested"
        notes.append(f"against naive: {mean}{ends}; {tested}")
    return {"mean": written.mean, "spread": written.spread, "verdict": verdict, "note": "; ".join(notes)}


def _tried(comparison: Comparison) -> list[dict[str, Any]]:
    """Every candidate at the headline sparsity with its validation figures, the chosen ones marked."""
    rows = []
    for trial in comparison.trials:
        if trial.sparsity != comparison.headline or not trial.values:
            continue
        row = {
            "title": comparison.titles[trial.method],
            "values": _values(trial.values),
            "chosen": comparison.chosen.get((trial.method, trial.sparsity)) is trial,
            "trouble": bool(trial.trouble),
            "cells": [],
        }
        if not trial.trouble:
            figures = comparison.figures(trial, "validation")
            row["cells"] = [QUANTITIES[name].text(np.mean(figures[name])) for name in MEASURES]
        rows.append(row)
    return rows


def _with_kind(measure: str) -> str:
    """A measure and whether it is of losses or of decisions, such as "by accuracy: largest ψ"."""
    return f"by {'loss' if measure in BY_LOSS else 'accuracy'}: {MEASURES[measure][0].partition(',')[0]}"


def _values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())
