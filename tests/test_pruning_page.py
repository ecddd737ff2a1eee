"""The code of docs/pruning.md is run as it stands, and its tables name what there is."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jaxprune import cli, pruning

PATH = Path(__file__).parent.parent / "docs" / "pruning.md"
PAGE = PATH.read_text() if PATH.exists() else ""
EVIDENCE = {"activations": {"batch"}, "gradients": {"grads"}, "groups": {"num_groups"}, "masks": set()}

pytestmark = pytest.mark.skipif(not PAGE, reason="needs a checkout")


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE, re.S)


def table(first: str) -> dict[str, list[str]]:
    """First cell -> the other cells, of the table whose first column has this title."""
    lines = PAGE[PAGE.index(f"| {first} |") :].partition("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


def test_the_code_runs_and_prints_what_the_page_says(tmp_path):
    pytest.importorskip("equinox")
    code = "\n".join(blocks())
    # What a line prints is written behind it, or in lines of its own where it is in a loop.
    expected = re.findall(r"^(?:print\(.*\)  )?# (.*)$", code, re.M)
    assert len(expected) >= code.count("print(") > 5
    eight_devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        env=os.environ | eight_devices, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == expected


@pytest.mark.parametrize("command", re.findall(r"^(jaxprune run digits --prune.structure .*)$", PAGE, re.M))
def test_its_commands_of_channels_fit_the_network(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([*shlex.split(command)[1:], "--dry-run"]) == 0


def test_it_begins_with_five_lines_for_each_library():
    first = [line for line in blocks()[0].splitlines() if line]
    assert len(first) <= 5
    section = PAGE[PAGE.index("## In five lines") : PAGE.index("## Criteria")]
    assert re.findall(r"\*\*([\w ]+)\*\*:\n", section) == ["flax NNX", "flax Linen", "Equinox"]


def test_the_table_of_criteria_is_that_of_the_registry():
    rows = table("criterion")
    assert sorted(rows) == sorted(pruning.CRITERIA.names())
    for name, cells in rows.items():
        named = set(re.findall(r"`(\w+)`", cells[1]))
        needs = pruning.CRITERIA[name]().needs
        assert named == set().union(*(EVIDENCE.get(need, {need}) for need in needs)), name
        assert callable(getattr(pruning, name))


def test_the_tables_of_allocations_and_structures_are_those_of_the_registries():
    assert sorted(table("allocation")) == sorted(pruning.ALLOCATIONS.names())
    assert sorted(table("structure")) == sorted(pruning.STRUCTURES.names())


def test_every_name_of_the_library_exists():
    named = set(re.findall(r"\bpruning\.([a-z_]+)", PAGE)) - {"md"}
    assert [name for name in sorted(named) if not hasattr(pruning, name)] == []
