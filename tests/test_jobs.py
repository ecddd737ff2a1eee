"""`jaxprune.run` and `jaxprune.compare` in this process, and what they return shows of itself."""

import json
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxprune
from jaxprune import jobs
from jaxprune.errors import UserError

SMALL = {
    "data.name": "synthetic", "data.sizes": (300, 80), "data.margins": (2.0, 1.0), "data.noise": (0.0,), "seeds": 2,
    "model.hidden": (4,), "train.epochs": 2, "prune.sparsities": (0.5,), "retrain.epochs": 1, "theory.examples": 20,
    "theory.max_iterations": 3, "retrain.methods": ("none",), "costs.speed": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def blocks():
    """A notebook, as far as progress needs it: the versions of each block that it shows."""
    shown: list[list[str]] = []

    def show(content: str):
        shown.append([content])
        return shown[-1].append

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxprune.progress.display.notebook_shell", lambda: object())
        patch.setattr("jaxprune.progress.display.show_html", show)
        yield shown


@pytest.fixture(scope="module")
def finished(blocks, tmp_path_factory):
    out = tmp_path_factory.mktemp("jobs") / "run"
    return jaxprune.run(None, SMALL, train={"learning_rate": np.float32(0.01)}, out=out)


def test_progress_in_a_notebook_is_one_block(finished, blocks, capsys) -> None:
    assert len(blocks) == 1
    shown = "".join(blocks[0])
    assert "training dense networks, 2 seeds" in shown
    assert '<progress max="2"' in shown
    assert "<progress" not in blocks[0][-1]
    assert capsys.readouterr().out == ""


def test_the_run_is_the_one_that_was_asked_for(finished) -> None:
    assert finished.settings.train.epochs == 2
    assert finished.settings.train.learning_rate == pytest.approx(0.01)
    command = json.loads((finished.out / "environment.json").read_text())["command"]
    assert command.startswith("jaxprune.run(None, {'data.name': 'synthetic', ")
    assert "'train.learning_rate': 0.0" in command
    assert command.endswith(f"out={str(finished.out)!r})")


def test_a_result_is_short(finished) -> None:
    text = repr(finished)
    assert len(text) < 400
    assert text.startswith("JobResult(synthetic by ")
    assert "2 seeds, 1 sparsity" in text
    assert str(finished.out / "report.html") in text or text.endswith("...")
    assert len(repr(finished.results)) < 400
    assert "array" not in repr(finished.results)


def test_a_result_shows_its_answer_and_table_in_a_notebook(finished) -> None:
    card = finished._repr_html_()
    assert len(card) < 6000
    table = re.search("<table>.*</table>", card)
    assert table is not None
    assert table[0].count("<tr>") == 1 + 3  # headings; dense, pruned, none
    metrics = finished.metrics("dense", split="test")
    assert f">{100 * np.mean(metrics.overall_accuracy):.1f}<" in table[0]
    assert f'href="{finished.out / "report.html"}"' in card


def test_the_report_is_shown_inline_apart_from_the_notebook(finished) -> None:
    frame = finished.report(height=500)._repr_html_()
    assert re.match(r'<div><iframe srcdoc="&lt;!doctype html', frame, re.IGNORECASE)
    assert "height: 500px" in frame
    assert frame.count('"') == 4, "the page is escaped"
    (missing := finished.report()).path = Path("nowhere.html")
    with pytest.raises(UserError, match=r"nowhere\.html cannot be read"):
        missing._repr_html_()


def test_metrics_know_the_names_of_their_groups(finished) -> None:
    metrics = finished.metrics("pruned", split="train")
    names = finished.results.group_names
    text = repr(metrics)
    assert "mean over 2 replicas" in text
    for g, name in enumerate(names):
        (line,) = [line for line in text.splitlines() if line.strip().startswith(name)]
        assert f"{metrics.loss[:, g].mean():.4f}" in line
    assert finished.metrics("dense").loss.shape == (2, len(names))
    with pytest.raises(UserError, match=r"unknown metrics 'pruned 0\.9 test'.*known: .*pruned 0\.5 test"):
        finished.metrics(sparsity=0.9)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, metrics)
    assert repr(doubled).splitlines()[2].split()[0] == "0", "numbers, once JAX has built it anew"


def test_tables_for_pandas(finished) -> None:
    pytest.importorskip("pandas")
    tables = finished.to_pandas()
    groups = tables["groups"]
    results = finished.results
    row = groups.query("network == 'pruned' and split == 'test' and seed == 1").iloc[1]
    assert row["group"] == results.group_names[1]
    assert row["loss"] == finished.metrics("pruned", split="test").loss[1, 1]
    assert len(tables["summary"]) == 3 * 2
    metrics = finished.metrics("dense").to_pandas()
    assert list(metrics.columns) == ["replica", "group", "size", "loss", "accuracy"]
    assert list(metrics["group"][:2]) == results.group_names[:2]


def test_without_pandas_the_way_to_it_is_told(finished, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        finished.to_pandas()
    with pytest.raises(UserError, match="pip install pandas"):
        finished.metrics("dense").to_pandas()


def test_the_folder_of_a_run_is_a_source_and_a_run_may_end_early(finished) -> None:
    trained = jaxprune.run(finished.out, until="train", progress="none")
    assert trained.made == {"dense": trained.made["dense"]}
    assert trained.made["dense"].parent.parent == finished.out
    assert trained.seconds < finished.seconds
    assert len(repr(trained)) < 400
    assert "dense" in trained._repr_html_()
    for ask in (trained.report, trained.to_pandas, trained.metrics):
        with pytest.raises(UserError, match='until="report"'):
            ask()


@pytest.mark.parametrize(
    ("arguments", "settings", "parts"),
    [
        (("adlut",), {}, ["unknown config 'adlut'", "'adult'"]),
        (("adult",), {"seeds": 0}, ["jaxprune.run: seeds = 0"]),
        (("adult",), {"epochs": 3}, ["jaxprune.run: unknown setting 'epochs'", "'train.epochs'"]),
        (("adult",), {"train": {"epoch": 3}}, ["unknown setting 'train.epoch'", "'train.epochs'"]),
        (("adult", {"prune.sparsities": 0.5}), {}, ["prune.sparsities = 0.5", "a list of values"]),
        (("adult",), {"until": "all"}, ["unknown stage 'all'", "known: audit, prune, report, theory, train"]),
        (("adult",), {"progress": "line"}, ["progress = 'line'", "auto, bars, lines, none"]),
    ],
)
def test_mistakes_are_one_line_and_make_nothing(arguments, settings, parts, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        jaxprune.run(*arguments, **settings)
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_warning_about_the_devices_is_shown(monkeypatch, capsys) -> None:
    monkeypatch.setattr("jaxprune.devices.check_devices", lambda: "this machine has a TPU, but JAX uses the CPU; ...")
    jobs._started("lines")
    assert capsys.readouterr().out == "  warning: this machine has a TPU, but JAX uses the CPU; ...\n"


def test_a_comparison_is_short_and_shows_itself(tmp_path, finished) -> None:
    again = jobs._flat({**SMALL, "retrain": {"epochs": 1, "methods": ["balanced"]}})
    result = jaxprune.compare(None, again, train={"learning_rate": np.float32(0.01)}, out=finished.out, progress="none")
    assert len(repr(result)) < 400
    assert repr(result).startswith("JobResult(synthetic by ")
    assert len(repr(result.results)) < 400
    assert result._repr_html_().count("<tr>") == 1 + 2
    assert result.report().path == finished.out / "compare" / "report.html"
    pytest.importorskip("pandas")
    methods = result.to_pandas()["methods"]
    assert set(methods["network"]) == {"balanced"}
    assert set(methods["baseline"]) == {"naive"}
    assert len(methods) == 3 * 6  # splits and measures
