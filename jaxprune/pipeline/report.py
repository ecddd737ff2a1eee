"""The files of a report: results, tables, figures and the page."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxprune import __version__, config
from jaxprune.data import SPLITS, Grouping
from jaxprune.files import write_atomically
from jaxprune.models.conv import native
from jaxprune.pipeline.addresses import report_stage
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.plan import Plan
from jaxprune.pipeline.publishing import place_of, publish
from jaxprune.pipeline.store import Store
from jaxprune.progress import Progress
from jaxprune.reporting.fonts import missing_letters
from jaxprune.reporting.reports import PAGES, render_page
from jaxprune.results import TABLES, Results, TheoryResults, answer_of
from jaxprune.results import store as results_store
from jaxprune.results.costs import costs_from_json
from jaxprune.results.records import Grouped
from jaxprune.results.store import grouped_from_json, network_from_json
from jaxprune.results.tables import write_csv

Plain = Mapping[str, Any]
_LETTERS_NAMED = 10  # of those that no font has


def gather(experiment: Experiment, audit: Plain, theory: Plain | None, measures: Plain | None, costs: Plain) -> Results:
    """The results of a job from the values of its measuring stages."""
    dataset = experiment.dataset
    commonest = np.bincount(dataset.train.y).argmax()
    audits = audit["audits"]
    by_grouping = {g.name: _grouped(g, audits[g.name]) for g in experiment.groupings if g.name in audits}
    primary = by_grouping.pop(dataset.primary.name)
    return Results(
        settings=experiment.settings.model_dump(mode="json"),
        provenance=dataset.provenance,
        label_names=list(dataset.label_names),
        seeds=experiment.seeds,
        majority={split: float(np.mean(dataset.split(split).y == commonest)) for split in SPLITS},
        networks=tuple(network_from_json(plain) for plain in audit["networks"]),
        group_names=primary.group_names,
        group_sizes=primary.group_sizes,
        warnings=dataset.warnings(),
        audits=primary.audits,
        further=by_grouping,
        theory=None if theory is None else _theory(theory, dataset.group_sizes(theory["split"])),
        measures=measures,
        costs={key: costs_from_json(plain) for key, plain in costs.items()},
    )


def _grouped(grouping: Grouping, audits: Sequence[Plain]) -> Grouped:
    return grouped_from_json(
        {
            "group_names": list(grouping.group_names),
            "group_sizes": {split: grouping.sizes(split).tolist() for split in SPLITS},
            "warnings": grouping.warnings(),
            "audits": audits,
        }
    )


def _theory(values: Plain, sizes: np.ndarray) -> TheoryResults:
    """Convert the theory's values to arrays.

    A group without examples has no gradient, so no norm of one either.
    """
    arrays = {name: np.array(value) for name, value in values.items() if name != "split"}
    norms = np.where(sizes > 0, arrays["gradient_norm"].astype(float), np.nan)
    return TheoryResults(values["split"], **arrays | {"gradient_norm": norms})


def write_report(experiment: Experiment, store: Store, plan: Plan, results: Results, command: str) -> None:
    """Write every file of a report into the folder of its stage."""
    _warn_of_letters(store.progress, results)
    store.progress.start("writing the report", len(PAGES[plan.report].sections) + 1)
    with store.workspace.writing(report_stage(experiment, plan)) as folder:
        environment = environment_of(command)
        results_store.save(folder / results_store.NAME, results, **_answers(results))
        write_atomically(folder / "config.toml", config.to_toml(experiment.settings))
        write_atomically(folder / "environment.json", json.dumps(environment, indent=2))
        for name, rows in TABLES.items():
            write_csv(folder / f"{name}.csv", rows(results))
        (folder / "figures").mkdir(exist_ok=True)
        page = render_page(plan.report, results, environment, folder / "figures", store.progress.advance)
        write_atomically(folder / "report.html", page)
        store.progress.advance()
    store.progress.finish()


def publish_report(experiment: Experiment, store: Store, plan: Plan) -> Path:
    """Bring a report that is written to its folder for readers.

    Returns:
      The folder.
    """
    grouping, root = experiment.dataset.group_by, store.workspace.root
    place = place_of(root, grouping, plan.report)
    stage = report_stage(experiment, plan)
    publish(store, stage, place, grouping)
    if plan.report == "theory-page" and not (place.parent / "report.html").exists():
        # The output folder can then be given in place of a config.
        write_atomically(place.parent / "config.toml", (place / "config.toml").read_bytes())
    return place


def _answers(results: Results) -> dict[str, Any]:
    """The answer in each grouping, where the harm was tested."""
    tested = results.pruned and results.tests(results.pruned, results.sparsities[0]) is not None
    if not tested:
        return {}
    answers = {name: answer_of(results.by(name)).to_json() for name in results.groupings}
    return {"answer": answers[results.grouping], "answers": answers}


def _warn_of_letters(progress: Progress, results: Results) -> None:
    """Warn of drawn names whose letters no installed font has."""
    names = [*results.group_names, *(name for one in results.further.values() for name in one.group_names)]
    if missing := missing_letters(names):
        more = "..." if len(missing) > _LETTERS_NAMED else ""
        progress.say(
            f"warning: no font here has the letters {missing[:_LETTERS_NAMED]}{more} of the names: PNG figures show "
            "boxes for them (install one, such as Noto Sans CJK); the page, SVG figures and tables have the names"
        )


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
    """The commit of the checkout, marked if changed; None if installed."""
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
