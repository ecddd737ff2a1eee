"""`--dry-run`: the stages in the order of the work, which are done, and how long the others may take."""

import json
import os
from pathlib import Path

import pytest

from jaxprune import cli, config, pipeline
from jaxprune.errors import UserError
from jaxprune.files import seal
from jaxprune.pipeline.stage import Stage, Workspace

SMALL = {
    "data.name": "synthetic", "data.sizes": (300, 80), "data.margins": (2.0, 1.0), "data.noise": (0.0,), "seeds": 1,
    "model.hidden": (4,), "train.epochs": 1, "prune.sparsities": (0.5, 0.9), "retrain.epochs": 2,
    "retrain.methods": ("none", "fair_after"), "costs.speed": False,
}  # fmt: skip


def settings(**changes):
    return config.load(None, SMALL | changes)


def names(plan) -> list[str]:
    return [planned.stage.name for planned in plan]


def pretend(out: Path, stage: Stage, begun: float, ended: float) -> None:
    """A stage that is done and took this time."""
    folder = Workspace(out).folder(stage)
    folder.mkdir(parents=True)
    (folder / "stage.json").write_text(json.dumps(stage.description))
    seal(folder)
    for name, when in (("stage.json", begun), ("sha256.json", ended)):
        os.utime(folder / name, (when, when))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """The plan of a run that has not begun, by stage name."""
    out = tmp_path_factory.mktemp("plan") / "run"
    plan = pipeline.dry_run(settings(), out)
    assert not out.exists()
    return {planned.stage.name: planned for planned in plan}


def test_a_plan_names_every_stage_after_those_that_it_rests_on(untouched) -> None:
    names = ("pruned-magnitude", "naive", "configured")
    networks = {"dense", *(f"{name}-{s}" for name in names for s in ("0.5", "0.9"))}
    measured = {f"outcomes-{name}" for name in networks} | {f"costs-{name}" for name in networks - {"dense"}}
    assert set(untouched) == networks | measured | {"audit", "costs", "theory", "report"}
    order = list(untouched)
    for name, planned in untouched.items():
        assert not planned.done
        assert planned.seconds is None
        for parent in planned.stage.parents:
            assert order.index(parent.name) < order.index(name)


def test_a_plan_is_of_the_stages_that_a_run_makes(tmp_path) -> None:
    out = tmp_path / "run"
    for until in ("train", "prune"):
        plan = pipeline.dry_run(settings(), out, until=until)
        pipeline.run(settings(), out, until=until)
        made = {path.name for path in (out / "stages").iterdir()}
        assert {planned.stage.address for planned in plan} == made
    again = pipeline.dry_run(settings(), out, until="prune")
    assert all(planned.done and planned.seconds == 0 for planned in again)
    later = pipeline.dry_run(settings(), out)
    assert {p.stage.name for p in later if not p.done and not p.stage.name.startswith(("outcomes", "costs-"))} == {
        "audit",
        "costs",
        "theory",
        "report",
    }
    other = pipeline.dry_run(settings(**{"prune.sparsities": (0.7,)}), out, until="prune")
    assert {p.stage.name: p.done for p in other} == {
        "dense": True, "pruned-magnitude-0.7": False, "naive-0.7": False, "configured-0.7": False,
    }  # fmt: skip
    assert all(p.seconds is not None for p in other)


def test_a_done_stage_needs_nothing_else(untouched, tmp_path) -> None:
    pretend(tmp_path, untouched["report"].stage, 0, 1)
    assert names(pipeline.dry_run(settings(), tmp_path)) == ["report"]


def test_the_time_is_that_of_stages_of_the_kind_without_those_made_on_their_way(untouched, tmp_path) -> None:
    stage = {name: planned.stage for name, planned in untouched.items()}
    # The dense training of 10 s and the pruning lie within the first retraining, which took 20 s of its own.
    pretend(tmp_path, stage["naive-0.5"], 100, 131)
    pretend(tmp_path, stage["pruned-magnitude-0.5"], 100, 111)
    pretend(tmp_path, stage["dense"], 100.5, 110.5)
    pretend(tmp_path, stage["naive-0.9"], 140, 150)
    pretend(tmp_path, stage["pruned-magnitude-0.9"], 135, 138)
    changes = {"prune.sparsities": (0.7,), "retrain.methods": ("none",), "train.epochs": 5, "retrain.epochs": 6}
    plan = {p.stage.name: p for p in pipeline.dry_run(settings(**changes), tmp_path, until="prune")}
    assert plan["dense"].seconds == pytest.approx(5 * 10)
    assert plan["pruned-magnitude-0.7"].seconds == pytest.approx((1 + 3) / 2)
    assert plan["naive-0.7"].seconds == pytest.approx(3 * (20 + 10) / 2)
    (tmp_path / "stages" / stage["dense"].address / "stage.json").write_text("[")
    plan = {p.stage.name: p for p in pipeline.dry_run(settings(**changes), tmp_path, until="prune")}
    assert plan["dense"].seconds is None


def test_a_comparison_has_a_plan_too(tmp_path) -> None:
    plan = pipeline.dry_run(settings(**{"retrain.methods": ("balanced",)}), tmp_path / "out", until="compare")
    made = {f"{name}-{s}" for name in ("pruned-magnitude", "naive", "balanced") for s in ("0.5", "0.9")}
    networks = {"dense", *made}
    measured = {f"outcomes-{name}" for name in networks} | {f"costs-{name}" for name in made}
    assert set(names(plan)) == networks | measured | {"audit", "costs", "comparison-report"}
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_run_cannot_be_planned(tmp_path) -> None:
    with pytest.raises(UserError, match="prunes nothing"):
        pipeline.dry_run(settings(**{"prune.sparsities": (0.0,)}), tmp_path / "out")
    with pytest.raises(UserError, match="unknown data set"):
        pipeline.dry_run(config.load(None, {"data.name": "adlut"}), tmp_path / "out")


@pytest.mark.parametrize("command", ["run", "train", "theory", "compare", "report"])
def test_the_command_line_shows_the_plan_and_makes_nothing(command, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(config.to_toml(settings()))
    assert cli.main([command, "small.toml", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["to", "do"]
    assert any(line.startswith("to do  dense-") for line in lines)
    count = len(lines) - 2
    stages = "1 stage" if count == 1 else f"{count} stages"
    assert lines[-2] == f"{stages} in runs/synthetic/stages: 0 done, {count} to do"
    assert lines[-1] == "no estimate of the time: no such stage is done in this folder"
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]
