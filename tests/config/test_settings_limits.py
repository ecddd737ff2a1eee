"""Settings that are too large, or no settings at all: refused on one line before any work."""

import os
import sys

import numpy as np
import pytest

from jaxprune import config, memory
from jaxprune.cli import main
from jaxprune.data import from_arrays
from jaxprune.errors import UserError

HUGE, LONG = "9" * 30, "x" * 300
SYNTHETIC = ("--data.name", "synthetic", "--data.sizes", "40", "60")
REFUSED = (
    (("--seeds", "1000000000"), "seeds: 1,000,000,000 networks would take"),
    (("--seeds", "2147483648"), "seeds = 2147483648: it should be at most 2147483647"),
    (("--seeds", HUGE), "at most 2147483647"),
    (("--seeds", "9" * 5000), "seeds = '9999"),
    (("--seeds", "٣"), "valid integer"),
    (("--seeds", "1_0"), "valid integer"),
    (("--seeds", " 1"), "valid integer"),
    (("--seeds", ""), "valid integer"),
    (("--seeds", "0"), "greater than or equal to 1"),
    (("--seeds", "1e3"), "valid integer"),
    (("--first_seed", "4294967296"), "at most 4294967295"),
    (("--first_seed", "4294967295", "--seeds", "2"), "go beyond 4294967295"),
    (("--first_seed", "-1"), "greater than or equal to 0"),
    (("--first_seed", HUGE), "at most 4294967295"),
    (("--train.epochs", "1" + "0" * 30), "train.epochs"),
    (("--train.epochs", "2000000000", "--train.batch_size", "4"), "steps of training"),
    (("--retrain.epochs", "2000000000", "--train.batch_size", "4"), "retrain.epochs"),
    (("--train.batch_size", "2000000000"), "train.batch_size: a batch would take"),
    (("--train.batch_size", HUGE), "at most 2147483647"),
    (("--train.learning_rate", "٠.١"), "valid number"),
    (("--train.learning_rate", "1e39"), "train.learning_rate = 1e+39: it should be at most 3e+38"),
    (("--train.learning_rate", "1e999"), "finite"),
    (("--train.learning_rate", "0"), "greater than 0"),
    (("--train.crop", HUGE), "at most 2147483647"),
    (("--model.hidden", "1000000", "1000000"), "model: one network would take 16 TB"),
    (("--model.hidden", "1000000000000"), "model.hidden"),
    (("--model.hidden", HUGE), "model.hidden"),
    (("--model.hidden", "-3"), "greater than 0"),
    (("--model.depth", "1000000000", "--model.name", "vit"), "model.depth"),
    (("--model.weights", LONG), "longer than file systems allow"),
    (("--prune.sparsities", "0"), "prune.sparsities: 0 prunes nothing"),
    (("--prune.sparsities",), "at least 1"),
    (("--prune.sparsities", "1"), "less than 1"),
    (("--data.sizes", "1000000000000", "10"), "data.sizes"),
    (("--data.sizes", "2000000000", "1999999999"), "data.sizes: 7,999,999,998 examples would take"),
    (("--data.sizes", "9"), "at least 10"),
    (("--data.margins", "1e30"), "data.margins"),
    (("--data.noise", "1e30"), "data.noise"),
    (("--data.imbalance", "1e308"), "data.imbalance = 1e+308"),
    (("--data.upsample_group", "n=40", "--data.upsample_times", "2000000000", "--data.sizes", "40", "50"), "upsample"),
    (("--data.min_group_size", HUGE), "data.min_group_size"),
    (("--data.name", LONG), "data.name"),
    (("--data.name", f"{LONG}.npz"), "data.name"),
    (("--data.name", "x/" * 3000), "data.name"),
    (("--data.name", "no\udcff.npz"), r"no\udcff.npz is not UTF-8"),
    (("--data.directory", LONG), "data.directory"),
    (("--theory.max_iterations", "1000000000"), "theory.max_iterations"),
    (("--theory.examples", HUGE), "theory.examples"),
    (("--theory.memory", HUGE), "theory.memory"),
    (("--theory.products", "1000000000"), "theory.products"),
    (("--theory.density_steps", "1000000000"), "theory.density_steps"),
    (("--mitigation.buffer", HUGE), "mitigation.buffer"),
    (("--mitigation.penalty", "1e308"), "mitigation.penalty"),
    (("--retrain.buffer", HUGE), "retrain.buffer"),
    (("--out", LONG), "--out"),
    (("--out", "a/" * 3000), "--out"),
    (("--out", "\udcff"), "UTF-8"),
    (("--checkpoint-seconds", "nan"), "checkpoint-seconds"),
    (("--checkpoint-seconds", "-1"), "checkpoint-seconds"),
    ((LONG,), "longer than file systems allow"),
    (("a\x1b[31m.toml",), r"a\x1b[31m.toml"),
)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty folder to work in, on a machine with 8 GB of memory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "available_bytes", lambda: 8 * 10**9)
    return tmp_path


def refused(capsys, *arguments: str) -> str:
    assert main(list(arguments)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("jaxprune: error: ")
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 1000
    return printed.err


@pytest.mark.parametrize(("arguments", "part"), REFUSED, ids=range(len(REFUSED)))
def test_absurd_settings_are_one_line_and_leave_nothing(nowhere, capsys, arguments, part) -> None:
    assert part in refused(capsys, "run", *arguments[: arguments[0][:2] != "--"], *SYNTHETIC, *arguments)
    assert list(nowhere.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("seeds = " + "9" * 5000, "not a TOML file"),
        ("seeds = 0x" + "f" * 5000, "more than 40 digits"),
        ("a = " + "[" * 1000 + "]" * 1000, "nested too deeply"),
        ("a = " + "[" * 100 + "]" * 100, "nested too deeply"),
        ("[" + ".".join("a" * 1000) + "]", "nested too deeply"),
        ('[data]\nname = "a\\u0000.npz"', "NUL"),
        ("[prune]\nsparsities = [0.5, 1e400]", "finite"),
    ],
)
def test_absurd_files_are_one_line(nowhere, capsys, text, part) -> None:
    (nowhere / "own.toml").write_text(text)
    assert part in refused(capsys, "run", "own.toml")
    assert [path.name for path in nowhere.iterdir()] == ["own.toml"]


def test_large_settings_that_fit_are_taken() -> None:
    settings = config.load(None, {"first_seed": 2**32 - 5, "train.epochs": 10**6, "train.batch_size": 10**6})
    assert (settings.first_seed, settings.seeds) == (2**32 - 5, 5)
    assert config.load(None, {"name": "../a b"}).name == "../a b"


def test_memory_is_read_from_the_system(tmp_path, monkeypatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2000 kB\n")
    (tmp_path / "group").write_text("max\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path / "group")
    assert memory.available_bytes() == 2_048_000
    (tmp_path / "group").write_text("1000000\n")
    assert memory.available_bytes() == 1_000_000
    with pytest.raises(UserError, match=r"seeds: x would take 2 MB of memory, and this machine has 1 MB free; less"):
        memory.check_fits("seeds", "x", 2e6, "less")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    (tmp_path / "group").unlink()
    assert memory.available_bytes() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.delattr(os, "sysconf")  # Windows
    assert memory.available_bytes() is None
    memory.check_fits("seeds", "x", 1e30, "less")


def test_two_groups_or_labels_of_one_name_are_refused() -> None:
    split = (np.zeros((4, 1)), np.arange(4) % 2, np.arange(4) % 2)
    with pytest.raises(UserError, match="two groups of town are called 'a'"):
        from_arrays(split, split, split, label_names="xy", group_names="aa", group_by="town")
    with pytest.raises(UserError, match="two labels of income are called 'x'"):
        from_arrays(split, split, split, label_names="xx", group_names="ab", label_by="income")


def test_outputs_that_are_not_finite_end_on_one_line(tmp_path, monkeypatch, capsys) -> None:
    """One step is taken at each rate, so that no loss tells that the parameters became too large."""
    monkeypatch.chdir(tmp_path)
    small = ("--seeds", "1", "--train.epochs", "1", "--retrain.epochs", "1", "--model.hidden", "8", "--quiet",
             "--prune.sparsities", "0.5", "--retrain.methods", "none", "--train.batch_size", "4096")  # fmt: skip
    message = refused(capsys, "run", *SYNTHETIC, *small, "--retrain.learning_rate", "1e38")
    assert "retrain: the network of seed 0 has outputs that are not finite" in message
    assert "lower retrain.learning_rate (now 1e+38)" in message


def test_text_beyond_the_terminal_is_printed_as_escapes(tmp_path, monkeypatch, capsys) -> None:
    import io

    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["configs"]) == 0
    print("λ")
    narrow.flush()
    assert narrow.buffer.getvalue().endswith(b"\\u03bb\n")
