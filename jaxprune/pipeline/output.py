"""The outputs of a run: results, tables, figures and pages."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxprune import __version__, config
from jaxprune.data import SPLITS, Grouping
from jaxprune.files import safe_name, write_atomically
from jaxprune.models.conv import native
from jaxprune.pipeline.context import Context
from jaxprune.pipeline.publishing import place_of, publish
from jaxprune.pipeline.stage import Stage
from jaxprune.progress import Progress
from jaxprune.published import REPORT, THEORY
from jaxprune.reporting.answer import answer_of
from jaxprune.reporting.answer_section import harm_rows
from jaxprune.reporting.figures import FIGURES, draw
from jaxprune.reporting.fonts import missing_letters
from jaxprune.reporting.laboratory_figures import draw_theory
from jaxprune.reporting.page import render_page, render_theory_page
from jaxprune.reporting.results import Audited, Results, TheoryResults, audits_of
from jaxprune.reporting.shown import drawn, shown
from jaxprune.reporting.style import save_figure
from jaxprune.reporting.tables import groups_rows, summary_rows, write_csv
from jaxprune.reporting.theory_rows import theory_rows

THEORY_FIGURES = "theory-figures"
_LETTERS_NAMED = 10  # of those that no font has


def gather(
    context: Context, audit: dict[str, Any], theory: dict[str, Any], laboratory: dict[str, Any] | None = None
) -> Results:
    """The results of a run from the values of its measuring stages."""
    dataset = context.experiment.dataset
    metrics, sampling, tested = audits_of(audit["audits"])
    further = {grouping.name: grouping for grouping in context.experiment.further}
    return Results(
        settings=context.experiment.settings.model_dump(mode="json"),
        provenance=dataset.provenance,
        label_names=list(dataset.label_names),
        group_names=list(dataset.group_names),
        seeds=context.experiment.seeds,
        group_sizes=_sizes(dataset.primary),
        majority={
            split: float(np.mean(dataset.split(split).y == np.bincount(dataset.train.y).argmax())) for split in SPLITS
        },
        warnings=dataset.warnings(),
        metrics=metrics,
        sampling=sampling,
        tested=tested,
        layers={(entry["model"], entry["sparsity"]): entry["layers"] for entry in audit["layers"]},
        multipliers={(e["model"], e["sparsity"]): np.array(e["trajectory"]) for e in audit["multipliers"]},
        theory=_theory(theory, dataset.group_sizes(theory["split"])),
        laboratory=laboratory,
        further={name: _audited(further[name], rows) for name, rows in audit["further"].items()},
    )


def _audited(grouping: Grouping, rows: list[dict[str, Any]]) -> Audited:
    """What the audit found in a further grouping."""
    metrics, sampling, tested = audits_of(rows)
    return Audited(
        group_names=list(grouping.group_names),
        group_sizes=_sizes(grouping),
        metrics=metrics,
        sampling=sampling,
        tested=tested,
        warnings=grouping.warnings(),
    )


def _sizes(grouping: Grouping) -> dict[str, list[int]]:
    return {split: grouping.sizes(split).tolist() for split in SPLITS}


def _theory(values: dict[str, Any], sizes: np.ndarray) -> TheoryResults:
    """The theory's values as arrays; a group without examples has no gradient, so no norm of one either."""
    found = {name: np.array(value) for name, value in values.items() if name != "split"}
    norms = np.where(sizes > 0, found["gradient_norm"].astype(float), np.nan)
    return TheoryResults(values["split"], **found | {"gradient_norm": norms})


def render(context: Context, stage: Stage, results: Results, command: str) -> None:
    """Writes every output of a run into the folder of the report's stage."""
    settings, page, figures = context.experiment.settings, shown(results), drawn(results)
    _warn_of_letters(context, figures)
    context.progress.start("writing the report", len(FIGURES) + 1)
    with context.workspace.writing(stage) as folder:
        environment = environment_of(command)
        write_atomically(folder / "results.json", json.dumps(_with_answers(results), allow_nan=False))
        write_atomically(folder / "config.toml", config.to_toml(settings))
        write_atomically(folder / "environment.json", json.dumps(environment, indent=2))
        write_csv(folder / "groups.csv", groups_rows(results))
        write_csv(folder / "summary.csv", summary_rows(results))
        write_csv(folder / "harm.csv", harm_rows(results))
        (folder / "figures").mkdir(exist_ok=True)
        for name in FIGURES:
            draw(name, figures, folder / "figures")
            context.progress.advance()
        for name in figures.further:
            view = figures.by(name)
            for figure in ("answer", "harm"):
                save_figure(
                    f"{safe_name(name)}-{figure}",
                    lambda view=view, figure=figure: FIGURES[figure](view),
                    folder / "figures",
                )
        draw_theory(figures, folder / "figures")
        write_atomically(folder / "report.html", render_page(page, folder / "figures", environment))
        context.progress.advance()
    context.progress.finish()


def _warn_of_letters(context: Context, results: Results) -> None:
    """Say once that no installed font has the letters of some names."""
    names = [*results.group_names, *(name for one in results.further.values() for name in one.group_names)]
    warn_of_letters(context.progress, names)


def warn_of_letters(progress: Progress, names: Sequence[str]) -> None:
    """Say so where no installed font has the letters of names that are drawn."""
    if missing := missing_letters(names):
        more = "..." if len(missing) > _LETTERS_NAMED else ""
        progress.say(
            f"warning: no font here has the letters {missing[:_LETTERS_NAMED]}{more} of the names: PNG figures show "
            "boxes for them (install one, such as Noto Sans CJK); the page, SVG figures and tables have the names"
        )


def _with_answers(results: Results) -> dict[str, Any]:
    """The results as plain values, with the answer in each grouping beside them."""
    answers = {name: answer_of(results.by(name)).to_json() for name in results.groupings}
    return results.to_json() | {"answer": answers[results.grouping], "answers": answers}


def render_theory(context: Context, stage: Stage, results: Results, command: str) -> dict[str, Path]:
    """Write the page of the theory alone into the folder of its stage, and from there to its place for readers.

    Returns:
      The folder of the stage, and the page.
    """
    workspace, page = context.workspace, shown(results)
    _warn_of_letters(context, drawn(results))
    with workspace.writing(stage) as folder:
        figures = folder / "figures"
        figures.mkdir(exist_ok=True)
        draw_theory(drawn(results), figures)
        write_atomically(folder / "theory.json", json.dumps(results.to_json(), allow_nan=False))
        write_atomically(folder / "config.toml", config.to_toml(context.experiment.settings))
        write_csv(folder / "theory.csv", theory_rows(results))
        write_atomically(folder / "theory.html", render_theory_page(page, figures, environment_of(command)))
    source = workspace.read(stage)
    place = place_of(workspace.root, results.grouping)
    publish(context, stage, place, THEORY, _theory_name)
    if not (place / REPORT).exists():  # of a report; else the folder can be given in place of a config
        write_atomically(place / "config.toml", (source / "config.toml").read_bytes())
    return {"theory": workspace.folder(stage), "report": place / "theory.html"}


def _theory_name(file: str) -> str | None:
    """The name of a file of the theory's page at the top, where a report has a config and figures of its own."""
    if file == "config.toml":
        return None
    return file.replace("figures/", f"{THEORY_FIGURES}/", 1) if file.startswith("figures/") else file


def read_results(folder: Path) -> Results:
    """The results that a report's folder holds."""
    return Results.from_json(json.loads((folder / "results.json").read_text()))


def environment_of(command: str) -> dict[str, Any]:
    """Versions, devices and the command, for the record."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "matplotlib")
    return {
        "command": command,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "jaxprune": __version__,
        "git_commit": _git_commit(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "devices": [str(device) for device in jax.devices()],
        "native_convolutions": native.in_use(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


def _git_commit() -> str | None:
    """The commit of the checkout that jaxprune runs from, with a mark for changes; None where it is installed."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (" with uncommitted changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None
