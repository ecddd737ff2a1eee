"""The report: one HTML page that needs no other file and no network."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import tomli_w

from jaxprune.files import safe_name
from jaxprune.reporting import findings, theory_findings
from jaxprune.reporting.cells import cell
from jaxprune.reporting.laboratory import chapter
from jaxprune.reporting.laboratory_values import Section
from jaxprune.reporting.results import MODEL_NAMES, Results
from jaxprune.reporting.tables import overall_figures
from jaxprune.reporting.theory_tables import theory_tables

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
            why=theory_findings.why(results),
            caveats=findings.caveats(results) + theory_findings.caveats(results),
            images={
                name: image_of(figures / f"{name}.svg") for name in ALTERNATIVES if (figures / f"{name}.svg").exists()
            },
            alternatives=ALTERNATIVES,
            models=_model_table(results, split),
            groups=[_group_table(results, s, split) for s in results.sparsities],
            further=[_further_section(results.by(name), figures) for name in results.further],
            **theory_tables(results),
            chapter=[(section, _figure(figures, section)) for section in chapter(results)],
            config=tomli_w.dumps(without_none(results.settings)),
            environment=environment,
        )
    )


def _further_section(results: Results, figures: Path) -> dict[str, Any]:
    """The figure and the tables of a further grouping."""
    split, _ = findings.headline(results)
    return {
        "name": results.grouping,
        "figure": image_of(figures / f"{safe_name(results.grouping)}-harm.svg"),
        "warnings": results.warnings,
        "tables": [_group_table(results, s, split) for s in results.sparsities],
    }


def render_theory_page(results: Results, figures: Path, environment: Mapping[str, Any]) -> str:
    """The theory's chapter as a page of its own; arguments as for `render_page`."""
    return (
        templates()
        .get_template("theory.html.j2")
        .render(
            name=results.settings["name"],
            settings=results.settings,
            results=results,
            why=theory_findings.why(results),
            caveats=findings.caveats(results) + theory_findings.caveats(results),
            **theory_tables(results),
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
        cells = {name: cell(findings.interval(results, values)) for name, values in figures.items()}
        for name in ("accuracy", "worst_group_accuracy", "accuracy_spread", "max_excess_accuracy_gap"):
            cells[name] = cell(findings.interval(results, 100 * figures[name]), digits=1)
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
            "accuracy": cell(findings.interval(results, 100 * dense.accuracy[:, g]), digits=1),
            "loss": cell(findings.interval(results, dense.loss[:, g])),
            "models": [],
        }
        for model in results.models:
            audit = results.audit(model, sparsity, split)
            row["models"].append(
                {
                    "harm": cell(findings.interval(results, audit.impact.excessive_loss[:, g]), sign=True),
                    "people": cell(findings.interval(results, _NORMAL * audit.sampling.excessive_loss[:, g]))["mean"],
                    "gap": cell(
                        findings.interval(results, 100 * audit.impact.excess_accuracy_gap[:, g]), digits=1, sign=True
                    ),
                }
            )
        rows.append(row)
    return {"sparsity": sparsity, "models": [MODEL_NAMES[m] for m in results.models], "rows": rows}


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values without those that are None, which TOML cannot write."""
    return {k: without_none(v) if isinstance(v, Mapping) else v for k, v in values.items() if v is not None}
