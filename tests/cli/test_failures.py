"""Errors of the operating system: one line, exit code 2, and the run goes on once they are mended."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxprune.cli import main
from jaxprune.cli.failures import describe
from jaxprune.files import opened

TRAINING = [
    "train", "--data.name", "synthetic", "--data.sizes", "90", "60", "--data.margins", "1", "0.5", "--data.noise", "0",
    "0.1", "--model.hidden", "3", "--seeds", "1", "--train.epochs", "3", "--train.batch_size", "32",
    "--retrain.methods", "none", "--checkpoint-seconds", "0",
]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EMFILE, "ulimit"),
        (errno.EROFS, "name another place"),
        (errno.EACCES, "name another place"),
        (errno.EIO, "disk or network"),
    ],
)
def test_an_error_says_what_where_and_what_to_do(number, remedy) -> None:
    line = describe(OSError(number, os.strerror(number), "runs/a/values.json"))
    assert line.startswith(f"runs/a/values.json: {os.strerror(number)}; ")
    assert remedy in line
    assert "\n" not in describe(OSError("two\nlines"))


def network(out: Path) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    folder = next((out / "stages").glob("dense-*")) / "network" / "arrays"
    return {name: np.asarray(a) for name, a in ocp.StandardCheckpointer().restore(folder.absolute()).items()}


def test_a_full_disk_is_one_line_and_the_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, capsys) -> None:
    """Full at one change after another; the last of them is in the second epoch or later."""
    assert main([*TRAINING, "--out", str(tmp_path / "whole"), "--quiet"]) == 0
    out, replace = tmp_path / "full", os.replace
    allocate = getattr(os, "posix_fallocate", None)
    capsys.readouterr()
    for room in (0, 1, 2, 5, 9):
        left = [room]

        def full(work, left=left):
            def write(*arguments):
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return work(*arguments)

            return write

        monkeypatch.setattr("jaxprune.files.os.replace", full(replace))
        monkeypatch.setattr("jaxprune.files.os.posix_fallocate", full(allocate), raising=False)
        assert main([*TRAINING, "--out", str(out), "--quiet"]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith(f"jaxprune: error: {out}")
        assert printed.err.endswith("No space left on device; make room and run the same command again: it continues\n")
        assert printed.err.count("\n") == 1
    monkeypatch.undo()
    assert [path.name for path in next((out / "stages").glob("dense-*")).glob("checkpoints/*")]
    assert main([*TRAINING, "--out", str(out)]) == 0
    assert "continuing after epoch" in capsys.readouterr().out
    expected, found = network(tmp_path / "whole"), network(out)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    names = [sorted(p.name for p in folder.glob("stages/*/*")) for folder in (out, tmp_path / "whole")]
    assert names[0] == names[1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_is_full_when_a_file_is_closed_is_named() -> None:
    with pytest.raises(OSError, match="No space left") as caught, opened(Path("/dev/full")) as file:
        file.write(b"x")
    assert caught.value.filename == "/dev/full"


@pytest.mark.parametrize("command", [["configs"], ["datasets"]])
def test_a_full_or_closed_stdout_is_no_traceback(command) -> None:
    program = [sys.executable, "-m", "jaxprune", *command]
    if Path("/dev/full").exists():
        with open("/dev/full", "w") as full:
            done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "stdout" in done.stderr
        assert "No space left" in done.stderr
    closed = " ".join([*program, ">&-"])
    done = subprocess.run(["sh", "-c", closed], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    read = subprocess.run(["sh", "-c", f"{' '.join(program)} | head -1"], capture_output=True, text=True, check=False)
    assert read.stderr == ""
    assert len(read.stdout.splitlines()) == 1
