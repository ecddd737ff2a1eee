"""The page on results: its columns are those of the code, and its code runs."""

import re
from pathlib import Path

import pytest
from made_results import made_results

import jaxprune
from jaxprune import config
from jaxprune.pipeline import JobResult
from jaxprune.results import COLUMNS
from jaxprune.results.store import save
from jaxprune.results.tables import TABLES, write_csv

PAGE = Path(__file__).parents[2] / "docs" / "results.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="needs a checkout")


def code_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """The results made by hand as the files of a run in the working folder."""
    made, folder = made_results(), tmp_path / "runs" / "adult"
    folder.mkdir(parents=True)
    save(folder / "results.json", made)
    for name, rows in TABLES.items():
        write_csv(folder / f"{name}.csv", rows(made))
    monkeypatch.chdir(tmp_path)
    return made


@pytest.mark.parametrize("table", COLUMNS)
def test_every_column_is_explained(table) -> None:
    part = PAGE.read_text(encoding="utf-8").partition(f"### {table}.csv\n")[2].partition("###")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.M)
    assert dict(rows) == {name: text.replace("|", "\\|") for name, text in COLUMNS[table].items()}
    assert [name for name, _ in rows] == list(COLUMNS[table])


def test_the_code_that_loads_results_runs(saved) -> None:
    values: dict = {}
    exec(code_blocks()[0], values)
    assert values["network"].key == "none 0.9"
    assert jaxprune.results.load("runs/adult").group_names == saved.group_names


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_code_with_tables_runs(library, saved, monkeypatch) -> None:
    """Without the lines of the other library."""
    frames = pytest.importorskip(library)
    job = JobResult(Path("runs/adult"), config.load("adult", {}), "report", {}, saved, 1.0)
    monkeypatch.setattr(jaxprune, "run", lambda *_, **__: job, raising=False)
    other = "polars" if library == "pandas" else "pandas"
    for block in code_blocks()[1:]:
        exec("\n".join(line for line in block.splitlines() if other not in line), {})
    frame = frames.DataFrame(list(TABLES["groups"](saved)))
    assert list(frame.columns) == list(COLUMNS["groups"])


def test_the_tables_of_a_job_as_pandas(saved) -> None:
    pytest.importorskip("pandas")
    job = JobResult(Path("runs/adult"), config.load("adult", {}), "report", {}, saved, 1.0)
    frames = job.to_pandas()
    assert list(frames) == ["groups", "summary", "methods", "harm", "theory"]
    assert frames["theory"]["value"].dtype == float
