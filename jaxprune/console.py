"""Output on the terminal: the final table, lists of data sets."""

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxprune.cache import cache_folder
from jaxprune.config import Data
from jaxprune.errors import UserError
from jaxprune.progress import Display
from jaxprune.progress.pieces import short_clock
from jaxprune.terminal import PlainConsole
from jaxprune.text import printable

if TYPE_CHECKING:
    from jaxprune.data import Dataset, FolderReport
    from jaxprune.pipeline import JobResult, Planned
    from jaxprune.reporting.count_tables import CountTable


def start_jax() -> None:
    """Set up jax for the command line.

    Compiled programs are kept on disk, so that the next run need not compile.
    """
    import jax

    if not getattr(jax.config, "jax_compilation_cache_dir", None):
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR") or cache_folder("xla")  # set after jax was imported
        jax.config.update("jax_compilation_cache_dir", None if cache is None else str(cache))
    # What goes wrong in their threads is raised as well, and told on one line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def conclude(console: Console, result: "JobResult") -> None:
    """Print the short table, the verdict and the path of the report."""
    from jaxprune.reporting.printable_names import drawn
    from jaxprune.reporting.reports import PAGES
    from jaxprune.reporting.terminal import terminal_table

    if result.results is not None:
        page, results = PAGES[result.kind], drawn(result.results)
        if table := page.short(results):
            console.print(terminal_table(table), "")
        for sentence in page.conclusion(results):
            console.print(sentence, soft_wrap=True)
        _note_few_seeds(console, len(results.seeds))
        console.print(f"report: {result.page}", soft_wrap=True)
    else:
        for name, folder in result.made.items():
            console.print(f"{name}: {folder}", soft_wrap=True)
    console.print(f"{result.seconds:.1f} s", style="dim")


def _note_few_seeds(console: Console, count: int) -> None:
    from jaxprune.quantities import few_seeds

    if note := few_seeds(count):
        console.print(note, soft_wrap=True)


def show_plan(plan: Sequence["Planned"], out: Path) -> None:
    """Print the stages of a job, those done, and the time left.

    Args:
      plan: The stages in the order of the work.
      out: The output folder, which need not be there.
    """
    from jaxprune.numbers import plural

    console = PlainConsole()
    for planned in plan:
        about = f"about {short_clock(planned.seconds)}" if planned.seconds else ""
        line = f"{'done' if planned.done else 'to do':<6} {planned.stage.address:<48} {about}"
        console.print(line.rstrip(), soft_wrap=True)
    todo = [planned for planned in plan if not planned.done]
    told = [planned.seconds for planned in todo if planned.seconds is not None]
    console.print(
        f"{plural(len(plan), 'stage')} in {out / 'stages'}: {len(plan) - len(todo)} done, {len(todo)} to do",
        soft_wrap=True,
    )
    if told:
        of = "" if len(told) == len(todo) else f" for {len(told)} of these {len(todo)}"
        console.print(f"about {short_clock(sum(told))}{of}, by the time that such stages took in this folder")
    elif todo:
        console.print("no estimate of the time: no such stage is done in this folder")


def list_datasets(settings: Data) -> None:
    """Print the data sets that load by name, and the others' source."""
    from jaxprune.data import CATALOGUE, installed_sets, prepared_sets
    from jaxprune.data.sources.catalogue import FROM_FILES, FROM_TABLE, FROM_TENSORFLOW
    from jaxprune.data.sources.tfds import data_directory

    console = _wide_console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("name", "licence", "examples", "MB", "groups", "how to get it"):
        table.add_column(
            heading, justify="right" if heading in ("examples", "MB") else "left", no_wrap=heading == "name"
        )
    prepared = prepared_sets(settings.directory or "")
    for name, entry in {**CATALOGUE, **installed_sets(), **prepared}.items():
        size = f"{entry.megabytes:,.0f}" if entry.megabytes >= 1 else f"{entry.megabytes:.2g}"
        count = f"{entry.examples:,}" if entry.examples else "-"
        cells = (name, entry.licence, count, size if entry.megabytes else "-", entry.groups)
        table.add_row(*map(printable, cells), Text(printable(entry.how), style="bold" if name in prepared else ""))
    console.print(table, "")
    for number, command in enumerate((FROM_FILES, FROM_TABLE), 1):
        console.print(f"({number}) {command}", soft_wrap=True)
    console.print("(3) once, where TensorFlow is installed; the folder it makes can then be copied anywhere:")
    for line in FROM_TENSORFLOW.split("; "):
        console.print(line, soft_wrap=True)
    console.print("(4) CSV or Parquet: jaxprune run FILE.csv --data.label COLUMN --data.group COLUMN", soft_wrap=True)
    console.print("(5) numpy.savez('FILE.npz', x=..., y=..., race=...); docs/data.md says more; to stream it:")
    console.print("jaxprune datasets prepare NAME --npz FILE.npz", soft_wrap=True)
    folder = data_directory(settings.directory or "")
    console.print(f"Prepared sets are looked for in {folder} (--data.directory).", style="dim", soft_wrap=True)


def prepare_dataset(name: str, settings: Data, flags: Mapping[str, str | None]) -> None:
    """Build a data set from files or a table, and describe it.

    Raises:
      UserError: The set is none that can be built so, or the files are not fit.
    """
    from jaxprune.data import CATALOGUE
    from jaxprune.data.prepare import PUBLISHED, prepare_folder, prepare_npz
    from jaxprune.data.sources.tfds import data_directory, find_prepared

    destination = data_directory(settings.directory or "")
    source = Path(flags["directory"]) if flags["directory"] is not None else None
    if flags["npz"] is not None:
        for flag in ("directory", "table", "image-column", "columns", "split-column"):
            if flags[flag] is not None:
                raise UserError(f"--{flag} is about a folder of images; leave it out, or --npz")
        build = partial(prepare_npz, name, Path(flags["npz"]))
    elif flags["table"] is not None:
        columns = [column.strip() for column in (flags["columns"] or "").split(",") if column.strip()]
        build = partial(
            prepare_folder, name, source, Path(flags["table"]), columns=columns,
            image_column=flags["image-column"], split_column=flags["split-column"],
        )  # fmt: skip
    else:
        for flag in ("image-column", "columns", "split-column"):
            if flags[flag] is not None:
                raise UserError(f"--{flag} is about a table; give it with --table, or leave it out")
        if name not in PUBLISHED:
            how = f" ({CATALOGUE[name].how})" if name in CATALOGUE else ""
            raise UserError(
                f"datasets prepare: {name} is not built from published files{how}; {' and '.join(PUBLISHED)} "
                "are; for images of your own give a --table"
            )
        build = partial(PUBLISHED[name], source)
    with Display() as display:
        report = build(destination, progress=display)
    _tell(display.console, report, find_prepared(name, str(destination)))


def _tell(console: Console, report: "FolderReport", folder: Path | None) -> None:
    """Describe the contents of a folder of images."""
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
            console.print(f"{len(names):,} {what}{listed}", soft_wrap=True)
    if report.listed is not None:
        console.print(f"all that were left out are listed in {report.listed}", soft_wrap=True)
    if report.converted:
        console.print(f"{report.converted:,} were turned upright or given the colours of the others", soft_wrap=True)
    for column in report.left_out:
        console.print(f"column left out: {column}", soft_wrap=True)
    for warning in report.warnings:
        console.print(f"warning: {warning}", soft_wrap=True)


def show_dataset(loaded: "Dataset", sheet: str | None) -> None:
    """Describe one data set by split, group and label.

    A sheet of example images is written where one is asked for.

    Args:
      loaded: The data set.
      sheet: The PNG file of the sheet; None for none.

    Raises:
      UserError: A sheet is asked for and there are no images, or the file cannot be written.
    """
    from jaxprune.files import write_atomically
    from jaxprune.reporting import contact_sheet
    from jaxprune.reporting.count_tables import count_examples

    path = contact_sheet.check_path(loaded, sheet)
    console = _wide_console()
    for table in count_examples(loaded):
        console.print(Text(printable(table.title), style="bold"), _count_table(table), sep="\n")
    console.print(loaded.provenance, style="dim")
    for warning in loaded.warnings():
        console.print(f"warning: {warning}", soft_wrap=True)
    if path is None and contact_sheet.is_images(loaded):
        console.print("--sheet FILE.png draws a sheet of example images")
    if path is not None:
        try:
            write_atomically(path, contact_sheet.draw_contact_sheet(loaded))
        except OSError as error:
            raise UserError(f"--sheet: {path} cannot be written ({error.strerror}); give another place") from None
        console.print(f"examples of every group: {path}", soft_wrap=True)


def _count_table(found: "CountTable") -> Table:
    table = Table(pad_edge=False, box=SIMPLE_HEAD)
    for i, heading in enumerate(found.headings):
        table.add_column(Text(printable(heading)), justify="right" if i else "left")
    for rows in found.blocks:
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row), end_section=row is rows[-1])
    return table


def _wide_console() -> Console:
    """The terminal, or 100 columns for a file or a pipe."""
    console = PlainConsole()
    return console if console.is_terminal else PlainConsole(width=100)
