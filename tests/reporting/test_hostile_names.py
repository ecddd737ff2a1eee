"""Names with any character anywhere: one run whose groups have hostile names, and where each name ends up."""

import base64
import contextlib
import csv
import io
import json
import re
import warnings
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.figure import Figure

from jaxprune.cli import main
from jaxprune.data import from_arrays
from jaxprune.reporting import fonts
from jaxprune.reporting.contact_sheet import draw_contact_sheet
from jaxprune.reporting.count_tables import count_examples
from jaxprune.reporting.style import save_figure
from jaxprune.text import inert_cell, printable

NAMES = (
    "$10,000 to $14,999", ":smile:", r"Pa$$word $\frac{1}{", "[/b] [bold]x[/bold] [male]", "<b>alert</b>",
    "<script>alert(1)</script>", "a\x1b[31mred", "nul\x00nul", "line\nbreak", "\u202eright to left", "日本 韓国",
    "😀 👩\u200d👧", "=cmd|' /C calc'!A0", "../../etc", "x" * 300, "\"quo'ted\" &amp;", "100 % %s",
    "{}{{ 7*7 }}{% raw %}", "back\\slash \\n", "_hidden", "inc_$0_$10k",
)  # fmt: skip
ATTRIBUTE = "[red]to$n$ <b>\x1b"
SMALL = ("--seeds", "1", "--train.epochs", "1", "--retrain.epochs", "1", "--model.hidden", "8",
         "--prune.sparsities", "0.9", "--retrain.methods", "none", "--theory.max_iterations", "2")  # fmt: skip
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Made(NamedTuple):
    """A finished run and what it printed."""

    out: Path
    printed: str


class Page(HTMLParser):
    """The text that a reader sees, and the elements that it is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts, self.elements, self.images = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append(tag)
        self.images += [value for name, value in attrs if tag == "img" and name == "src"]

    def handle_data(self, data) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    folder = tmp_path_factory.mktemp("names")
    rng, count = np.random.default_rng(0), 40 * len(NAMES)
    group = np.arange(count) % len(NAMES)
    x, y = rng.normal(size=(count, 3)), rng.integers(0, 2, count)
    labels = np.array(["no $x$ [/b]", "yes\x1b"])
    source = folder / "my [data] (1) ü.npz"
    np.savez(source, x=x, y=y, y_names=labels, **{ATTRIBUTE: group, f"{ATTRIBUTE}_names": np.array(NAMES)})
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        assert main(["run", "--data.name", source.name, *SMALL]) == 0
    return Made(folder / "runs" / "my [data] (1) ü", printed.getvalue())


def texts_of(figure: Path) -> list[str]:
    """The texts of an SVG file."""
    nodes = ET.parse(figure).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(node.itertext()).strip() for node in nodes]


def test_files_of_numbers_hold_the_exact_names(made) -> None:
    results = json.loads((made.out / "results.json").read_text())
    assert results["group_names"] == list(NAMES)
    assert results["settings"]["data"]["group"] == ATTRIBUTE
    for table in ("groups.csv", "harm.csv"):
        with (made.out / table).open(newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        assert {row["group"] for row in rows} == set(map(inert_cell, NAMES))
        assert "'=cmd|' /C calc'!A0" in {row["group"] for row in rows}
        assert all(np.isfinite(float(row["loss"])) for row in rows if table == "groups.csv")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_the_page_and_the_figures_show_the_name(made, name) -> None:
    shown = printable(name)
    texts = Page((made.out / "report.html").read_text(encoding="utf-8")).texts
    assert sum(text.replace("\u202f", " ") == shown for text in texts) >= 2
    drawn = shown if len(name) <= 30 else "x" * 20 + "…" + "x" * 9
    names = [text.partition("(n = ")[0].strip() for text in texts_of(made.out / "figures" / "accuracy.svg")]
    assert names.count(drawn) == 1


def test_names_run_nothing_and_leave_nothing_raw(made) -> None:
    text = (made.out / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.elements
    assert "49" not in page.texts  # 7*7
    assert not CONTROLS.search(text)
    assert not CONTROLS.search(made.printed)
    for name in ("\\x1b[31mred", "line\\nbreak", "\\u202eright", "[/b] [bold]x[/bold] [male]", ":smile:"):
        assert name in made.printed
    for image in page.images:
        assert b"<script" not in base64.b64decode(image.partition(",")[2])


def test_letters_without_a_font_are_told_of_on_one_line(made) -> None:
    from jaxprune.reporting.fonts import missing_letters

    lines = [line for line in made.printed.splitlines() if "no font here has the letters" in line]
    assert len(lines) == bool(missing_letters(["日本 韓国"]))
    assert "missing from font" not in made.printed


def test_the_folder_of_a_run_is_taken_again_by_its_name(made, capsys) -> None:
    before = {path.name for path in (made.out / "stages").iterdir()}
    with contextlib.chdir(made.out.parent.parent):
        assert main(["run", f"runs/{made.out.name}/config.toml", "--quiet"]) == 0
        assert main(["report", f"runs/{made.out.name}", "--quiet"]) == 0
        assert [path.name for path in Path("runs").iterdir()] == [made.out.name]
    assert {path.name for path in (made.out / "stages").iterdir()} == before
    assert capsys.readouterr().err == ""


def test_the_sheet_of_images_shows_names_as_they_are() -> None:
    rng = np.random.default_rng(0)
    names = [name for name in NAMES if len(name) < 40]
    group = np.repeat(np.arange(len(names)), 2)
    split = (rng.integers(0, 256, (len(group), 4, 4, 3), np.uint8), np.arange(len(group)) % 2, group)

    def sheet(group_names, group_by) -> bytes:
        labels = ("no\n", "yes")
        return draw_contact_sheet(
            from_arrays(split, split, split, label_names=labels, group_names=group_names, group_by=group_by)
        )

    assert sheet(names, ATTRIBUTE) == sheet([printable(name) for name in names], printable(ATTRIBUTE))
    tables = count_examples(from_arrays(split, split, split, label_names="ab", group_names=[*names[1:], " "]))
    shown = {row[0].strip() for rows in tables[0].blocks for row in rows}
    assert {"(no name)", *map(printable, names[1:])} <= shown


def test_letters_come_from_another_font_where_the_first_lacks_them(tmp_path, monkeypatch) -> None:
    """STIX, which comes with matplotlib too, has a letter that DejaVu Sans lacks."""
    letter = "\u2312"
    for further, missing in (((), letter), (("STIXGeneral",), "")):
        monkeypatch.setattr(fonts, "_FURTHER", further)
        fonts.families.cache_clear()
        assert fonts.missing_letters(["a b", f"x{letter}"]) == missing
        assert ("STIX" in fonts.font_file(letter)) == (not missing)

        def make() -> Figure:
            figure = Figure()
            figure.suptitle(f"{letter} $x^2$")
            return figure

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert save_figure(f"title-{len(further)}", make, tmp_path)
        assert texts_of(tmp_path / f"title-{len(further)}.svg") == [f"{letter} $x^2$"]
    fonts.families.cache_clear()
    assert (tmp_path / "title-0.png").read_bytes() != (tmp_path / "title-1.png").read_bytes()
