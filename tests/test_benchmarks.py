"""The benchmarks: that all of them record what they measure in one way, and that a toy one runs in a fresh clone."""

import json
import platform
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.name != "record.py")


@pytest.fixture
def record(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    import record

    monkeypatch.setattr(record, "FOLDER", tmp_path / "fresh" / "results")
    yield record
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_benchmarks_check_their_file_first(script) -> None:
    """Every benchmark checks its file first and writes by the one helper."""
    text = script.read_text()
    main = text[text.index("def main()") :]
    first, last = main.index("record.out_file("), main.index("record.write(out, ")
    for work in ("jax.", "data.load(", "timed(", "alternating(", "subprocess.", "real_images(", "measure("):
        assert not 0 <= main.find(work) < first, f"{work} comes before the folder is checked"
    assert first < last
    assert "write_text" not in text
    assert "json.dump(" not in text


def test_a_spread_is_that_of_numpy(record) -> None:
    values = [3.0, 1.0, 2.0, 10.0]
    expected = {"min": 1.0, "median": 2.5, "p90": np.quantile(values, 0.9), "max": 10.0, "n": 4}
    assert record.spread(values) == pytest.approx(expected)
    assert record.spread([7.0]) == {"min": 7.0, "median": 7.0, "p90": 7.0, "max": 7.0, "n": 1}


def test_a_folder_that_cannot_be_written_is_told_before_the_work(record, tmp_path) -> None:
    (tmp_path / "fresh").write_text("a file in its place")
    with pytest.raises(SystemExit, match=r"results: cannot be written \(.*\); nothing was measured"):
        record.out_file("any")


def test_compact_networks_are_timed_against_the_dense_one(record, monkeypatch, capsys) -> None:
    import compaction

    monkeypatch.setattr(compaction, "SHARES", (0.5,))
    monkeypatch.setattr(sys, "argv", ["compaction.py", "--quick"])
    compaction.main()
    figures = json.loads((record.FOLDER / "compaction-quick.json").read_text())["figures"]
    assert set(figures) == {"convnet", "analysis of resnet20"}
    assert 0.2 < figures["convnet"]["flops"]["0.5"] < 0.6
    for which in ("forward", "training step"):
        assert {"dense", "0.5"} <= figures["convnet"][which].keys()
        assert all(times["cpu"]["min"] > 0 for times in figures["convnet"][which].values())
    printed = capsys.readouterr().out
    assert "convnet, forward: dense" in printed
    assert "analysis of resnet20 beyond its tracing" in printed


def test_widths_are_exact_up_to_24_and_then_of_16(record) -> None:
    import compaction

    widths = [compaction.width_of(64, share) for share in (0.7, 0.5, 0.3, 0.01)]
    assert widths == [48, 32, 19, 1]
    assert compaction.width_of(30, 0.95) == 30  # 32 is more than there are


def test_a_toy_benchmark_writes_figures_and_circumstances(record, monkeypatch, capsys) -> None:
    import augmentation

    for name, value in {"EPOCHS": 2, "STEPS": 1, "BATCH": 4, "REPLICAS": 1, "SIDES": (8,)}.items():
        monkeypatch.setattr(augmentation, name, value)
    augmentation.main()
    assert "crop and flip" in capsys.readouterr().out
    written = json.loads((record.FOLDER / "augmentation.json").read_text())
    assert [path.name for path in record.FOLDER.iterdir()] == ["augmentation.json"]
    for times in written["figures"]["8x8"].values():
        assert times["n"] == 2
        assert 0 < times["min"] <= times["median"] <= times["p90"] <= times["max"]
    measured = written["measured"]
    assert set(measured["versions"]) == {"jax", "jaxlib", "flax", "numpy", "jaxprune", "python"}
    assert measured["versions"]["jax"] == jax.__version__
    assert measured["versions"]["python"] == platform.python_version()
    assert measured["device"]["platform"] == jax.devices()[0].platform
    assert set(measured) == {"versions", "device", "machine", "commit", "at"}
