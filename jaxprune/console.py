"""What the terminal shows: progress, the short table at the end, the lists of data sets."""

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from jaxprune.config import Data
from jaxprune.errors import UserError

if TYPE_CHECKING:
    from jaxprune.data import Dataset, FolderReport
    from jaxprune.pipeline import ComparisonResult, RunResult
    from jaxprune.reporting.counts import CountTable


def start_jax() -> None:
    """Sets up jax for the command line: compiled programs are kept on disk, so that the next run need not compile."""
    import jax

    if not (os.environ.get("JAX_COMPILATION_CACHE_DIR") or getattr(jax.config, "jax_compilation_cache_dir", None)):
        with contextlib.suppress(RuntimeError):  # of a user without a home folder
            cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jaxprune" / "xla"
            jax.config.update("jax_compilation_cache_dir", str(cache))
    # What goes wrong in their threads is raised as well, and told on one line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)
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
        if self.bars.live.is_started:  # else it prints an empty line
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
        """The short table, the verdict and the path of the report."""
        from jaxprune.reporting.findings import after_retraining, verdict
        from jaxprune.reporting.terminal import summary_table

        if result.results is not None:
            self.console.print(summary_table(result.results), "")
            for sentence in (*verdict(result.results), *after_retraining(result.results)[:2]):
                self.console.print(sentence, markup=False, soft_wrap=True)
            self._note_few_seeds(len(result.results.seeds))
            self.console.print(f"report: {result.out / 'report.html'}", soft_wrap=True)
        else:
            for name, folder in result.made.items():
                self.console.print(f"{name}: {folder}", soft_wrap=True)
        self.console.print(f"{result.seconds:.1f} s", style="dim")

    def conclude_comparison(self, result: "ComparisonResult") -> None:
        """The short table of the methods and the path of their report."""
        from jaxprune.reporting.terminal import comparison_table

        self.console.print(comparison_table(result.comparison), "")
        self._note_few_seeds(len(result.comparison.seeds))
        self.console.print(f"report: {result.out / 'report.html'}", soft_wrap=True)
        self.console.print(f"{result.seconds:.1f} s", style="dim")

    def _note_few_seeds(self, count: int) -> None:
        from jaxprune.reporting.quantities import few_seeds

        if note := few_seeds(count):
            self.console.print(note, soft_wrap=True)


def list_datasets(settings: Data) -> None:
    """The data sets that can be loaded by name, and how to get the others."""
    from jaxprune.data import KNOWN_SETS, known, prepared_sets
    from jaxprune.data.prepared import data_directory

    console = _wide_console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("name", "licence", "examples", "MB", "groups", "how to get it"):
        table.add_column(
            heading, justify="right" if heading in ("examples", "MB") else "left", no_wrap=heading == "name"
        )
    prepared = prepared_sets(settings.directory or "")
    for name, entry in {**KNOWN_SETS, **prepared}.items():
        size = f"{entry.megabytes:,.0f}" if entry.megabytes >= 1 else f"{entry.megabytes:.2g}"
        count = f"{entry.examples:,}" if entry.examples else "-"
        how = f"[bold]{entry.how}[/bold]" if name in prepared else entry.how
        table.add_row(name, entry.licence, count, size if entry.megabytes else "-", entry.groups, how)
    console.print(table, "")
    for number, command in enumerate((known.FROM_FILES, known.FROM_TABLE), 1):
        console.print(f"({number}) {command}", markup=False, soft_wrap=True)
    console.print("(3) once, where TensorFlow is installed; the folder it makes can then be copied anywhere:")
    console.print(known.FROM_TENSORFLOW.replace("; ", "\n"), markup=False, soft_wrap=True)
    console.print("(4) numpy.savez('FILE.npz', x=..., y=..., race=...); docs/data.md says more; to stream it:")
    console.print("jaxprune datasets prepare NAME --npz FILE.npz", markup=False, soft_wrap=True)
    folder = data_directory(settings.directory or "")
    console.print(f"Prepared sets are looked for in {folder} (--data.directory).", style="dim", soft_wrap=True)


def prepare_dataset(name: str, settings: Data, flags: Mapping[str, str | None]) -> None:
    """Builds a data set from its published files or from a table, and tells what was found.

    Raises:
      UserError: The set is none that can be built so, or the files are not fit.
    """
    from jaxprune.data import KNOWN_SETS, folders
    from jaxprune.data.prepared import data_directory, find_prepared

    destination = data_directory(settings.directory or "")
    source = Path(flags["directory"] or "")
    if flags["npz"] is not None:
        for flag in ("directory", "table", "image-column", "columns", "split-column"):
            if flags[flag] is not None:
                raise UserError(f"--{flag} is about a folder of images; leave it out, or --npz")
        prepare = partial(folders.prepare_npz, name, Path(flags["npz"]))
    elif flags["table"] is not None:
        columns = [column.strip() for column in (flags["columns"] or "").split(",") if column.strip()]
        prepare = partial(
            folders.prepare_folder, name, source, Path(flags["table"]), columns=columns,
            image_column=flags["image-column"], split_column=flags["split-column"],
        )  # fmt: skip
    else:
        for flag in ("image-column", "columns", "split-column"):
            if flags[flag] is not None:
                raise UserError(f"--{flag} is about a table; give it with --table, or leave it out")
        if name not in folders.PUBLISHED:
            how = f" ({KNOWN_SETS[name].how})" if name in KNOWN_SETS else ""
            raise UserError(
                f"datasets prepare: {name} is not built from published files{how}; {' and '.join(folders.PUBLISHED)} "
                "are; for images of your own give a --table"
            )
        prepare = partial(folders.PUBLISHED[name], source)
    with Display() as display:
        report = prepare(destination, progress=display)
    _tell(display.console, report, find_prepared(name, str(destination)))


def _tell(console: Console, report: "FolderReport", folder: Path | None) -> None:
    """What was found in a folder of images."""
    console.print(f"{report.used:,} images in {folder}", soft_wrap=True)
    console.print(
        f"{report.repeats:,} are copies of another one; copies are on one side of every split", soft_wrap=True
    )
    for what, names, always in (
        ("occur with different labels", report.contradictory, True),
        ("have names without labels and were left out", report.malformed, False),
        ("of the training part were left out: they are copies of images in another split", report.crossing, False),
    ):
        if names or always:
            more = f", and {len(names) - 3:,} more" if len(names) > 3 else ""
            listed = f": {', '.join(names[:3])}{more}" if names else ""
            console.print(f"{len(names):,} {what}{listed}", markup=False, soft_wrap=True)
    if report.listed is not None:
        console.print(f"all that were left out are listed in {report.listed}", markup=False, soft_wrap=True)
    if report.converted:
        console.print(f"{report.converted:,} were turned upright or given the colours of the others", soft_wrap=True)
    for column in report.left_out:
        console.print(f"column left out: {column}", markup=False, soft_wrap=True)


def show_dataset(loaded: "Dataset", sheet: str | None) -> None:
    """Counts of one data set by split, group and label; for images also a sheet of examples, as a PNG file.

    Raises:
      UserError: A sheet is asked for and there are no images, or a file of that name is none of ours.
    """
    from jaxprune.files import write_atomically
    from jaxprune.reporting import sheets
    from jaxprune.reporting.counts import count_tables

    path = sheets.check_path(loaded, sheet)
    console = _wide_console()
    for table in count_tables(loaded):
        console.print(Text(table.title, style="bold"), _count_table(table), sep="\n")
    console.print(loaded.provenance, style="dim", markup=False)
    for warning in loaded.warnings():
        console.print(f"warning: {warning}", markup=False, soft_wrap=True)
    if path is None:
        console.print("rows of numbers: there are no images to show")
    else:
        try:
            write_atomically(path, sheets.contact_sheet(loaded))
        except OSError as error:
            raise UserError(f"--sheet: {path} cannot be written ({error.strerror}); give another place") from None
        console.print(f"examples of every group: {path}", markup=False, soft_wrap=True)


def _count_table(found: "CountTable") -> Table:
    table = Table(pad_edge=False, box=SIMPLE_HEAD)
    for i, heading in enumerate(found.headings):
        table.add_column(Text(heading), justify="right" if i else "left")
    for rows in found.blocks:
        for row in rows:
            table.add_row(*map(Text, row), end_section=row is rows[-1])
    return table


def _wide_console() -> Console:
    """The terminal, or 100 columns where the output is a file or a pipe."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=100)
