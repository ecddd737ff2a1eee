"""Runs that are killed at any change of the file system end, run again, with the same bits and nothing left over."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from locations import SUPPORT

SCRIPT = SUPPORT / "killing.py"


def kills(folder: Path, copies: int, killed: int, **settings) -> dict:
    numbers = [str(copies), str(killed), json.dumps({name.replace("__", "."): v for name, v in settings.items()})]
    arguments = [sys.executable, str(SCRIPT), str(folder / "kills"), *numbers]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
def test_runs_killed_anywhere_end_with_the_same_bits_and_nothing_left_over(tmp_path) -> None:
    found = kills(tmp_path, 10, 2)
    assert found["failed"] == {}
    assert found["kills"] == 12
    assert found["changes"] > 300, "the hook sees few changes: the test shows little"


GRADUAL = {"prune__schedule": "gradual", "prune__schedule_options": ["every=2"], "prune__criterion": "taylor"}
ITERATIVE = {"prune__schedule": "iterative", "prune__criterion": "woodfisher", "retrain__rewind": 1}
RIGL = {"prune__schedule": "rigl", "prune__schedule_options": ["every=2"], "prune__allocation": "erk"}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(GRADUAL, id="gradual", marks=pytest.mark.slow),
        pytest.param(ITERATIVE, id="iterative", marks=pytest.mark.long),
        pytest.param(RIGL, id="rigl", marks=pytest.mark.long),
    ],
)
def test_killed_schedules_of_pruning_end_with_the_same_bits(tmp_path, settings) -> None:
    assert kills(tmp_path, 4, 1, **settings)["failed"] == {}


@pytest.mark.kills
def test_two_hundred_kills(tmp_path) -> None:
    found = kills(tmp_path, 190, 10)
    print(f"{found['kills'] - len(found['failed'])} of {found['kills']} kills, {found['changes']} changes")
    assert found["failed"] == {}
