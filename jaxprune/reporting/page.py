"""The report: one HTML page that needs no other file and no network."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import tomli_w

from jaxprune.auditing import Interval
from jaxprune.reporting import findings
from jaxprune.reporting.laboratory import chapter
from jaxprune.reporting.laboratory_values import Section
from jaxprune.reporting.results import MODEL_NAMES, Results, TheoryResults
from jaxprune.reporting.tables import overall_figures

_NORMAL = 1.96

# What each figure shows, for readers who cannot see it.
ALTERNATIVES = {
    "harm": "Excessive loss of each group over the share of weights pruned, before and after retraining",
    "accuracy": "Accuracy of each group, dense and at every sparsity, before and after retraining",
    "mitigation": "Overall accuracy, accuracy spread and spread ξ of the retrained models at every sparsity",
    "causes": "Share of examples, gradient norm, top eigenvalue, closeness to the boundary and harm of each group",
    "bound": "Bound of Theorem 1 and second-order value against the observed excessive loss",
    "multipliers": "Multiplier of each group over the constrained trainings",
}


def render_page(results: Results, figures: Path, environment: Mapping[str, Any]) -> str:
    """The report as HTML.

    Args:
      results: What was found.
      figures: A folder with the figures as SVG; those that are not there are left out.
      environment: Versions, devices and the command.

    Returns:
      The page.
    """
    split, sparsity = findings.headline(results)
    return (
        templates()
        .get_template("report.html.j2")
        .render(
            name=results.settings["name"],
            settings=results.settings,
            results=results,
            split=split,
            sparsity=sparsity,
            answer=findings.answer(results),
            why=findings.why(results),
            caveats=findings.caveats(results),
            images={
                name: image_of(figures / f"{name}.svg") for name in ALTERNATIVES if (figures / f"{name}.svg").exists()
            },
            alternatives=ALTERNATIVES,
            models=_model_table(results, split),
            groups=[_group_table(results, s, split) for s in results.sparsities],
            theory=_theory_table(results),
            bounds=_bound_table(results),
            predictors=_predictor_table(results),
            chapter=[(section, _figure(figures, section)) for section in chapter(results)],
            config=tomli_w.dumps(without_none(results.settings)),
            environment=environment,
        )
    )


def render_theory_page(results: Results, figures: Path, environment: Mapping[str, Any]) -> str:
    """The theory's chapter as a page of its own; arguments as for `render_page`."""
    return (
        templates()
        .get_template("theory.html.j2")
        .render(
            name=results.settings["name"],
            settings=results.settings,
            results=results,
            why=findings.why(results),
            caveats=findings.caveats(results),
            chapter=[(section, _figure(figures, section)) for section in chapter(results)],
            config=tomli_w.dumps(without_none(results.settings)),
            environment=environment,
        )
    )


def templates() -> jinja2.Environment:
    """The templates of the pages."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _figure(figures: Path, section: Section) -> str | None:
    path = figures / f"{section.figure}.svg"
    return image_of(path) if section.figure and path.exists() else None


def image_of(path: Path) -> str:
    """An SVG file as the address of an image."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def _model_table(results: Results, split: str) -> list[dict[str, Any]]:
    """Overall figures of every model at every sparsity."""
    rows = []
    keys = [(m, s) for m, s, at in results.metrics if at == split]
    for model, sparsity in sorted(keys, key=lambda k: (k[1], list(MODEL_NAMES).index(k[0]))):
        figures = overall_figures(results, model, sparsity, split)
        cells = {name: _cell(findings.interval(results, values)) for name, values in figures.items()}
        for name in ("accuracy", "worst_group_accuracy", "accuracy_spread", "max_excess_accuracy_gap"):
            cells[name] = _cell(findings.interval(results, 100 * figures[name]), digits=1)
        rows.append({"model": MODEL_NAMES[model], "sparsity": sparsity, "dense": sparsity == 0, **cells})
    return rows


def _group_table(results: Results, sparsity: float, split: str) -> dict[str, Any]:
    """Every group at one sparsity: pruned once, and every retrained model."""
    dense = results.metrics["dense", 0.0, split]
    rows = []
    for g, name in enumerate(results.group_names):
        row: dict[str, Any] = {
            "group": name,
            "size": results.group_sizes[split][g],
            "accuracy": _cell(findings.interval(results, 100 * dense.accuracy[:, g]), digits=1),
            "loss": _cell(findings.interval(results, dense.loss[:, g])),
            "models": [],
        }
        for model in results.models:
            audit = results.audit(model, sparsity, split)
            row["models"].append(
                {
                    "harm": _cell(findings.interval(results, audit.impact.excessive_loss[:, g]), sign=True),
                    "people": f"{_NORMAL * np.nanmean(audit.sampling.excessive_loss[:, g]):.3f}",
                    "gap": _cell(
                        findings.interval(results, 100 * audit.impact.excess_accuracy_gap[:, g]), digits=1, sign=True
                    ),
                }
            )
        rows.append(row)
    return {"sparsity": sparsity, "models": [MODEL_NAMES[m] for m in results.models], "rows": rows}


def _converged(theory: TheoryResults, g: int) -> str:
    if np.isnan(theory.eigenvalue[:, g]).all():
        return "no examples"
    return "yes" if np.all(theory.converged[:, g] == 1) else "NO"


def _theory_table(results: Results) -> list[dict[str, Any]]:
    theory = results.theory
    if theory is None:
        return []
    return [
        {
            "group": name,
            "size": results.group_sizes[theory.split][g],
            "gradient_norm": _cell(findings.interval(results, theory.gradient_norm[:, g])),
            "eigenvalue": _cell(findings.interval(results, theory.eigenvalue[:, g]), digits=2),
            "residual": f"{np.max(theory.residual[:, g]):.1g}",
            "converged": _converged(theory, g),
            "matvecs": f"{np.mean(theory.matvecs[:, g]):.0f}",
            "margin": _cell(findings.interval(results, theory.margin[:, g])),
            "closeness": _cell(findings.interval(results, theory.closeness[:, g])),
        }
        for g, name in enumerate(results.group_names)
    ]


def _bound_table(results: Results) -> list[dict[str, Any]]:
    theory = results.theory
    if theory is None:
        return []
    rows = []
    for i, sparsity in enumerate(theory.sparsities):
        for g, name in enumerate(results.group_names):
            observed, bound = theory.observed[i, :, g], theory.bound[i, :, g]
            rows.append(
                {
                    "sparsity": sparsity,
                    "group": name,
                    "observed": _cell(findings.interval(results, observed), sign=True),
                    "first": f"{theory.first_order[i, :, g].mean():+.4f}",
                    "second": f"{theory.second_order[i, :, g].mean():+.4f}",
                    "bound": f"{bound.mean():.2f}",
                    "ratio": f"{bound.mean() / observed.mean():,.0f}" if observed.mean() > 0 else "–",
                    "holds": f"{int(np.sum(observed <= bound))} of {len(observed)}",
                }
            )
    return rows


def _predictor_table(results: Results) -> dict[str, Any] | None:
    if results.theory is None or len(results.group_names) < 3:
        return None
    rows = [
        {"name": findings.PREDICTORS[name], "cells": [_cell(findings.interval(results, r), 2, sign=True) for r in rho]}
        for name, rho in findings.rank_correlations(results).items()
    ]
    return {"sparsities": list(results.theory.sparsities), "rows": rows}


def _cell(found: Interval, digits: int = 3, sign: bool = False) -> dict[str, str]:
    """A mean and the half width of its interval, as texts."""
    if not np.isfinite(found.mean):
        return {"mean": "–", "half": ""}
    half = "" if np.isnan(found.low) else f"{found.high - found.mean:.{digits}f}"
    return {"mean": f"{found.mean:{'+' if sign else ''}.{digits}f}", "half": half}


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values without those that are None, which TOML cannot write."""
    return {k: without_none(v) if isinstance(v, Mapping) else v for k, v in values.items() if v is not None}
