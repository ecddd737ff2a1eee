"""The report: one HTML page that needs no other file and no network."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import tomli_w

from jaxprune.files import safe_name
from jaxprune.reporting import findings, theory_findings
from jaxprune.reporting.answer_section import answer_tables, answer_text
from jaxprune.reporting.cells import cell, means_caption
from jaxprune.reporting.laboratory import chapter
from jaxprune.reporting.laboratory_values import Section
from jaxprune.reporting.many import MOST_ANSWERED, MOST_GROUPS, MOST_LABELS, beyond_ends, order_of_groups
from jaxprune.reporting.numbers import NONE, listing, p_value, percent, plural, points
from jaxprune.reporting.quantities import few_seeds
from jaxprune.reporting.results import MODEL_NAMES, Results
from jaxprune.reporting.tables import overall_figures
from jaxprune.reporting.theory_tables import theory_tables
from jaxprune.text import printable

# What each figure shows, for readers who cannot see it.
ALTERNATIVES = {
    "answer": "How much more accuracy and loss each group loses and gains than the rest, with simultaneous intervals",
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
            answer=answer_text(results),
            answers=answer_tables(results),
            why=theory_findings.why(results),
            caveats=findings.caveats(results) + theory_findings.caveats(results),
            images={
                name: image_of(figures / f"{name}.svg") for name in ALTERNATIVES if (figures / f"{name}.svg").exists()
            },
            alternatives=ALTERNATIVES,
            models=_model_table(results, split),
            sizes=_size_rows(results),
            groups=[_group_table(results, s, split) for s in results.sparsities],
            further=[_further_section(results.by(name), figures) for name in results.further],
            **theory_tables(results),
            chapter=[(section, _figure(figures, section)) for section in chapter(results)],
            config=config_text(results.settings),
            environment=environment,
        )
    )


def _further_section(results: Results, figures: Path) -> dict[str, Any]:
    """The figure and the tables of a further grouping."""
    split, sparsity = findings.headline(results)
    return {
        "sparsity": sparsity,
        "name": results.grouping,
        "answer": answer_text(results),
        "answers": answer_tables(results),
        "answer_figure": image_of(figures / f"{safe_name(results.grouping)}-answer.svg"),
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
            config=config_text(results.settings),
            environment=environment,
        )
    )


def templates() -> jinja2.Environment:
    """The templates of the pages, with the formats of `numbers` as filters."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_finish
    )
    environment.filters |= {"percent": percent, "points": points, "plural": plural, "listing": listing}
    environment.globals |= {
        "few_seeds": few_seeds,
        "means_caption": means_caption,
        "most_groups": MOST_GROUPS,
        "most_answered": MOST_ANSWERED,
        "most_labels": MOST_LABELS,
    }
    return environment


def _finish(value: Any) -> Any:
    """Make text printable, with the percent sign behind a narrow space; text that was escaped is left alone."""
    return re.sub(r"(?<=\d) %", "\u202f%", printable(value, keep="\n")) if type(value) is str else value


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
        cells = {name: cell(results, values, name) for name, values in figures.items()}
        rows.append({"model": MODEL_NAMES[model], "sparsity": sparsity, "dense": sparsity == 0, **cells})
    return rows


def _size_rows(results: Results) -> list[dict[str, Any]]:
    """The examples of every group in each split."""
    order = order_of_groups(results)
    return [
        {
            "group": results.group_names[g],
            "more": beyond_ends(place, len(order)),
            "sizes": [f"{sizes[g]:,}" for sizes in results.group_sizes.values()],
        }
        for place, g in enumerate(order)
    ]


def _group_table(results: Results, sparsity: float, split: str) -> dict[str, Any]:
    """Every group at one sparsity: pruned once, and every retrained model."""
    dense = results.metrics["dense", 0.0, split]
    rows, order = [], order_of_groups(results)
    for place, g in enumerate(order):
        row: dict[str, Any] = {
            "group": results.group_names[g],
            "more": beyond_ends(place, len(order)),
            "size": results.group_sizes[split][g],
            "accuracy": cell(results, dense.accuracy[:, g], "accuracy"),
            "loss": cell(results, dense.loss[:, g], "loss"),
            "models": [],
        }
        for model in results.models:
            audit = results.audit(model, sparsity, split)
            row["models"].append(
                {
                    "harm": cell(results, audit.impact.excessive_loss[:, g], "excessive_loss"),
                    "p": _adjusted(results, model, sparsity, split, g),
                    "gap": cell(results, audit.impact.excess_accuracy_gap[:, g], "excess_accuracy_gap"),
                }
            )
        rows.append(row)
    return {"sparsity": sparsity, "models": [MODEL_NAMES[m] for m in results.models], "rows": rows}


def _adjusted(results: Results, model: str, sparsity: float, split: str, group: int) -> dict[str, str]:
    """The adjusted p of a group by loss and by accuracy, as texts."""
    tested = results.tested.get((model, sparsity, split))
    if tested is None:
        return {"loss": NONE, "accuracy": NONE}
    return {
        measure: p_value(float(tested.harm[measure].p[group])).removeprefix("p ").removeprefix("= ")
        for measure in ("loss", "accuracy")
    }


def config_text(settings: Mapping[str, Any]) -> str:
    """The settings as TOML, with invisible characters as the escapes that TOML knows."""
    text = tomli_w.dumps(without_none(settings))
    return "".join(c if c == "\n" or c.isprintable() else f"\\U{ord(c):08x}" for c in text)


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values without those that are None, which TOML cannot write."""
    return {k: without_none(v) if isinstance(v, Mapping) else v for k, v in values.items() if v is not None}
