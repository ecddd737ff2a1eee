"""What the terminal shows: progress, the short table at the end, the lists of data sets."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from jaxprune.config import Data
from jaxprune.errors import UserError, unknown

if TYPE_CHECKING:
    from jaxprune.data import Dataset
    from jaxprune.pipeline import ComparisonResult, RunResult
    from jaxprune.reporting import Results
    from jaxprune.reporting.comparison import Comparison


def start_jax() -> None:
    """Sets up jax for the command line: compiled programs are kept on disk, so that the next run need not compile."""
    import jax

    if not (os.environ.get("JAX_COMPILATION_CACHE_DIR") or getattr(jax.config, "jax_compilation_cache_dir", None)):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxprune" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


class Display:
    """Progress bars in a terminal; one line for each piece of work where the output is a file or a pipe."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.bars = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=28), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("[dim]{task.fields[note]}"), console=self.console, transient=True,
        )  # fmt: skip
        self.task: TaskID | None = None
        self.description, self.note, self.begun = "", "", 0.0

    def __enter__(self) -> "Display":
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def start(self, description: str, total: int) -> None:
        """A bar appears."""
        self.description, self.note, self.begun = description, "", time.monotonic()
        self.task = self.bars.add_task(description, total=total, note="")

    def advance(self, note: str = "") -> None:
        """The bar moves on."""
        self.note = note
        if self.task is not None:
            self.bars.update(self.task, advance=1, note=note)

    def finish(self) -> None:
        """The bar becomes a line with the time it took."""
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None
            self.console.print(
                f"  {self.description:<62}{time.monotonic() - self.begun:6.1f} s  {self.note}", soft_wrap=True
            )

    def say(self, message: str) -> None:
        """A line that stays."""
        self.console.print(f"  {message}", soft_wrap=True)

    def conclude(self, result: "RunResult") -> None:
        """The short table and the path of the report."""
        if result.results is not None:
            self.console.print(summary_table(result.results), "")
            self.console.print(f"report: {result.out / 'report.html'}", soft_wrap=True)
        else:
            for name, folder in result.made.items():
                self.console.print(f"{name}: {folder}", soft_wrap=True)
        self.console.print(f"{result.seconds:.1f} s", style="dim")

    def conclude_comparison(self, result: "ComparisonResult") -> None:
        """The short table of the methods and the path of their report."""
        self.console.print(comparison_table(result.comparison), "")
        self.console.print(f"report: {result.out / 'report.html'}", soft_wrap=True)
        self.console.print(f"{result.seconds:.1f} s", style="dim")


def comparison_table(comparison: "Comparison") -> Table:
    """Every method at the headline sparsity on the test split, chosen on validation."""
    from jaxprune.reporting.comparison import MEASURES

    at = comparison.headline
    what = f"{comparison.settings['name']} by {comparison.settings['data']['group']}"
    seeds = f"{len(comparison.seeds)} seed{'s' * (len(comparison.seeds) > 1)}"
    table = Table(pad_edge=False, title=f"{what}, test split, {at:.0%} pruned, {seeds}", title_justify="left", box=None)
    table.add_column("method")
    columns = (
        "accuracy",
        "worst_group_accuracy",
        "accuracy_spread",
        "max_excess_accuracy_gap",
        "excessive_loss_spread",
    )
    for heading in ("accuracy %", "worst %", "spread %", "largest ψ %", "spread ξ"):
        table.add_column(heading, justify="right")
    for method in comparison.methods:
        if (method, at) in comparison.chosen:
            figures = comparison.figures(comparison.chosen[method, at], "test")
            scales = [(name, MEASURES[name][2]) for name in columns]
            cells = [_text(comparison.interval(s * figures[n]), 1 if s == 100 else 3) for n, s in scales]
            table.add_row(comparison.titles[method], *cells)
    return table


def summary_table(results: "Results") -> Table:
    """Accuracy, worst group and spreads of every model at the headline sparsity."""
    from jaxprune.reporting.findings import headline, interval
    from jaxprune.reporting.results import MODEL_NAMES
    from jaxprune.reporting.tables import overall_figures

    split, sparsity = headline(results)
    what = f"{results.settings['name']} by {results.settings['data']['group']}"
    seeds = f"{len(results.seeds)} seed{'s' * (len(results.seeds) > 1)}"
    table = Table(
        pad_edge=False, title=f"{what}, {split} split, {sparsity:.0%} pruned, {seeds}", title_justify="left", box=None
    )
    for heading in ("model", "accuracy %", "worst %", "spread %", "largest R", "hurt most"):
        table.add_column(heading, justify="left" if heading in ("model", "hurt most") else "right")
    for model, at in [("dense", 0.0), *((model, sparsity) for model in results.models)]:
        figures = overall_figures(results, model, at, split)
        harm = np.nanmean(results.audit(model, at, split).impact.excessive_loss, 0)
        cells = [
            _text(interval(results, values * scale), digits)
            for values, scale, digits in (
                (figures["accuracy"], 100, 1),
                (figures["worst_group_accuracy"], 100, 1),
                (figures["accuracy_spread"], 100, 1),
                (figures["max_excessive_loss"], 1, 3),
            )
        ]
        hurt = "" if model == "dense" else results.group_names[int(np.nanargmax(harm))]
        table.add_row(MODEL_NAMES[model], *cells, hurt)
    return table


def list_datasets() -> None:
    """The data sets that can be loaded by name."""
    from jaxprune.data import KNOWN_SETS, SOURCES
    from jaxprune.data.prepared import find_prepared

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "licence", "what it is"):
        table.add_column(heading)
    for name, source in SOURCES.items():
        table.add_row(name, source.licence, source.summary)
    for name, known in KNOWN_SETS.items():
        table.add_row(name, known.licence, f"{known.summary}; {'prepared' if find_prepared(name) else 'not prepared'}")
    table.add_row("FILE.npz", "yours", "your own arrays: x, y and one array for each attribute (docs/data.md)")
    Console(highlight=False).print(table)


def prepare_dataset(name: str, source: Path, settings: Data) -> None:
    """Builds a data set from its published files, and tells what was found.

    Raises:
      UserError: The set is none that can be built from files, or the files are not fit.
    """
    from jaxprune.data import prepare_utkface
    from jaxprune.data.prepared import data_directory, find_prepared

    if name != "utkface":
        raise unknown("data set to prepare", name, ["utkface"])
    destination = data_directory(settings.directory or "")
    if (there := find_prepared(name, str(destination))) is not None:
        raise UserError(f"{name} is prepared already, in {there}; delete that folder to build it anew")
    console = Console(highlight=False)
    with Progress(console=console, transient=True) as bars:
        task = bars.add_task(f"preparing {name}", total=None)
        report = prepare_utkface(source, destination, advance=lambda total: bars.update(task, total=total, advance=1))
    console.print(f"{report.used:,} images in {find_prepared(name, str(destination))}", soft_wrap=True)
    console.print(f"{report.repeats:,} are copies of another one; copies are on one side of every split")
    for what, names in (
        ("occur with different labels", report.contradictory),
        ("have names without labels and were left out", report.malformed),
    ):
        more = f", and {len(names) - 3} more" if len(names) > 3 else ""
        listed = f": {', '.join(names[:3])}{more}" if names else ""
        console.print(f"{len(names):,} {what}{listed}", soft_wrap=True)


def show_dataset(loaded: "Dataset") -> None:
    """Counts of one data set by split, group and label."""
    from jaxprune import data

    table = Table(title=f"{loaded.name}: {loaded.label_by} by {loaded.group_by}", title_justify="left")
    table.add_column("group")
    for split in data.SPLITS:
        table.add_column(split, justify="right")
    labels = () if loaded.label_by == loaded.group_by else loaded.label_names[:6]
    for label in labels:
        table.add_column(f"{label} %", justify="right")
    sizes = {split: loaded.group_sizes(split) for split in data.SPLITS}
    y = np.concatenate([loaded.split(split).y for split in data.SPLITS])
    group = np.concatenate([loaded.split(split).group for split in data.SPLITS])
    for g, name in enumerate(loaded.group_names):
        shares = np.bincount(y[group == g], minlength=loaded.num_classes) / max(1, np.sum(group == g))
        counts = [f"{sizes[split][g]:,}" for split in data.SPLITS]
        table.add_row(name, *counts, *(f"{100 * share:.1f}" for share in shares[: len(labels)]))
    console = Console(highlight=False)
    console.print(table)
    console.print(loaded.provenance, style="dim")
    for warning in loaded.warnings():
        console.print(f"warning: {warning}", soft_wrap=True)


def _text(found: Any, digits: int) -> str:
    half = "" if np.isnan(found.low) else f" ±{found.high - found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f}{half}"
