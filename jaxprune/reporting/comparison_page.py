"""The report of a comparison: one HTML page that needs no other file and no network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from jaxprune.auditing import Interval
from jaxprune.reporting import comparison_findings as findings
from jaxprune.reporting.cells import cell
from jaxprune.reporting.comparison import BASELINE, MEASURES, Comparison, figures_of
from jaxprune.reporting.numbers import p_value, signed
from jaxprune.reporting.page import image_of, templates, without_none
from jaxprune.reporting.quantities import QUANTITIES, difference_interval

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
        constraints=findings.constraints_hold(comparison),
        constraint_words=findings.constraint_words(comparison) if comparison.inequality else "",
        images={name: image_of(path) for name, path in there.items() if path.exists()},
        alternatives=_ALTERNATIVES,
        chosen_by=MEASURES[comparison.settings["compare"]["choose_by"]][0].partition(",")[0],
        dense=_dense(comparison),
        measures=[words for words, _, _ in MEASURES.values()],
        tables=[_table(comparison, sparsity) for sparsity in reversed(comparison.sparsities)],
        tried=_tried(comparison),
        config=tomli_w.dumps(without_none(comparison.settings)),
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
            corrected = {m: comparison.adjusted(sparsity, split, m) for m in MEASURES} if split == "test" else {}
            row["splits"][split] = [
                _cell(comparison, method, sparsity, split, measure, corrected.get(measure, {})) for measure in MEASURES
            ]
        rows.append(row)
    return {"sparsity": sparsity, "rows": rows}


def _dense(comparison: Comparison) -> dict[str, list[str]]:
    """The figures of the dense networks, by split."""
    found = {}
    for split in ("train", "test"):
        figures = figures_of(comparison.dense[split], comparison.dense[split])
        found[split] = [QUANTITIES[name].text(np.mean(figures[name])) for name in MEASURES]
    return found


def _cell(
    comparison: Comparison, method: str, sparsity: float, split: str, measure: str, corrected: Mapping[str, float]
) -> dict[str, str]:
    """A mean with the half width of its interval, and how it compares with the baseline."""
    _, more, scale = MEASURES[measure]
    digits = 1 if scale == 100 else 3
    values = comparison.figures(comparison.chosen[method, sparsity], split)[measure]
    written = cell(comparison, values, measure)
    verdict, notes = "", [f"seeds: {written.seeds}"] if written.seeds else []
    if method != BASELINE:
        base = comparison.figures(comparison.chosen[BASELINE, sparsity], split)[measure]
        change = Interval(*(scale * float(part) for part in difference_interval(comparison, values, base, measure)))
        p = comparison.difference(method, sparsity, split, measure).p
        if change.low > 0 or change.high < 0:
            verdict = "better" if (change.low > 0) == more else "worse"
        ends = ""
        if np.isfinite(change.low):
            ends = f" ({signed(change.low, digits)} to {signed(change.high, digits)})"
        corrected_p = f", {p_value(corrected[method])} after Holm" if method in corrected else ""
        tested = f", {p_value(p)}{corrected_p}" if np.isfinite(p) else ""
        notes.append(f"against naive: {signed(change.mean, digits)}{ends}{tested}")
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


def _values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())
