"""The command line on small runs: what it writes, what it does not do twice, and how it refuses."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pytest

from jaxprune import config
from jaxprune.cli import main

SMALL = """
name = "small"
seeds = 2
[data]
name = "digits"
[model]
hidden = [12]
[train]
epochs = 3
batch_size = 128
learning_rate = 0.01
[prune]
sparsities = [0.5, 0.9]
[retrain]
epochs = 2
methods = ["none", "fair_both"]
[costs]
speed = false  # no two runs take the same time
"""


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="session")
def finished(small, tmp_path_factory) -> Path:
    """The folder of a finished run; tests that change it work on a copy."""
    out = tmp_path_factory.mktemp("runs") / "small"
    assert main(["run", str(small), "--out", str(out)]) == 0
    return out


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def stages(out: Path) -> dict[str, int]:
    """Stage -> when it was made."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "stages").iterdir()}


def arrays_of(stage: Path) -> dict[str, np.ndarray]:
    """The arrays of a stage's network, read with orbax alone."""
    import orbax.checkpoint as ocp

    found = ocp.StandardCheckpointer().restore((stage / "network" / "arrays").absolute())
    return {name: np.asarray(array) for name, array in found.items()}


def refused(capsys, *arguments: str) -> str:
    """The message of a command that fails with exit code 2 and one line."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("jaxprune: error: ")
    assert printed.count("\n") == 1
    return printed


@pytest.mark.versions
def test_the_output_folder_holds_everything(finished) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names >= {"report.html", "groups.csv", "summary.csv", "results.json", "config.toml", "environment.json"}
    figures = {path.name for path in (finished / "figures").iterdir()}
    for name in ("harm", "accuracy", "mitigation", "causes", "bound", "multipliers"):
        assert {f"{name}.svg", f"{name}.png"} <= figures
    assert not list(finished.rglob("*.partial"))
    assert not list(finished.rglob("*.tmp"))


@pytest.mark.versions
def test_groups_csv_is_tidy_and_agrees_with_results_json(finished) -> None:
    with (finished / "groups.csv").open() as f:
        rows = list(csv.DictReader(f))
    # (dense, fair_dense) + 2 sparsities x (pruned, none, fair_both), times 2 seeds, 2 splits, 10 groups
    assert len(rows) == (2 + 2 * 3) * 2 * 2 * 10
    keys = [tuple(row[k] for k in ("seed", "network", "sparsity", "split", "group")) for row in rows]
    assert len(set(keys)) == len(rows)
    results = json.loads((finished / "results.json").read_text())
    by_key = dict(zip(keys, rows, strict=True))
    networks = {network["key"]: network for network in results["networks"]}
    for audit in results["audits"]:
        for r, seed in enumerate(results["seeds"]):
            for g, group in enumerate(results["group_names"]):
                network = networks[audit["network"]]
                row = by_key[str(seed), network["name"], str(network["sparsity"]), audit["split"], group]
                assert float(row["loss"]) == pytest.approx(audit["loss"][r][g], abs=1e-6)
                dense = by_key[str(seed), "dense", "0.0", audit["split"], group]
                drop = float(row["loss"]) - float(dense["loss"])
                assert float(row["excessive_loss"]) == pytest.approx(drop, abs=1e-5)


@pytest.mark.versions
def test_metrics_follow_from_the_checkpoint_that_is_kept(finished) -> None:
    """Reads a pruned checkpoint with orbax alone and evaluates it in numpy: nothing of jaxprune's audit is used."""
    import orbax.checkpoint as ocp

    from jaxprune import data

    folder = next((finished / "stages").glob("pruned-magnitude-0.9-*")) / "network" / "arrays"
    arrays = {k: np.asarray(v) for k, v in ocp.StandardCheckpointer().restore(folder.absolute()).items()}
    kernels = [name for name in arrays if name.startswith("params/") and name.endswith("kernel")]
    for r in range(2):
        zeros = sum(int((arrays[name][r] == 0).sum()) for name in kernels)
        assert zeros == round(0.9 * sum(arrays[name][r].size for name in kernels))
    digits = data.load("digits")
    test = digits.test
    x = np.reshape(digits.normalise(test.x), (len(test.y), -1))
    hidden = np.maximum(x @ arrays["params/dense_0/kernel"][1] + arrays["params/dense_0/bias"][1], 0)
    logits = hidden @ arrays["params/dense_1/kernel"][1] + arrays["params/dense_1/bias"][1]
    results = json.loads((finished / "results.json").read_text())
    audit = next(a for a in results["audits"] if (a["network"], a["split"]) == ("pruned 0.9", "test"))
    assert audit["overall_accuracy"][1] == pytest.approx(float((logits.argmax(1) == test.y).mean()), abs=1e-6)


def test_the_config_is_resolved_and_reproduces_the_run(finished) -> None:
    settings = config.load(str(finished / "config.toml"))
    assert settings.data.group == "digit"
    assert settings.data.label == "digit"
    assert settings.model.hidden == (12,)
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["command"].startswith("jaxprune run")
    assert environment["devices"]
    assert environment["native_convolutions"] in (False, True)


def test_the_report_needs_no_other_file(finished) -> None:
    page = (finished / "report.html").read_text()
    for attribute in ("src=", "href="):
        for part in page.split(attribute)[1:]:
            assert part.startswith(('"data:', '"#')), part[:60]
    assert "url(" not in page
    assert "@import" not in page


@pytest.mark.versions
def test_a_second_run_does_no_work(copied, small, capsys) -> None:
    before = stages(copied)
    report = (copied / "report.html").stat().st_mtime_ns
    assert main(["run", str(small), "--out", str(copied)]) == 0
    assert stages(copied) == before
    assert (copied / "report.html").stat().st_mtime_ns == report
    assert not re.search(r"^ *(re)?training", capsys.readouterr().out, re.MULTILINE)


def test_another_sparsity_reuses_the_dense_training(copied, small) -> None:
    before = stages(copied)
    sparsities = ["--prune.sparsities", "0.5", "0.7"]
    assert main(["run", str(small), "--out", str(copied), *sparsities, "--retrain.methods", "none"]) == 0
    after = stages(copied)
    kept = [name for name in before if name.startswith(("dense", "pruned-magnitude-0.5", "naive-0.5"))]
    assert (
        sum(
            name.startswith(("outcomes-dense", "outcomes-pruned-magnitude-0.5", "outcomes-naive-0.5"))
            for name in before
        )
        == 3
    )
    assert len(kept) == 3
    assert all(after[name] == before[name] for name in kept)
    made = {name.rsplit("-", 1)[0] for name in set(after) - set(before)}
    networks = {"pruned-magnitude-0.7", "naive-0.7"}
    measured = {f"{kind}-{name}" for kind in ("outcomes", "costs") for name in networks}
    assert made == networks | measured | {"audit", "costs", "theory", "report"}
    with (copied / "groups.csv").open() as f:
        assert {row["sparsity"] for row in csv.DictReader(f)} == {"0.0", "0.5", "0.7"}


def test_a_missing_output_comes_back_without_training(copied, small) -> None:
    before = stages(copied)
    (copied / "report.html").unlink()
    assert main(["run", str(small), "--out", str(copied)]) == 0
    assert (copied / "report.html").is_file()
    assert stages(copied) == before


def test_report_is_written_again_from_the_folder_of_a_run(copied) -> None:
    before = stages(copied)
    assert main(["report", str(copied)]) == 0
    after = stages(copied)
    changed = {name.rsplit("-", 1)[0] for name in before if after[name] != before[name]}
    assert changed == {"report"}


def test_train_and_theory_stop_where_they_say(small, tmp_path) -> None:
    arguments = [str(small), "--out", str(tmp_path / "run"), "--retrain.methods", "none", "--quiet"]
    assert main(["train", *arguments]) == 0
    assert {name.rsplit("-", 1)[0] for name in stages(tmp_path / "run")} == {"dense"}
    assert main(["theory", *arguments, "--theory.measures", "cosines"]) == 0
    made = {name.rsplit("-", 1)[0] for name in stages(tmp_path / "run")}
    networks = {"dense", "pruned-magnitude-0.5", "pruned-magnitude-0.9"}
    measured = {f"outcomes-{name}" for name in networks}
    assert made == networks | measured | {"theory", "theory-cosines", "audit", "theory-page"}
    assert "The statements of the theory, checked" in (tmp_path / "run" / "theory" / "report.html").read_text()


def test_killed_runs_continue_and_end_with_the_same_bits(finished, small, tmp_path) -> None:
    """SIGKILL in the middle of the dense training, and again after it."""
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "jaxprune", "run", str(small), "--out", str(out), "--checkpoint-seconds", "0"]
    for landmark in ("stages/dense-*/checkpoints/epoch-00001/sha256.json", "stages/naive-0.5-*/stage.json"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not list(out.glob(landmark)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was still at work"
        assert not (out / "report.html").exists()
    # As a kill in the middle of saving would leave it: it must not become part of the stage.
    half = next((out / "stages").glob("naive-0.5-*")) / "network"
    half.mkdir(exist_ok=True)
    (half / "half").write_text("half")
    assert main(["run", str(small), "--out", str(out), "--quiet"]) == 0
    assert not list(out.rglob("half"))
    assert not list(out.rglob("checkpoints"))
    assert set(stages(out)) == set(stages(finished))
    for name in ("groups.csv", "summary.csv", "results.json"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.slow
def test_eight_devices_give_the_same_figures(finished, small, tmp_path) -> None:
    """Two seeds on eight devices: two for the replicas, four for each batch. Run again, it reads what it wrote."""
    out = tmp_path / "eight"
    command = [sys.executable, "-m", "jaxprune", "run", str(small), "--out", str(out), "--quiet"]
    eight = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    subprocess.run(command, env=eight, check=True, timeout=300)
    assert len(json.loads((out / "environment.json").read_text())["devices"]) == 8
    one, other = (json.loads((folder / "results.json").read_text()) for folder in (finished, out))
    for a, b in zip(one["audits"], other["audits"], strict=True):
        np.testing.assert_allclose(a["loss"], b["loss"], rtol=2e-3, atol=2e-3, err_msg=a["network"])
    np.testing.assert_allclose(one["theory"]["eigenvalue"], other["theory"]["eigenvalue"], rtol=2e-2)
    subprocess.run([*command, "--prune.sparsities", "0.7"], env=eight, check=True, timeout=300)


def test_a_diverging_training_names_step_seed_and_setting_and_keeps_the_last_good_state(
    small, tmp_path, capsys
) -> None:
    out = tmp_path / "diverged"
    rate = ["--train.optimizer", "sgd", "--train.learning_rate", "1e25"]
    message = refused(capsys, "run", str(small), "--out", str(out), *rate)
    for part in ("NaN or infinite at step", "of seed", "lower train.learning_rate (now 1e+25)", "last good state"):
        assert part in message
    kept = next((out / "stages").glob("dense-*/checkpoints/epoch-*"))
    assert str(kept) in message
    assert not (out / "report.html").exists()
    # The remedy works in the same folder.
    assert main(["train", str(small), "--out", str(out), "--retrain.methods", "none", "--quiet"]) == 0


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_checkpoint_is_named_and_computed_anew(copied, finished, small, capsys, damage) -> None:
    stage = next((copied / "stages").glob("dense-*"))
    victim = max((stage / "network").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    if damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:-7])
    else:
        victim.unlink()
    capsys.readouterr()
    assert main(["train", str(small), "--out", str(copied), "--retrain.methods", "none"]) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if str(victim) in line]
    assert len(warnings) == 1
    assert warnings[0].strip().startswith(f"warning: {victim} is {damage}")
    assert "dense is computed anew" in warnings[0]
    kept = arrays_of(finished / stage.relative_to(copied))
    for name, array in arrays_of(stage).items():
        np.testing.assert_array_equal(array, kept[name])


def test_a_folder_that_is_something_else_is_refused_and_left_alone(small, tmp_path, capsys) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert "is a file" in refused(capsys, "run", str(small), "--out", str(file))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("mine")
    assert "full of something else" in refused(capsys, "run", str(small), "--out", str(tmp_path / "letters"))
    assert [p.name for p in (tmp_path / "letters").iterdir()] == ["letter.txt"]
    assert "cannot be written" in refused(capsys, "run", str(small), "--out", str(file / "below"))
    if os.path.isdir("/proc"):
        assert "cannot be written" in refused(capsys, "run", str(small), "--out", "/proc/jaxprune")


def test_a_folder_in_use_is_refused(copied, small, capsys) -> None:
    with filelock.FileLock(copied / ".jaxprune-lock"):
        assert "in use by another run" in refused(capsys, "run", str(small), "--out", str(copied))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["rum"], ["unknown command 'rum'", "'run'"]),
        (["run", "--train.epoch", "3"], ["unknown flag 'train.epoch'", "'train.epochs'"]),
        (["run", "--train.epochs", "x"], ["train.epochs = 'x'", "integer"]),
        (["run", "--prune.sparsities", "0.5", "1.5"], ["prune.sparsities = 1.5"]),
        (["run", "--data.name", "adlut"], ["data.name", "unknown data set 'adlut'", "'adult'"]),
        (["run", "--data.group", "rcae"], ["data.group", "unknown group attribute 'rcae'", "'race'"]),
        (["run", "--data.label", "incme"], ["data.label", "'income'"]),
        (["run", "--model.name", "mpl"], ["model.name", "'mlp'"]),
        (["run", "--model.channels", "8"], ["model.channels", "mlp has no channels"]),
        (["run", "--model.name", "convnet"], ["convnet takes images"]),
        (["run", "--prune.criterion", "magnitud"], ["prune.criterion", "'magnitude'"]),
        (["run", "--prune.exclude", "dense_9*"], ["prune.exclude", "dense_0"]),
        (["run", "--mitigation.constraint", "equal"], ["mitigation.constraint", "'equal_loss'"]),
        (["run", "--data.imbalance", "0.5"], ["data.imbalance = 0.5"]),
        (["run", "nosuch.toml"], ["unknown config 'nosuch.toml'"]),
        (["run", "adult", "digits"], ["one argument too many"]),
        (["datasets", "adlut"], ["unknown data set 'adlut'"]),
        (["run", "--checkpoint-seconds", "soon"], ["checkpoint-seconds", "soon"]),
        (["run", "--checkpoint-seconds", "nan"], ["checkpoint-seconds", "nan"]),
        (["run", "--checkpoint-seconds", "-1"], ["checkpoint-seconds", "-1"]),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2_and_write_nothing(
    tmp_path, monkeypatch, capsys, arguments, parts
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused(capsys, *arguments)
    for part in parts:
        assert part in message
    assert list(tmp_path.iterdir()) == []


def test_bad_data_is_refused(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    n = 90
    rng = np.random.default_rng(0)
    good = {"x": rng.normal(size=(n, 3)), "y": np.arange(n) % 2, "town": np.arange(n) % 3}
    cases = {
        "nan": (good | {"x": np.where(np.arange(3 * n).reshape(n, 3) == 7, np.nan, good["x"])}, "NaN or infinite"),
        "inf": (good | {"x": np.where(np.arange(3 * n).reshape(n, 3) == 7, np.inf, good["x"])}, "NaN or infinite"),
        "label": (
            good | {"y": good["y"] - 1, "y_names": np.array(["no", "yes"])},
            "y runs from -1 to 0; the names are for 0 to 1",
        ),
        "group": (
            good | {"town": good["town"] + 1, "town_names": np.array(["a", "b", "c"])},
            "(codes that start at 1? subtract 1)",
        ),
        "empty": (good | {"town_names": np.array(["a", "b", "c", "d"])}, "group 'd' without examples"),
    }
    for name, (arrays, part) in cases.items():
        np.savez(f"{name}.npz", **arrays)
        message = refused(capsys, "run", "--data.name", f"{name}.npz")
        assert part in message, name
    assert {path.suffix for path in tmp_path.iterdir()} == {".npz"}


def test_lists(capsys) -> None:
    assert main(["datasets"]) == 0
    assert "adult" in capsys.readouterr().out
    assert main(["datasets", "adult", "--data.group", "race*sex"]) == 0
    assert "Other, Female" in capsys.readouterr().out
    assert main(["configs"]) == 0
    assert "digits" in capsys.readouterr().out
    assert main(["configs", "digits"]) == 0
    assert 'name = "digits"' in capsys.readouterr().out


@pytest.mark.parametrize("command", [["run"], ["compare", "compare_adult"], ["datasets", "prepare"]])
def test_a_failing_command_prints_nothing_on_stdout(command, tmp_path, capsys) -> None:
    """There was an empty line where the output is a pipe."""
    if command[0] == "datasets":
        arguments = [*command, "utkface", "--directory", str(tmp_path / "nowhere"), "--data.directory", str(tmp_path)]
    else:
        arguments = [*command, "--data.name", "nothing", "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1


def contents(folder: Path) -> dict[str, bytes]:
    """The files for readers at the top of a run."""
    files = [path for path in folder.rglob("*") if path.is_file() and "stages" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_published_files_that_were_changed_are_written_anew(copied, small, capsys) -> None:
    """A digit changed, a file truncated, one removed: in the folder for readers, then in the stage itself."""
    before = contents(copied)
    results = copied / "results.json"
    results.write_bytes(results.read_bytes().replace(b"0.1", b"0.2", 1))
    (copied / "groups.csv").write_bytes(before["groups.csv"][:-5])
    (copied / "figures" / "harm.svg").unlink()
    capsys.readouterr()
    assert main(["run", str(small), "--out", str(copied)]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "written anew" in line]
    assert len(told) == 1
    assert "and so were 2 more" in told[0]
    assert contents(copied) == before
    results.write_bytes(b"{}")
    assert main(["report", str(copied)]) == 0
    assert f"{results} was changed after it was written; written anew" in capsys.readouterr().out
    assert results.read_bytes() == before["results.json"]
    before = contents(copied)

    stage = next((copied / "stages").glob("report-*"))
    (stage / "results.json").write_bytes(results.read_bytes().replace(b"0.1", b"0.2", 1))
    assert main(["run", str(small), "--out", str(copied)]) == 0
    assert f"{stage / 'results.json'} is truncated or altered; report is computed anew" in capsys.readouterr().out
    assert contents(copied)["results.json"] == before["results.json"]


@pytest.mark.parametrize("damage", ["changed", "truncated", "removed"])
def test_a_run_given_as_its_folder_has_the_settings_it_was_made_with(copied, capsys, damage) -> None:
    config_file = copied / "config.toml"
    before = config_file.read_bytes()
    changed = {"changed": before.replace(b"epochs = 3", b"epochs = 4"), "truncated": before[: len(before) // 2]}
    if damage in changed:
        assert changed[damage] != before
        config_file.write_bytes(changed[damage])
    else:
        config_file.unlink()
    made = stages(copied)
    capsys.readouterr()
    assert main(["run", str(copied)]) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"warning: {config_file} was {'removed' if damage == 'removed' else 'changed'} after the run" in said
    assert config_file.read_bytes() == before
    assert stages(copied) == made
    aside = copied / "config.changed.toml"
    assert (aside.read_bytes() if aside.exists() else None) == changed.get(damage)


def test_values_without_values_are_computed_anew(copied, small, capsys) -> None:
    """An altered file with an altered seal that fits it: what cannot be read as values is not taken for them."""
    from jaxprune.files import seal

    stage = next((copied / "stages").glob("audit-*"))
    before = (stage / "values.json").read_bytes()
    shutil.rmtree(next((copied / "stages").glob("report-*")))
    (stage / "values.json").write_text("null")
    seal(stage)
    assert main(["run", str(small), "--out", str(copied)]) == 0
    assert f"{stage / 'values.json'} is truncated or altered; audit is computed anew" in capsys.readouterr().out
    assert (stage / "values.json").read_bytes() == before
