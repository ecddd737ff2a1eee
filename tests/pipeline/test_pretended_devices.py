"""Commands on pretended devices of a CPU: as many as there are threads once waited for each other for ever."""

import csv
import os
import subprocess
import sys

import pytest

from jaxprune import sharding

SMALL = """
name = "small"
seeds = 2
[data]
name = "synthetic"
sizes = [200, 60]
margins = [1.5, 0.4]
noise = [0.0]
[model]
hidden = [6]
[train]
epochs = 2
[prune]
sparsities = [0.9]
[retrain]
epochs = 1
methods = ["none"]
[theory]
max_iterations = 10
[choice]
dual_rates = [0.01]
"""


class Pretended:
    platform = "cpu"


@pytest.mark.parametrize(("threads", "devices", "at_work"), [(2, 2, 1), (2, 4, 3), (2, 8, 7), (4, 2, 3), (1, 1, 1)])
def test_one_thread_stays_free_of_loops(monkeypatch, threads, devices, at_work):
    monkeypatch.setenv("NPROC", str(threads))
    assert sharding._pretended_at_work([Pretended()] * devices) == at_work


def run(tmp_path, devices: int, *command: str) -> str:
    settings = tmp_path / "small.toml"
    settings.write_text(SMALL)
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "NPROC": "2",  # as many threads as on two cores
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-m", "jaxprune", command[0], str(settings), "--out", str(tmp_path / "out"), *command[1:]],
        env=environment, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


SLOW, LONG = pytest.mark.slow, pytest.mark.long


@pytest.mark.parametrize("devices", [2, *(pytest.param(n, marks=SLOW if n == 8 else LONG) for n in (1, 4, 8))])
def test_a_run_ends(tmp_path, devices):
    run(tmp_path, devices, "run", "--quiet")
    rows = list(csv.DictReader((tmp_path / "out" / "groups.csv").read_text().splitlines()))
    assert {row["network"] for row in rows} == {"dense", "pruned", "none"}


@pytest.mark.long
@pytest.mark.parametrize("devices", [1, 2, 4, 8])
@pytest.mark.parametrize("command", ["theory", "compare"])
def test_the_other_commands_end(tmp_path, devices, command):
    more = ("--retrain.methods", "equal_loss", "curvature") if command == "compare" else ()
    run(tmp_path, devices, command, "--quiet", *more)
    assert (tmp_path / "out" / command / "report.html").is_file()
